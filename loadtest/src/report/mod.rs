//! What is left of a run: figures, their text, JSON and HTML forms, and comparisons.

pub(crate) mod compare;
pub(crate) mod figures;
pub(crate) mod html;
pub(crate) mod result;
pub(crate) mod summary;
pub(crate) mod svg;
pub(crate) mod units;
