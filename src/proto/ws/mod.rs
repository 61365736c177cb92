//! WebSocket frames and messages.

pub mod mask;
