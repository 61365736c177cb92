//! The list of apps: all of them, or a page, and with what they use.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::answer::Failure;
use super::events::parameters;
use crate::control::engine::Engine;
use crate::domain::record::AppRecord;
use crate::domain::usage_report::UsageReport;

/// Apps of a page.
const LIMIT_MAX: usize = 200;

/// What is asked of the list.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    with_usage: bool,
    /// `None`: all that there are.
    limit: Option<usize>,
    after: Option<String>,
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    record: &'a AppRecord,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageReport<'a>>,
}

#[derive(Serialize)]
struct Apps<'a> {
    apps: Vec<Shown<'a>>,
    /// The id to go on behind; only of pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Option<&'a str>>,
}

/// `GET …/apps`
pub(super) async fn list(
    State(engine): State<Arc<Engine>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let asked = Asked::parse(parameters(query.as_deref())?)
        .map_err(|text| Failure::invalid(StatusCode::BAD_REQUEST, text))?;
    let registry = engine.registry();
    let mut entries: Vec<_> = registry.apps().collect();
    entries.sort_by(|one, other| one.row.record.app_id.cmp(&other.row.record.app_id));
    let after = asked.after.as_deref().unwrap_or_default();
    entries.retain(|entry| after.is_empty() || *entry.row.record.app_id > *after);
    let limit = asked.limit.unwrap_or(usize::MAX);
    let has_more = entries.len() > limit;
    entries.truncate(limit);
    let last = entries.last().map(|entry| &*entry.row.record.app_id);
    let next = asked.limit.map(|_| last.filter(|_| has_more));
    let apps = entries.iter().map(|entry| Shown {
        record: &entry.row.record,
        usage: asked.with_usage.then(|| UsageReport::of(&entry.app)),
    });
    let apps = apps.collect();
    Ok(Json(Apps { apps, next }).into_response())
}

impl Asked {
    fn parse(given: Vec<(String, String)>) -> Result<Self, String> {
        let mut asked = Self::default();
        for (name, value) in given {
            match &*name {
                "include" if value == "usage" => asked.with_usage = true,
                "include" => return Err("include: it may be usage".to_owned()),
                "limit" => {
                    let number = value.parse().ok().filter(|it| (1..=LIMIT_MAX).contains(it));
                    let rule = || format!("limit: must be a number from 1 to {LIMIT_MAX}");
                    asked.limit = Some(number.ok_or_else(rule)?);
                }
                "after" => asked.after = Some(value),
                _ => return Err(format!("{name}: there is no such parameter")),
            }
        }
        Ok(asked)
    }
}
