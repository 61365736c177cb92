//! WebSocket frames and messages.
