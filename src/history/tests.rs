//! The store against disks that lose, damage and refuse: what it says of channels afterwards is
//! compared with what was published.

mod damage;
mod disk;
mod ends;
mod model;
mod retention;
mod thread;
