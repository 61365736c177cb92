//! What storms are made of: a town of clients that drop and come back, some that stay, and rosters
//! that must be right afterwards.

pub(super) mod crowd;
pub(super) mod stayers;
pub(super) mod town;
