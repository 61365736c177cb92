//! What is left of a run: figures, their text, JSON and HTML forms, and comparisons.

pub mod compare;
pub mod figures;
pub mod html;
pub mod result;
pub mod summary;
pub mod svg;
pub mod units;
