//! Whether nothing is on its way between frozen shards, found out by asking all of them.
//!
//! Shards are asked one after the other, and messages move meanwhile. So what all have sent and
//! what all have received can be the same by chance: a message that one shard sends after it was
//! asked makes up for one that another has received before. In two waves that follow each other
//! the sums stay the same only if nothing was sent or received between the end of the first and
//! the beginning of the second, and then nothing was on its way.
//!
//! That holds as long as shards say something only because they have heard something. So a shard
//! that was asked writes to no socket until the wave is over, and none does between the last wave
//! and what follows it: a socket could say that its client is gone.

use crate::shard::steps::freeze::MeshCounts;

/// What was found in waves of questions. See the top of this file.
#[derive(Debug, Default)]
pub struct Waves {
    /// The sums of the wave before, if all shards were quiet in it and had received what all had
    /// sent.
    before: Option<MeshCounts>,
}

impl Waves {
    /// Takes the answers of all shards in one wave: whether each is
    /// [quiet](crate::shard::state::Shard::is_quiet), and its counts. Returns whether nothing is
    /// on its way, and nothing will be as long as all stay frozen.
    pub fn is_over(&mut self, answers: impl IntoIterator<Item = (bool, MeshCounts)>) -> bool {
        let (mut all_are_quiet, mut sum) = (true, MeshCounts::default());
        for (is_quiet, counts) in answers {
            all_are_quiet &= is_quiet;
            sum.sent += counts.sent;
            sum.received += counts.received;
        }
        let now = (all_are_quiet && sum.sent == sum.received).then_some(sum);
        let is_over = now.is_some() && now == self.before;
        self.before = now;
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(is_quiet: bool, sent: u64, received: u64) -> (bool, MeshCounts) {
        (is_quiet, MeshCounts { sent, received })
    }

    #[test]
    fn two_waves_have_to_agree() {
        let mut waves = Waves::default();
        let quiet = [answer(true, 5, 3), answer(true, 2, 4)];
        assert!(!waves.is_over(quiet));
        assert!(waves.is_over(quiet));
        assert!(waves.is_over(quiet));
    }

    #[test]
    fn a_message_that_makes_up_for_another_does_not_deceive() {
        let mut waves = Waves::default();
        // The first shard has sent one after it was asked, and the second one has received it.
        assert!(!waves.is_over([answer(true, 5, 5), answer(true, 4, 4)]));
        assert!(!waves.is_over([answer(true, 6, 5), answer(true, 4, 5)]));
        assert!(waves.is_over([answer(true, 6, 5), answer(true, 4, 5)]));
    }

    #[test]
    fn nothing_is_over_while_something_is_missing() {
        let mut waves = Waves::default();
        for _ in 0..2 {
            assert!(!waves.is_over([answer(true, 5, 4), answer(true, 0, 0)]));
            assert!(!waves.is_over([answer(false, 5, 5), answer(true, 0, 0)]));
        }
        assert!(!waves.is_over([answer(true, 5, 5), answer(true, 0, 0)]));
        assert!(waves.is_over([answer(true, 5, 5), answer(true, 0, 0)]));
    }
}
