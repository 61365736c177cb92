//! `[[apps]]`: apps and keys that the configuration declares, in the words of the admin API
//! written in snake_case, and the secrets they name by file or variable.
//!
//! What a pattern, an action or an origin is, `proto` decides; here it is only asked. Bounds
//! are those of the admin API.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;

use super::error::ConfigError;
use super::given::Given;
use super::history;
use super::overrides::Environment;
use super::ranges::message_bucket;
use super::secret::{SecretBytes, SecretKind, secret};
use super::section::Section;
use crate::domain::declared::{DeclaredApp, DeclaredKey};
use crate::domain::history::HistorySettings;
use crate::domain::record::{
    AppRecord, AppStatus, DirectScope, FeedRecord, KeyRecord, KeyType, MessageLimits, PlanRecord,
    TurnRecord,
};
use crate::limits::{PLAN_COUNT_MAX, TOKEN_PATTERNS_MAX, TOKEN_PERMISSIONS_MAX};
use crate::proto::actions::Actions;
use crate::proto::origin::OriginPattern;
use crate::proto::pattern::Pattern;

/// Characters of an app's or a key's id.
const ID_CHARS: RangeInclusive<usize> = 1..=64;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 256;
/// Keys of one app.
const KEYS_PER_APP_MAX: usize = 50;
/// Channel patterns of a key.
const PATTERNS: RangeInclusive<usize> = 1..=TOKEN_PATTERNS_MAX;
/// Actions of a publishable key, which has no use without any.
const ACTIONS: RangeInclusive<usize> = 1..=TOKEN_PERMISSIONS_MAX;
/// Actions of a secret key: without any it may kick peers and read usage.
const SECRET_KEY_ACTIONS: RangeInclusive<usize> = 0..=TOKEN_PERMISSIONS_MAX;
/// Origins of a key.
const ORIGINS: RangeInclusive<usize> = 0..=100;
/// TURN URLs of an app.
const TURN_URLS: RangeInclusive<usize> = 1..=16;
/// Bytes of a TURN URL.
const TURN_URL_BYTES_MAX: usize = 512;
/// Life of a TURN credential, in seconds, up to 30 days.
const TURN_TTL_SEC: RangeInclusive<u64> = 1..=30 * 86_400;
/// Starts of a period, Unix time, before the year 9999.
const PERIOD_STARTS_UNIX: RangeInclusive<u64> = 0..=253_370_764_800;
/// Lengths of a period, in days.
const PERIOD_DAYS: RangeInclusive<u32> = 1..=3_660;
/// What a list of texts is, for errors.
const TEXTS: &str = "a list of texts";
const SECRET_KEY_PREFIX: &str = "sk_id_";
const PUBLISHABLE_KEY_PREFIX: &str = "pk_live_";
/// Connections or messages of a plan.
const COUNTS: RangeInclusive<u64> = 0..=PLAN_COUNT_MAX;

pub(super) fn resolve(
    sections: Vec<Section<'_>>,
    environment: &Environment,
    history: &HistorySettings,
) -> Result<Vec<DeclaredApp>, ConfigError> {
    let mut app_ids = BTreeSet::new();
    let mut key_ids = BTreeSet::new();
    let mut apps = Vec::with_capacity(sections.len());
    for mut section in sections {
        let app = app(&mut section, environment, &mut key_ids, history)?;
        let is_new = app_ids.insert(app.record.app_id.clone());
        if !is_new {
            let text = "another app has this id; give each its own".to_owned();
            section.refuse(&["id"], text)?;
        }
        let is_good = is_new && !section.has_fault("id");
        section.finish();
        if is_good {
            apps.push(app);
        }
    }
    Ok(apps)
}

fn app(
    section: &mut Section<'_>,
    environment: &Environment,
    key_ids: &mut BTreeSet<String>,
    history: &HistorySettings,
) -> Result<DeclaredApp, ConfigError> {
    let app_id = section.required(
        "id",
        "an id such as \"app_shop\", 1 to 64 of A-Z a-z 0-9 _ -",
        id,
        String::new,
    )?;
    let statuses = [
        ("active", AppStatus::Active),
        ("suspended", AppStatus::Suspended),
    ];
    let scopes = [
        ("app", DirectScope::App),
        ("shared-channel", DirectScope::SharedChannel),
    ];
    let turn = turn(section.section("turn")?, environment)?;
    let (turn, turn_secret) = turn.unzip();
    let record = AppRecord {
        name: name(section)?.unwrap_or_default(),
        status: section.choice("status", AppStatus::Active, &statuses)?,
        plan: plan(section.section("plan")?)?,
        direct_scope: section.choice("direct_scope", DirectScope::App, &scopes)?,
        turn,
        limits: message_limits(section.section("limits")?)?,
        feed: feed(section.section("feed")?)?,
        history: history::rules(section.sections("history")?, history)?,
        created_at: 0,
        app_id,
    };
    let mut keys = Vec::new();
    for mut key_section in section.sections("keys")? {
        let key = key(&mut key_section, environment, &record.app_id)?;
        if !key_ids.insert(key.record.key_id.clone()) {
            let text = "another key has this id; give each its own".to_owned();
            key_section.refuse(&["id"], text)?;
        }
        if keys.len() == KEYS_PER_APP_MAX {
            let text = format!("an app has at most {KEYS_PER_APP_MAX} keys; remove some");
            key_section.refuse(&["id"], text)?;
        }
        key_section.finish();
        keys.push(key);
    }
    Ok(DeclaredApp {
        record,
        turn_secret,
        keys,
    })
}

fn feed(mut section: Section<'_>) -> Result<FeedRecord, ConfigError> {
    let feed = FeedRecord {
        presence: section.boolean("presence", false)?,
        peers: section.boolean("peers", false)?,
    };
    section.finish();
    Ok(feed)
}

fn plan(mut section: Section<'_>) -> Result<PlanRecord, ConfigError> {
    // 0 is unlimited, as for every limit of this file.
    let limit = |section: &mut Section<'_>, key| {
        section
            .integer(key, 0, COUNTS)
            .map(|limit| Some(limit).filter(|limit| *limit > 0))
    };
    let start = |given: Given<'_>| {
        given
            .integer()
            .filter(|time| PERIOD_STARTS_UNIX.contains(time))
    };
    let days = |given: Given<'_>| {
        let days = u32::try_from(given.integer()?).ok()?;
        PERIOD_DAYS.contains(&days).then_some(days)
    };
    let days_expected = format!("an integer from 1 to {}", PERIOD_DAYS.end());
    let plan = PlanRecord {
        name: name(&mut section)?,
        max_concurrent_connections: limit(&mut section, "max_concurrent_connections")?,
        max_messages_per_period: limit(&mut section, "max_messages_per_period")?,
        overages_allowed: section.boolean("overages_allowed", false)?,
        overages_enabled: section.boolean("overages_enabled", false)?,
        period_start_unix: section.value("period_start_unix", "a Unix time", None, start)?,
        period_days: section.value("period_days", &days_expected, None, days)?,
    };
    if plan.period_start_unix.is_some() != plan.period_days.is_some() {
        let text = "period_start_unix and period_days go together; give both, or neither for \
                    calendar months";
        section.refuse(&["period_start_unix", "period_days"], text.to_owned())?;
    }
    section.finish();
    Ok(plan)
}

fn turn(
    mut section: Section<'_>,
    environment: &Environment,
) -> Result<Option<(TurnRecord, SecretBytes)>, ConfigError> {
    if !section.is_present() {
        return Ok(None);
    }
    let expected = "a turn:, turns:, stun: or stuns: URL such as \"turn:turn.example:3478\"";
    let urls = section
        .list("urls", expected, None, turn_url)?
        .unwrap_or_default();
    check_count(&section, "urls", urls.len(), TURN_URLS)?;
    let ttl_sec = section.integer("ttl_sec", 86_400, TURN_TTL_SEC)?;
    let names = ["secret_file", "secret_env"];
    let secret = secret(&mut section, names, SecretKind::Shared, environment)?;
    if !names.iter().any(|name| section.is_given(name)) {
        let text = "a shared secret is missing; give secret_file or secret_env".to_owned();
        section.refuse(&["urls"], text)?;
    }
    section.finish();
    Ok(secret.map(|secret| (TurnRecord { urls, ttl_sec }, secret)))
}

fn turn_url(given: Given<'_>) -> Option<String> {
    let url = given.text()?;
    let (scheme, rest) = url.split_once(':')?;
    let known = ["turn", "turns", "stun", "stuns"].contains(&scheme) && !rest.is_empty();
    let printable = url.bytes().all(|b| b.is_ascii_graphic());
    (known && printable && url.len() <= TURN_URL_BYTES_MAX).then(|| url.to_owned())
}

fn message_limits(mut section: Section<'_>) -> Result<Option<MessageLimits>, ConfigError> {
    if !section.is_present() {
        return Ok(None);
    }
    let (message_rate, message_burst) = message_bucket(&mut section)?;
    section.finish();
    Ok(Some(MessageLimits {
        message_rate,
        message_burst,
    }))
}

fn key(
    section: &mut Section<'_>,
    environment: &Environment,
    app_id: &str,
) -> Result<DeclaredKey, ConfigError> {
    let expected = "an id that begins with pk_live_ (publishable) or sk_id_ (secret), at most 64 \
                    of A-Z a-z 0-9 _ -";
    let stand_in = || (String::new(), KeyType::Secret);
    let (key_id, key_type) = section.required("id", expected, key_id, stand_in)?;
    let types = [
        ("secret", KeyType::Secret),
        ("publishable", KeyType::Publishable),
    ];
    if section.choice("type", key_type, &types)? != key_type {
        let text = format!("{key_id} is of the other type by its prefix; remove this line");
        section.refuse(&["type", "id"], text)?;
    }
    let actions = match key_type {
        KeyType::Secret => SECRET_KEY_ACTIONS,
        KeyType::Publishable => ACTIONS,
    };
    let record = KeyRecord {
        key_id,
        app_id: app_id.to_owned(),
        key_type,
        name: name(section)?.unwrap_or_default(),
        channel_patterns: texts(section, "channel_patterns", PATTERNS, |pattern| {
            Pattern::parse(pattern).map(drop)
        })?,
        actions: required_texts(section, "actions", actions, |action| {
            Actions::parse([action]).map(drop)
        })?,
        allowed_origins: texts(section, "allowed_origins", ORIGINS, |origin| {
            OriginPattern::parse(origin).map(drop)
        })?,
        auto_inject_turn: section.boolean("auto_inject_turn", true)?,
        created_at: 0,
    };
    let signing_names = ["signing_secret_file", "signing_secret_env"];
    let api_names = ["api_secret_file", "api_secret_env"];
    let signing_secret = secret(section, signing_names, SecretKind::Signing, environment)?;
    let api_secret = secret(section, api_names, SecretKind::Api, environment)?;
    check_secrets(
        section,
        key_type,
        signing_names.iter().any(|name| section.is_given(name)),
        api_names.iter().any(|name| section.is_given(name)),
    )?;
    if key_type == KeyType::Secret && !record.allowed_origins.is_empty() {
        let text = "only publishable keys are bound to origins; remove them here".to_owned();
        section.refuse(&["allowed_origins", "id"], text)?;
    }
    Ok(DeclaredKey {
        record,
        signing_secret,
        api_secret,
    })
}

/// Which secrets go with which type of key.
fn check_secrets(
    section: &Section<'_>,
    key_type: KeyType,
    signing: bool,
    api: bool,
) -> Result<(), ConfigError> {
    let (keys, text): (&[&str], _) = match (key_type, signing, api) {
        (KeyType::Secret, true, _) | (KeyType::Publishable, false, false) => return Ok(()),
        (KeyType::Secret, false, _) => (
            &["id"],
            "a secret key needs signing_secret_file or signing_secret_env",
        ),
        (KeyType::Publishable, ..) => (
            &[
                "signing_secret_file",
                "signing_secret_env",
                "api_secret_file",
                "api_secret_env",
                "id",
            ],
            "a publishable key has no secret; remove it, or make this an sk_id_ key",
        ),
    };
    section.refuse(keys, text.to_owned())
}

/// For people; `None` when it is not given.
fn name(section: &mut Section<'_>) -> Result<Option<String>, ConfigError> {
    let expected = format!("at most {NAME_BYTES_MAX} bytes without control characters");
    section.value("name", &expected, None, |given| {
        let name = given.text()?;
        let fits = name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
        fits.then(|| name.to_owned())
    })
}

/// An id of an app or a key.
fn id(given: Given<'_>) -> Option<String> {
    let id = given.text()?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (ID_CHARS.contains(&id.len()) && id.bytes().all(allowed)).then(|| id.to_owned())
}

fn key_id(given: Given<'_>) -> Option<(String, KeyType)> {
    let id = id(given)?;
    let longer_than = |prefix: &str| id.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty());
    if longer_than(SECRET_KEY_PREFIX) {
        Some((id, KeyType::Secret))
    } else if longer_than(PUBLISHABLE_KEY_PREFIX) {
        Some((id, KeyType::Publishable))
    } else {
        None
    }
}

/// A list of so many texts, each without a fault. It may be left out where none are enough.
fn texts<E: Display>(
    section: &mut Section<'_>,
    key: &'static str,
    counts: RangeInclusive<usize>,
    check: impl Fn(&str) -> Result<(), E>,
) -> Result<Vec<String>, ConfigError> {
    if !counts.contains(&0) {
        return required_texts(section, key, counts, check);
    }
    let texts = section.value(key, TEXTS, Some("[]"), text_list)?;
    checked_texts(section, key, texts.unwrap_or_default(), counts, check)
}

/// The same, and it may not be left out: an empty list must be meant.
fn required_texts<E: Display>(
    section: &mut Section<'_>,
    key: &'static str,
    counts: RangeInclusive<usize>,
    check: impl Fn(&str) -> Result<(), E>,
) -> Result<Vec<String>, ConfigError> {
    let texts = section.required(key, TEXTS, text_list, Vec::new)?;
    checked_texts(section, key, texts, counts, check)
}

fn text_list(given: Given<'_>) -> Option<Vec<String>> {
    let texts = given.items()?.into_iter();
    texts.map(|item| item.text().map(str::to_owned)).collect()
}

fn checked_texts<E: Display>(
    section: &Section<'_>,
    key: &'static str,
    texts: Vec<String>,
    counts: RangeInclusive<usize>,
    check: impl Fn(&str) -> Result<(), E>,
) -> Result<Vec<String>, ConfigError> {
    check_count(section, key, texts.len(), counts)?;
    for text in &texts {
        if let Err(cause) = check(text) {
            section.refuse(&[key], format!("{text:?}: {cause}"))?;
        }
    }
    Ok(texts)
}

fn check_count(
    section: &Section<'_>,
    key: &str,
    count: usize,
    counts: RangeInclusive<usize>,
) -> Result<(), ConfigError> {
    if counts.contains(&count) {
        return Ok(());
    }
    let (min, max) = counts.into_inner();
    let text = format!("{count} entries are given; give {min} to {max}");
    section.refuse(&[key], text)
}
