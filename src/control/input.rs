//! What clients of the admin API send, as values: bodies merged into what is there, and every
//! field checked.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::ControlError;
use super::merge::Null::{Refused, Removes};
use super::merge::{Field, Object, check_new, check_patch, merge, object_of, read, split_fixed};
use crate::domain::history::{HistoryRule, HistoryRules};
use crate::domain::record::{
    AppRecord, AppStatus, DirectScope, FeedRecord, KeyRecord, KeyType, MessageLimits, PlanRecord,
};
use crate::limits::{PLAN_COUNT_MAX, RATE_MAX};
use crate::proto::actions::Actions;
use crate::proto::origin::OriginPattern;
use crate::proto::pattern::Pattern;

/// Bytes of a name.
const NAME_BYTES_MAX: usize = 256;
/// Channel patterns of a key; a token may carry as many.
const PATTERNS_MAX: usize = crate::limits::TOKEN_PATTERNS_MAX;
/// Entries of a key's `actions`.
const ACTIONS_MAX: usize = crate::limits::TOKEN_PERMISSIONS_MAX;
/// Origins of a key.
const ORIGINS_MAX: usize = 100;
/// TURN URLs of an app.
const TURN_URLS_MAX: usize = 16;
/// Bytes of a TURN URL or secret.
const TURN_TEXT_BYTES_MAX: usize = 512;
/// Longest life of a TURN credential, in seconds: 30 days.
const TURN_TTL_SEC_MAX: u64 = 30 * 86_400;
/// Longest period, in days.
const PERIOD_DAYS_MAX: u32 = 3_660;
/// Last second that the calendar knows, Unix time: the year 9999 begins.
const PERIOD_START_UNIX_MAX: u64 = 253_370_764_800;

/// The list of rules, which a patch replaces.
const HISTORY: &str = "history";
/// Every changeable field of an app.
const APP_FIELDS: &[Field] = &[
    ("name", Refused),
    ("status", Refused),
    ("plan", Refused),
    ("plan.name", Removes),
    ("plan.maxConcurrentConnections", Removes),
    ("plan.maxMessagesPerPeriod", Removes),
    ("plan.overagesAllowed", Refused),
    ("plan.overagesEnabled", Refused),
    ("plan.periodStartUnix", Removes),
    ("plan.periodDays", Removes),
    ("directScope", Refused),
    ("turn", Removes),
    ("turn.urls", Refused),
    ("turn.secret", Refused),
    ("turn.ttlSec", Refused),
    ("limits", Removes),
    ("limits.messageRate", Refused),
    ("limits.messageBurst", Refused),
    ("feed", Refused),
    ("feed.presence", Refused),
    ("feed.peers", Refused),
    (HISTORY, Refused),
];
/// Every changeable field of a key.
const KEY_FIELDS: &[Field] = &[
    ("name", Refused),
    ("channelPatterns", Refused),
    ("actions", Refused),
    ("allowedOrigins", Refused),
    ("autoInjectTurn", Refused),
];
/// What a new key says beside those.
const KEY_TYPE: Field = ("type", Refused);
/// The field of a rotation.
const ROTATION_FIELDS: &[Field] = &[("graceSeconds", Refused)];

/// The changeable fields of an app. Without `Debug`: it may carry a TURN secret.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct AppInput {
    /// A name for people.
    pub name: String,
    /// Whether its clients may connect.
    pub status: AppStatus,
    /// What it may use.
    pub plan: PlanRecord,
    /// Which peers a `send` may reach.
    pub direct_scope: DirectScope,
    /// TURN servers for `welcome`.
    pub turn: Option<TurnInput>,
    /// The app's own message rate.
    pub limits: Option<MessageLimits>,
    /// What its backend can follow.
    pub feed: FeedRecord,
    /// What its channels keep.
    pub history: Vec<HistoryRule>,
}

impl Default for AppInput {
    fn default() -> Self {
        Self {
            name: String::new(),
            status: AppStatus::Active,
            plan: PlanRecord::default(),
            direct_scope: DirectScope::App,
            turn: None,
            limits: None,
            feed: FeedRecord::default(),
            history: Vec::new(),
        }
    }
}

/// TURN servers, with the secret only where it is set anew.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TurnInput {
    /// `turn:`, `turns:`, `stun:` and `stuns:` URLs.
    pub urls: Vec<String>,
    /// The secret shared with coturn (`static-auth-secret`).
    #[serde(default, skip_serializing)]
    pub secret: Option<String>,
    /// Lifetime of a credential, in seconds.
    #[serde(default = "turn_ttl_sec_default")]
    pub ttl_sec: u64,
}

fn turn_ttl_sec_default() -> u64 {
    86_400
}

/// The changeable fields of a key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct KeyInput {
    /// A name for people.
    #[serde(default)]
    pub name: String,
    /// Which channels its holders may use.
    pub channel_patterns: Vec<String>,
    /// What they may do.
    pub actions: Vec<String>,
    /// Origins that may connect with a publishable key.
    #[serde(default)]
    pub allowed_origins: Vec<String>,
    /// Whether `welcome` gets the app's TURN servers.
    #[serde(default = "auto_inject_turn_default")]
    pub auto_inject_turn: bool,
}

fn auto_inject_turn_default() -> bool {
    true
}

impl AppInput {
    /// The fields of a new app.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub(super) fn new(body: Object) -> Result<Self, ControlError> {
        refuse_null_turn_secret(&body)?;
        check_new(&body, APP_FIELDS)?;
        Self::merged(Object::new(), body)
    }

    /// The fields of `record`, changed by a merge patch (RFC 7396).
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub(super) fn patched(record: &AppRecord, mut patch: Object) -> Result<Self, ControlError> {
        let mut base = object_of(record)?;
        split_fixed(&mut base, &mut patch, &["appId", "createdAt"])?;
        refuse_null_turn_secret(&patch)?;
        check_patch(&patch, APP_FIELDS)?;
        Self::merged(base, patch)
    }

    fn merged(mut base: Object, patch: Object) -> Result<Self, ControlError> {
        // A store of an earlier version may have what is refused since: that must not stand in
        // the way of a patch of something else, which may be to suspend the app.
        let (plan_given, limits_given) = (patch.contains_key("plan"), patch.contains_key("limits"));
        let history = patch.get(HISTORY);
        let history_given = history.is_some();
        history.map_or(Ok(()), check_rules_are_objects)?;
        merge(&mut base, patch);
        let mut input: Self = read(base)?;
        input.check()?;
        if plan_given {
            check_given_plan(&input.plan)?;
        }
        if let Some(limits) = input.limits.as_ref().filter(|_| limits_given) {
            check_given_limits(limits)?;
        }
        if history_given {
            HistoryRules::new(&input.history)
                .map_err(|error| ControlError::Invalid(error.to_string()))?;
        }
        Ok(input)
    }

    fn check(&mut self) -> Result<(), ControlError> {
        check_name("name", &self.name)?;
        normalize_plan(&mut self.plan)?;
        if let Some(turn) = &self.turn {
            check_turn(&turn.urls, turn.ttl_sec, turn.secret.as_deref())?;
        }
        self.limits.as_ref().map_or(Ok(()), check_limits)
    }
}

impl KeyInput {
    /// The type and fields of a new key.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub(super) fn new(mut body: Object) -> Result<(KeyType, Self), ControlError> {
        check_new(&body, &[&[KEY_TYPE], KEY_FIELDS].concat())?;
        let key_type = body
            .remove("type")
            .ok_or_else(|| ControlError::field("type", "is required"))?;
        let key_type = serde_json::from_value(key_type)
            .map_err(|_| ControlError::field("type", "must be \"secret\" or \"publishable\""))?;
        let mut fields = Object::new();
        merge(&mut fields, body);
        let input: Self = read(fields)?;
        input.check(key_type)?;
        Ok((key_type, input))
    }

    /// The fields of `record`, changed by a merge patch (RFC 7396).
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub(super) fn patched(record: &KeyRecord, mut patch: Object) -> Result<Self, ControlError> {
        let mut fields = object_of(record)?;
        split_fixed(
            &mut fields,
            &mut patch,
            &["keyId", "appId", "type", "createdAt"],
        )?;
        check_patch(&patch, KEY_FIELDS)?;
        merge(&mut fields, patch);
        let input: Self = read(fields)?;
        input.check(record.key_type)?;
        Ok(input)
    }

    fn check(&self, key_type: KeyType) -> Result<(), ControlError> {
        check_name("name", &self.name)?;
        check_key(
            key_type,
            &self.channel_patterns,
            &self.actions,
            &self.allowed_origins,
        )
    }
}

/// The grace window of a rotation, in seconds.
///
/// # Errors
/// `Invalid`, naming the field.
pub(super) fn grace_seconds(body: Object) -> Result<u64, ControlError> {
    /// Longest grace window, in seconds: a year.
    const GRACE_SEC_MAX: u64 = 365 * 86_400;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", default, deny_unknown_fields)]
    struct Rotation {
        grace_seconds: u64,
    }
    impl Default for Rotation {
        fn default() -> Self {
            Self {
                grace_seconds: 86_400,
            }
        }
    }
    check_new(&body, ROTATION_FIELDS)?;
    match read(body)? {
        Rotation { grace_seconds } if grace_seconds <= GRACE_SEC_MAX => Ok(grace_seconds),
        _ => Err(ControlError::field(
            "graceSeconds",
            &format!("must be at most {GRACE_SEC_MAX}"),
        )),
    }
}

/// Checks an app's id.
///
/// # Errors
/// `Invalid` unless it is `[A-Za-z0-9_-]{1,64}`.
pub(super) fn check_app_id(app_id: &str) -> Result<(), ControlError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=64).contains(&app_id.len()) && app_id.bytes().all(good) {
        return Ok(());
    }
    Err(ControlError::field(
        "appId",
        "must be 1 to 64 letters, digits, _ or -",
    ))
}

fn check_key(
    key_type: KeyType,
    channel_patterns: &[String],
    actions: &[String],
    allowed_origins: &[String],
) -> Result<(), ControlError> {
    check_count("channelPatterns", channel_patterns.len(), 1, PATTERNS_MAX)?;
    for (index, pattern) in channel_patterns.iter().enumerate() {
        Pattern::parse(pattern).map_err(|error| {
            ControlError::field(&format!("channelPatterns[{index}]"), &error.to_string())
        })?;
    }
    // Without any action a secret key may kick peers and read usage.
    let actions_min = usize::from(key_type == KeyType::Publishable);
    check_count("actions", actions.len(), actions_min, ACTIONS_MAX)?;
    Actions::parse(actions.iter().map(String::as_str))
        .map_err(|error| ControlError::field("actions", &error.to_string()))?;
    if key_type == KeyType::Secret && !allowed_origins.is_empty() {
        return Err(ControlError::field(
            "allowedOrigins",
            "is for publishable keys only",
        ));
    }
    check_count("allowedOrigins", allowed_origins.len(), 0, ORIGINS_MAX)?;
    for (index, origin) in allowed_origins.iter().enumerate() {
        OriginPattern::parse(origin).map_err(|error| {
            ControlError::field(&format!("allowedOrigins[{index}]"), &error.to_string())
        })?;
    }
    Ok(())
}

fn check_name(field: &str, name: &str) -> Result<(), ControlError> {
    if name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let rule = format!("must be at most {NAME_BYTES_MAX} bytes without control characters");
        return Err(ControlError::field(field, &rule));
    }
    Ok(())
}

/// Checks a plan, and makes a limit of 0 the unlimited that it means.
fn normalize_plan(plan: &mut PlanRecord) -> Result<(), ControlError> {
    if let Some(name) = &plan.name {
        check_name("plan.name", name)?;
    }
    for limit in [
        &mut plan.max_concurrent_connections,
        &mut plan.max_messages_per_period,
    ] {
        *limit = limit.filter(|limit| *limit > 0);
    }
    if plan
        .period_start_unix
        .is_some_and(|start| start > PERIOD_START_UNIX_MAX)
    {
        return Err(ControlError::field(
            "plan.periodStartUnix",
            "must be in seconds, before the year 9999",
        ));
    }
    if plan
        .period_days
        .is_some_and(|days| !(1..=PERIOD_DAYS_MAX).contains(&days))
    {
        return Err(ControlError::field(
            "plan.periodDays",
            &format!("must be 1 to {PERIOD_DAYS_MAX}"),
        ));
    }
    Ok(())
}

/// What the configuration refuses too: half a period would be shown, and months be billed.
fn check_given_plan(plan: &PlanRecord) -> Result<(), ControlError> {
    for (field, limit) in [
        (
            "plan.maxConcurrentConnections",
            plan.max_concurrent_connections,
        ),
        ("plan.maxMessagesPerPeriod", plan.max_messages_per_period),
    ] {
        if limit.is_some_and(|limit| limit > PLAN_COUNT_MAX) {
            let rule = format!("must be at most {PLAN_COUNT_MAX}, or 0 for no limit");
            return Err(ControlError::field(field, &rule));
        }
    }
    let rule = "go together: give both, or neither for calendar months";
    match (plan.period_start_unix, plan.period_days) {
        (None, Some(_)) => Err(ControlError::field(
            "plan.periodDays",
            &format!("plan.periodStartUnix and it {rule}"),
        )),
        (Some(_), None) => Err(ControlError::field(
            "plan.periodStartUnix",
            &format!("plan.periodDays and it {rule}"),
        )),
        _ => Ok(()),
    }
}

/// The bounds of the configuration.
fn check_given_limits(limits: &MessageLimits) -> Result<(), ControlError> {
    for (field, value) in [
        ("limits.messageRate", limits.message_rate),
        ("limits.messageBurst", limits.message_burst),
    ] {
        if value > RATE_MAX {
            let rule = format!("must be at most {RATE_MAX}");
            return Err(ControlError::field(field, &rule));
        }
    }
    Ok(())
}

/// Serde would take an array's elements for a rule's fields, in their order.
fn check_rules_are_objects(rules: &Value) -> Result<(), ControlError> {
    let rules = rules.as_array().into_iter().flatten();
    match rules.enumerate().find(|(_, rule)| !rule.is_object()) {
        Some((at, _)) => Err(ControlError::field(
            &format!("{HISTORY}[{at}]"),
            "must be an object",
        )),
        None => Ok(()),
    }
}

fn refuse_null_turn_secret(patch: &Object) -> Result<(), ControlError> {
    let secret = patch.get("turn").and_then(|turn| turn.get("secret"));
    if secret.is_some_and(Value::is_null) {
        return Err(ControlError::field(
            "turn.secret",
            "cannot be removed; set turn to null instead",
        ));
    }
    Ok(())
}

fn check_turn(urls: &[String], ttl_sec: u64, secret: Option<&str>) -> Result<(), ControlError> {
    const SCHEMES: [&str; 4] = ["turn:", "turns:", "stun:", "stuns:"];
    check_count("turn.urls", urls.len(), 1, TURN_URLS_MAX)?;
    for (index, url) in urls.iter().enumerate() {
        let known = SCHEMES
            .iter()
            .any(|scheme| url.strip_prefix(scheme).is_some_and(is_word));
        if !known {
            let rule = "must be a turn:, turns:, stun: or stuns: URL of at most 512 bytes";
            return Err(ControlError::field(&format!("turn.urls[{index}]"), rule));
        }
    }
    if !(1..=TURN_TTL_SEC_MAX).contains(&ttl_sec) {
        return Err(ControlError::field(
            "turn.ttlSec",
            &format!("must be 1 to {TURN_TTL_SEC_MAX}"),
        ));
    }
    if secret.is_some_and(|secret| !is_word(secret)) {
        return Err(ControlError::field(
            "turn.secret",
            "must be 1 to 512 printable ASCII bytes",
        ));
    }
    Ok(())
}

fn is_word(text: &str) -> bool {
    (1..=TURN_TEXT_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

fn check_limits(limits: &MessageLimits) -> Result<(), ControlError> {
    if limits.message_rate > 0 && limits.message_burst == 0 {
        return Err(ControlError::field(
            "limits.messageBurst",
            "must be at least 1 with a rate",
        ));
    }
    Ok(())
}

fn check_count(field: &str, count: usize, min: usize, max: usize) -> Result<(), ControlError> {
    if (min..=max).contains(&count) {
        return Ok(());
    }
    Err(ControlError::field(
        field,
        &format!("must have {min} to {max} entries"),
    ))
}

#[cfg(test)]
mod tests;
