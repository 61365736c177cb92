//! The control plane.

mod apps;
mod compile;
mod declared;
mod error;
mod input;
mod keys;
mod operation;
pub mod record;
mod registry;
mod secret;
pub mod store;

pub use declared::{Declared, DeclaredApp, DeclaredKey};
pub use error::ControlError;
pub use operation::{Operation, Outcome};
