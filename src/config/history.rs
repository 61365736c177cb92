//! `[history]` and `[[apps.history]]`: which channels keep their publications, and what all of
//! them may keep together.
//!
//! What a rule may say, `domain` decides; here it is read, and compared with the rest of the file.

use std::ops::RangeInclusive;

use super::error::ConfigError;
use super::limits::delivery_bytes_max;
use super::model::LimitsConfig;
use super::section::Section;
use crate::domain::history::{
    BYTES, HistoryAck, HistoryFsync, HistoryRule, HistoryRules, HistorySettings, HistoryStore,
    MESSAGES, TTL_SEC,
};

/// Bytes of all that is kept in memory: up to more than a machine has.
const MEMORY_BYTES: RangeInclusive<usize> = 1 << 20..=1 << 40;
/// How long the `id` of a publication is remembered, in seconds: up to an hour.
const DEDUPE_SEC: RangeInclusive<u32> = 1..=3_600;
/// Publications of one replay.
const REPLAY_MESSAGES: RangeInclusive<u32> = 1..=100_000;
/// Bytes of one replay. A connection keeps so many beside its deliveries.
const REPLAY_BYTES: RangeInclusive<usize> = 1_024..=64 << 20;

/// Reads `[history]`.
pub(super) fn settings(
    mut section: Section<'_>,
    limits: &LimitsConfig,
) -> Result<HistorySettings, ConfigError> {
    let fsyncs = [
        ("never", HistoryFsync::Never),
        ("interval", HistoryFsync::Interval),
        ("turn", HistoryFsync::Turn),
    ];
    let acks = [
        ("ordered", HistoryAck::Ordered),
        ("stored", HistoryAck::Stored),
    ];
    let default = HistorySettings::default();
    let settings = HistorySettings {
        memory_bytes: section.integer("memory_bytes", default.memory_bytes, MEMORY_BYTES)?,
        dedupe_sec: section.integer("dedupe_sec", default.dedupe_sec, DEDUPE_SEC)?,
        replay_messages: section.integer(
            "replay_messages",
            default.replay_messages,
            REPLAY_MESSAGES,
        )?,
        replay_bytes: section.integer("replay_bytes", default.replay_bytes, REPLAY_BYTES)?,
        fsync: section.choice("fsync", default.fsync, &fsyncs)?,
        ack: section.choice("ack", default.ack, &acks)?,
    };
    let largest = delivery_bytes_max(limits);
    if settings.replay_bytes < largest {
        let text = format!(
            "a single message can have {largest} bytes, and could then not be replayed; make \
             history.replay_bytes at least that, or limits.message_bytes and \
             limits.rest_body_bytes smaller"
        );
        section.refuse(&["replay_bytes"], text)?;
    }
    section.finish();
    Ok(settings)
}

/// Reads the rules of an app.
pub(super) fn rules(
    sections: Vec<Section<'_>>,
    settings: &HistorySettings,
) -> Result<Vec<HistoryRule>, ConfigError> {
    let mut rules = Vec::with_capacity(sections.len());
    for mut section in sections {
        rules.push(rule(&mut section, settings)?);
        // Here, because it knows where the rule stands.
        if let Err(error) = HistoryRules::new(&rules) {
            rules.pop();
            section.refuse(&[key_of(error.field)], error.text)?;
        }
        section.finish();
    }
    Ok(rules)
}

fn rule(section: &mut Section<'_>, settings: &HistorySettings) -> Result<HistoryRule, ConfigError> {
    let expected = "a channel pattern such as \"chat/**\"";
    let pattern = section.required("pattern", expected, |given| given.text(), || "")?;
    let default = HistoryRule::new(pattern);
    let stores = [
        ("memory", HistoryStore::Memory),
        ("disk", HistoryStore::Disk),
    ];
    let rule = HistoryRule {
        messages: section.integer("messages", default.messages, MESSAGES)?,
        bytes: section.integer("bytes", default.bytes, BYTES)?,
        ttl_sec: section.integer("ttl_sec", default.ttl_sec, TTL_SEC)?,
        store: section.choice("store", default.store, &stores)?,
        ..default
    };
    if rule.bytes as usize > settings.memory_bytes {
        let text = format!(
            "a channel could keep {} bytes, and all of them together may keep {}; make it smaller, \
             or history.memory_bytes larger",
            rule.bytes, settings.memory_bytes
        );
        section.refuse(&["bytes", "pattern"], text)?;
    }
    Ok(rule)
}

/// The key of a field of the admin API.
fn key_of(field: &'static str) -> &'static str {
    match field {
        "ttlSec" => "ttl_sec",
        field => field,
    }
}
