//! WebSocket frames and messages.

pub mod close;
mod fragments;
pub mod frame;
mod header;
pub mod mask;
pub mod message;

#[cfg(test)]
mod testing;
