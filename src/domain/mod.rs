//! Pure state: time is an argument.

pub mod connect_rate;
pub mod quota;
pub mod rights;
pub mod timer_wheel;
pub mod token_bucket;
pub mod usage;
