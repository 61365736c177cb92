//! The JSON messages inside WebSocket text messages, both ways: a payload becomes a
//! [`command::Request`], an [`event::Event`] or [`presence::PresenceFrame`] becomes a payload.
//!
//! Knows the shape of the messages and the rules of names. Frames, rights, limits of a
//! connection and everything that needs to know who is asking belong to others.

pub mod command;
pub mod error;
pub mod event;
pub mod json;
pub mod name;
pub mod position;
pub mod presence;
pub mod snapshot;
pub mod string;
