//! The control plane.

pub mod record;
