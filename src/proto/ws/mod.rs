//! WebSocket frames and messages.

pub mod close;
pub mod frame;
mod header;
pub mod mask;
