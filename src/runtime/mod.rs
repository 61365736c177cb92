//! The only place that names glommio, sockets, disk and clock.

pub mod preflight;
