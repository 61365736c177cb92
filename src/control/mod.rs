//! The control plane.

pub mod record;
pub mod store;
