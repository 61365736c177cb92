//! WebSocket frames and messages.

pub mod close;
pub mod mask;
