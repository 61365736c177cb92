//! The channel-pattern language.
