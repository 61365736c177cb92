//! Connects per address.
