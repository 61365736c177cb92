//! Origin allow-lists.
