//! Which channels keep their publications, how many, and for how long: the rules of an app, and
//! what holds for the whole process.
//!
//! A rule is what operators write and see; [`HistoryRules`] are those of an app, checked and ready
//! to be asked. What is kept, and where, is not decided here. Always holds: an app has at most
//! [`RULES_MAX`] rules, each within its bounds, and each takes a channel that no earlier one does.

use std::fmt;
use std::ops::RangeInclusive;
use std::slice;

use serde::{Deserialize, Serialize};

use crate::proto::pattern::{CompiledPatterns, Pattern, all_contained};

/// Rules of one app.
pub const RULES_MAX: usize = 16;
/// Publications that a channel keeps.
pub const MESSAGES: RangeInclusive<u32> = 1..=100_000;
/// Bytes of frames that a channel keeps.
pub const BYTES: RangeInclusive<u32> = 1_024..=1 << 30;
/// Life of a publication, in seconds: up to a year.
pub const TTL_SEC: RangeInclusive<u32> = 1..=365 * 86_400;

/// Where a channel keeps its publications.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HistoryStore {
    /// In memory: gone with the process.
    #[default]
    Memory,
    /// On disk too.
    Disk,
}

/// What the channels of one pattern keep, as operators write and see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HistoryRule {
    /// The channels, in the pattern language of keys and tokens.
    pub pattern: String,
    /// Publications of each channel, at most.
    #[serde(default = "messages_default")]
    pub messages: u32,
    /// Bytes of their frames, at most.
    #[serde(default = "bytes_default")]
    pub bytes: u32,
    /// How long one is kept, in seconds.
    #[serde(default = "ttl_sec_default")]
    pub ttl_sec: u32,
    /// Where.
    #[serde(default)]
    pub store: HistoryStore,
}

impl HistoryRule {
    /// Returns the rule for a pattern that says nothing else.
    #[must_use]
    pub fn new(pattern: impl Into<String>) -> Self {
        Self {
            pattern: pattern.into(),
            messages: messages_default(),
            bytes: bytes_default(),
            ttl_sec: ttl_sec_default(),
            store: HistoryStore::default(),
        }
    }

    /// The first field that is out of its bounds.
    fn fault(&self) -> Option<(&'static str, String)> {
        let numbers = [
            ("messages", self.messages, MESSAGES),
            ("bytes", self.bytes, BYTES),
            ("ttlSec", self.ttl_sec, TTL_SEC),
        ];
        let outside = numbers
            .into_iter()
            .find(|(_, number, range)| !range.contains(number));
        outside.map(|(field, _, range)| {
            let text = format!("must be {} to {}", range.start(), range.end());
            (field, text)
        })
    }
}

fn messages_default() -> u32 {
    1_000
}

fn bytes_default() -> u32 {
    1 << 20
}

fn ttl_sec_default() -> u32 {
    3_600
}

/// The rules of an app. The first whose pattern matches a channel holds for it; without one a
/// channel keeps nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HistoryRules(Box<[(Pattern, HistoryRule)]>);

/// What is wrong with the rules of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryError {
    /// The place of the rule in the list.
    pub rule: usize,
    /// Its field, as the admin API calls it.
    pub field: &'static str,
    /// What is wrong with it.
    pub text: String,
}

impl fmt::Display for HistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "history[{}].{}: {}", self.rule, self.field, self.text)
    }
}

impl std::error::Error for HistoryError {}

impl HistoryRules {
    /// Checks the rules of an app.
    ///
    /// # Errors
    /// The first rule with a fault: there are too many, a pattern is none, a number is out of its
    /// bounds, or an earlier rule takes all channels of a later one.
    pub fn new(rules: &[HistoryRule]) -> Result<Self, HistoryError> {
        let mut checked: Vec<(Pattern, HistoryRule)> = Vec::with_capacity(rules.len());
        for (at, rule) in rules.iter().enumerate() {
            let fault = |field, text| HistoryError {
                rule: at,
                field,
                text,
            };
            if at == RULES_MAX {
                let text = format!("an app has at most {RULES_MAX} rules; remove some");
                return Err(fault("pattern", text));
            }
            let pattern = Pattern::parse(&rule.pattern);
            let pattern = pattern.map_err(|error| fault("pattern", error.to_string()))?;
            if let Some((field, text)) = rule.fault() {
                return Err(fault(field, text));
            }
            let earlier = checked.iter().map(|(pattern, _)| pattern.clone());
            let earlier: CompiledPatterns = earlier.collect();
            if all_contained(slice::from_ref(&pattern), &earlier) {
                let text = "an earlier rule takes every channel of this one, which so never \
                            holds; put this one first, or remove it";
                return Err(fault("pattern", text.to_owned()));
            }
            checked.push((pattern, rule.clone()));
        }
        Ok(Self(checked.into()))
    }

    /// Returns whether no channel keeps anything.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether some channels are kept on disk.
    #[must_use]
    pub fn keep_on_disk(&self) -> bool {
        self.0
            .iter()
            .any(|(_, rule)| rule.store == HistoryStore::Disk)
    }

    /// Returns the rule that holds for a channel.
    #[must_use]
    pub fn for_channel(&self, name: &str) -> Option<&HistoryRule> {
        self.place_for_channel(name).map(|(_, rule)| rule)
    }

    /// Returns the rule that holds for a channel, with its place in the list.
    #[must_use]
    pub fn place_for_channel(&self, name: &str) -> Option<(usize, &HistoryRule)> {
        let mut rules = self.0.iter().enumerate();
        let found = rules.find(|(_, (pattern, _))| pattern.matches(name));
        found.map(|(at, (_, rule))| (at, rule))
    }
}

/// When what is kept on disk is made durable, so that it survives a loss of power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HistoryFsync {
    /// When the kernel thinks so.
    Never,
    /// Within a second.
    #[default]
    Interval,
    /// At once: one sync for all that was published in a turn.
    Turn,
}

/// When a publication in a channel that is kept on disk is acked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HistoryAck {
    /// When it has its place in the order of its channel.
    #[default]
    Ordered,
    /// When it is stored too, as [`HistoryFsync`] says.
    Stored,
}

/// What holds for the history of all apps of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistorySettings {
    /// Bytes of everything that is kept in memory; above it the channel that was used least
    /// recently gives way.
    pub memory_bytes: usize,
    /// How long the `id` of a publication is remembered, in seconds.
    pub dedupe_sec: u32,
    /// Publications that one `subscribe` may ask for.
    pub replay_messages: u32,
    /// Bytes of them.
    pub replay_bytes: usize,
    /// When what is on disk is made durable.
    pub fsync: HistoryFsync,
    /// When publications that are kept on disk are acked.
    pub ack: HistoryAck,
}

impl Default for HistorySettings {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            dedupe_sec: 120,
            replay_messages: 1_000,
            replay_bytes: 1 << 20,
            fsync: HistoryFsync::default(),
            ack: HistoryAck::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(patterns: &[&str]) -> Result<HistoryRules, HistoryError> {
        let rules: Vec<_> = patterns.iter().map(|it| HistoryRule::new(*it)).collect();
        HistoryRules::new(&rules)
    }

    #[test]
    fn the_first_rule_that_matches_holds() {
        let rules = rules(&["chat/vip-*", "chat/**", "*"]).unwrap();
        let of = |name| rules.for_channel(name).map(|rule| rule.pattern.as_str());
        let place = rules.place_for_channel("room").map(|(at, _)| at);
        assert_eq!(place, Some(2));
        assert_eq!(of("chat/vip-1"), Some("chat/vip-*"));
        assert_eq!(of("chat/vip-1/a"), Some("chat/**"));
        assert_eq!(of("room"), Some("*"));
        assert_eq!(of("room/1"), None);
        assert!(HistoryRules::default().is_empty() && !rules.is_empty());
    }

    #[test]
    fn a_rule_that_never_holds_is_refused() {
        for patterns in [
            &["a", "a"][..],
            &["chat/**", "b", "chat/vip-*"],
            &["**", "*"],
        ] {
            let error = rules(patterns).unwrap_err();
            let last = patterns.len() - 1;
            assert_eq!((error.rule, error.field), (last, "pattern"), "{patterns:?}");
            assert!(error.text.contains("never"), "{error}");
        }
        assert!(rules(&["*", "**"]).is_ok());
    }

    #[test]
    fn rules_have_bounds() {
        let with = |change: fn(&mut HistoryRule)| {
            let mut rule = HistoryRule::new("a");
            change(&mut rule);
            HistoryRules::new(&[HistoryRule::new("b"), rule]).map_err(|error| error.to_string())
        };
        for (change, expected) in [
            (
                (|rule| rule.pattern.clear()) as fn(&mut HistoryRule),
                "history[1].pattern: a channel pattern must not be empty",
            ),
            (
                |rule| rule.messages = 0,
                "history[1].messages: must be 1 to 100000",
            ),
            (
                |rule| rule.messages = 100_001,
                "history[1].messages: must be 1 to 100000",
            ),
            (
                |rule| rule.bytes = 1_023,
                "history[1].bytes: must be 1024 to 1073741824",
            ),
            (
                |rule| rule.bytes = u32::MAX,
                "history[1].bytes: must be 1024 to 1073741824",
            ),
            (
                |rule| rule.ttl_sec = 0,
                "history[1].ttlSec: must be 1 to 31536000",
            ),
            (
                |rule| rule.ttl_sec = 31_536_001,
                "history[1].ttlSec: must be 1 to 31536000",
            ),
        ] {
            assert_eq!(with(change).unwrap_err(), expected);
        }
        let names: Vec<_> = (0..17).map(|number| format!("room-{number}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert!(rules(&names[..16]).is_ok());
        let error = rules(&names).unwrap_err();
        assert_eq!(error.rule, 16);
        assert!(
            error.text.starts_with("an app has at most 16 rules"),
            "{error}"
        );
    }
}
