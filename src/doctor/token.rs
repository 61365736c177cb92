//! A connect token beside this host's clock. Its signature is for `ringmesh token check`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::cli::{Findings, Level};
use crate::limits::TOKEN_LEEWAY_SEC;

/// How far in the future a token may begin, in seconds, as the server takes them.
const AHEAD_MAX: i64 = TOKEN_LEEWAY_SEC as i64;

/// Compares the times in a token with the clock, in seconds since 1970.
pub(super) fn look(token: &str, now_unix: u64, findings: &mut Findings) {
    let why = "a token is good from one time to another, by the clock of this host";
    let Some(claims) = claims(token) else {
        let remedy = "give a token as ringmesh token mint makes one";
        return findings.measured(Level::Fail, "token", "no token", why, remedy);
    };
    let time = |name: &str| claims.get(name).and_then(Value::as_i64);
    let now = i64::try_from(now_unix).unwrap_or(i64::MAX);
    let ahead = time("iat").map_or(0, |made| made.saturating_sub(now));
    let begins = time("nbf").map_or(0, |begins| begins.saturating_sub(now));
    let rest = time("exp").map(|ends| ends.saturating_sub(now));
    let remedy = "set both clocks right: timedatectl here and where the token is made";
    let (level, measured) = match (ahead.max(begins), rest) {
        (ahead, _) if ahead > AHEAD_MAX => (Level::Fail, format!("it begins in {ahead} s")),
        (_, Some(rest)) if rest <= 0 => (Level::Fail, format!("it ended {} s ago", -rest)),
        (_, None) => (Level::Fail, "it has no end".to_owned()),
        (ahead, Some(_)) if ahead > 1 => (Level::Warn, format!("it begins in {ahead} s")),
        (_, Some(rest)) => (Level::Ok, format!("it ends in {rest} s")),
    };
    findings.measured(level, "token", measured, why, remedy);
}

fn claims(token: &str) -> Option<Value> {
    let mut parts = token.trim().split('.');
    let claims = parts.nth(1)?;
    let bytes = URL_SAFE_NO_PAD.decode(claims).ok()?;
    serde_json::from_slice(&bytes).ok().filter(Value::is_object)
}
