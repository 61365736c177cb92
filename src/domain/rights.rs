//! Rights snapshots.
