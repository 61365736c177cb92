//! State without a protocol: rosters, rights, quotas, rates, timers. Time is an argument.

pub mod channel;
pub mod connect_rate;
pub mod declared;
pub mod peer;
pub mod peer_order;
pub mod peers;
pub mod presence;
pub mod quota;
pub mod record;
pub mod request_rate;
pub mod rights;
pub mod roster;
pub mod tabs;
pub mod throttle;
pub mod time;
pub mod timer_wheel;
pub mod token_bucket;
pub mod usage;
pub mod usage_report;
