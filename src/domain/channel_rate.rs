//! How often is published to a channel, over a sliding window.

/// Length of a window, in milliseconds.
const WINDOW_MS: u32 = 10_000;

/// Publications of a channel: all, and those of this window and the one before it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChannelRate {
    /// Since the channel is there.
    published: u64,
    /// The low bits of that at the beginning of the window.
    mark: u32,
    /// Publications in the window before.
    before: u32,
    /// When the window began, in milliseconds on the monotonic clock, which go round after 49 days.
    begins_ms: u32,
}

impl ChannelRate {
    /// Counts a publication.
    #[inline]
    pub fn count(&mut self, now_ms: u64) {
        if (now_ms as u32).wrapping_sub(self.begins_ms) >= WINDOW_MS {
            self.roll(now_ms as u32);
        }
        self.published += 1;
    }

    /// Publications since the channel is there.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published
    }

    /// The present window: when it began, on the clock of [`count`](Self::count), and the
    /// publications of the one before it and of this one.
    #[must_use]
    pub fn window(&self) -> (u32, u32, u32) {
        (self.begins_ms, self.before, self.here())
    }

    /// There were so many publications, of which these were in the present [window](Self::window).
    pub fn set_published(&mut self, published: u64, (begins_ms, before, here): (u32, u32, u32)) {
        *self = Self {
            published,
            mark: (published as u32).wrapping_sub(here),
            before,
            begins_ms,
        };
    }

    /// Publications in a thousand seconds, by those of the last ten.
    #[must_use]
    pub fn per_1000_sec(mut self, now_ms: u64) -> u64 {
        let now_ms = now_ms as u32;
        if now_ms.wrapping_sub(self.begins_ms) >= WINDOW_MS {
            self.roll(now_ms);
        }
        let gone_ms = u64::from(now_ms.wrapping_sub(self.begins_ms));
        let window_ms = u64::from(WINDOW_MS);
        let before = u64::from(self.before) * (window_ms - gone_ms);
        (u64::from(self.here()) * window_ms + before) * 1_000_000 / (window_ms * window_ms)
    }

    /// Publications in this window.
    fn here(&self) -> u32 {
        (self.published as u32).wrapping_sub(self.mark)
    }

    #[cold]
    fn roll(&mut self, now_ms: u32) {
        let gone_ms = now_ms.wrapping_sub(self.begins_ms);
        let is_next = gone_ms < 2 * WINDOW_MS;
        self.before = if is_next { self.here() } else { 0 };
        self.begins_ms = match is_next {
            true => self.begins_ms.wrapping_add(WINDOW_MS),
            false => now_ms,
        };
        self.mark = self.published as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_goes_on_with_the_same_rate() {
        let (mut rate, mut other) = (ChannelRate::default(), ChannelRate::default());
        for at_ms in (0..25_000).step_by(70) {
            rate.count(at_ms);
            other.set_published(rate.published(), rate.window());
            let found = other.per_1000_sec(at_ms + 30);
            assert_eq!(found, rate.per_1000_sec(at_ms + 30));
        }
    }

    #[test]
    fn a_steady_rate_is_found_from_the_second_window_on() {
        let mut rate = ChannelRate::default();
        // From a time at which the milliseconds go round.
        let start_ms = u64::from(u32::MAX) - 15_000;
        for at_ms in (0..40_000).step_by(100) {
            rate.count(start_ms + at_ms);
            if at_ms >= 20_000 {
                let found = rate.per_1000_sec(start_ms + at_ms);
                assert!((9_900..=10_100).contains(&found), "{found} at {at_ms}");
            }
        }
        assert_eq!(rate.published(), 400);
    }

    #[test]
    fn a_rate_ends_with_the_publications() {
        let mut rate = ChannelRate::default();
        let start_ms = 1_000_000;
        (0..50).for_each(|_| rate.count(start_ms));
        assert_eq!(rate.per_1000_sec(start_ms), 5_000);
        assert_eq!(rate.per_1000_sec(start_ms + 9_999), 5_000);
        assert_eq!(rate.per_1000_sec(start_ms + 15_000), 2_500);
        assert_eq!(rate.per_1000_sec(start_ms + 20_000), 0);
        rate.count(start_ms + 100_000);
        assert_eq!(rate.per_1000_sec(start_ms + 100_000), 100);
    }
}
