//! Work on many connections goes on, a portion of it in each turn.

use crate::shard::state::Shard;

impl Shard {
    /// Makes portions smaller: for simulations, where there are few connections.
    pub fn limit_portions(&mut self, portion: usize) {
        self.portions.portion = portion;
        self.portions.renew();
    }

    /// Does what is left of this turn's portions; the next turn has new ones.
    pub(in crate::shard) fn advance_portions(&mut self) {
        if self.portions.any() {
            self.advance_rights();
            self.advance_histories();
            self.advance_kicks();
            self.advance_drain();
            if !self.context.is_frozen {
                self.advance_overdue();
            }
        }
        self.portions.renew();
    }
}
