//! Pure state: time is an argument.

pub mod connect_rate;
pub mod rights;
pub mod timer_wheel;
pub mod token_bucket;
