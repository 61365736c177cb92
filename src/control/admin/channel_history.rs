//! `…/apps/{appId}/channel/history?name=…`: what a channel keeps of its publications, a page at a
//! time, as operators read it, and forgetting it.
//!
//! The owner of the channel renders the page, whose data is handed on byte for byte. Which rule
//! holds for the channel is added here.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::answer::Failure;
use super::peers::{id, invalid, named, required};
use crate::control::engine::Engine;
use crate::domain::history::HistoryRule;
use crate::domain::history_page::{
    Forgotten, HistoryAsked, HistoryTold, LIMIT_DEFAULT, LIMIT_MAX, Page, is_newest_first,
    limit_of, seq_of, since_of,
};
use crate::domain::rights::App;
use crate::events::author::Author;
use crate::events::kind::{Cause, Kind};
use crate::events::record::Record;
use crate::proto::wire::name::validate_channel_name;
use crate::proto::wire::position::Epoch;

/// How long the shards may take.
const TIME_MAX: Duration = Duration::from_secs(5);

type Id = Result<Path<String>, PathRejection>;

/// A channel with the app that it is one of.
struct Asked {
    engine: Arc<Engine>,
    app: Arc<App>,
    channel: String,
}

/// What stands before the publications of a page.
#[derive(Deserialize)]
struct Head<'a> {
    epoch: Option<&'a str>,
    first: u64,
    last: u64,
}

/// Where a page begins, as it is asked for.
enum Since {
    Start,
    Position(Option<Epoch>, u64),
    /// A number of the numbering that there is now.
    Number(u64),
}

/// `GET`: a page of what is kept.
pub(super) async fn read(
    State(engine): State<Arc<Engine>>,
    app_id: Id,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let names = ["name", "since", "limit", "order"];
    let [name, since, limit, order] = named(names, query.as_deref())?;
    let asked = Asked::new(engine, app_id, name)?;
    let since = since.map_or(Ok(Since::Start), |text| Since::parse(&text))?;
    let limit = limit.map_or(Some(LIMIT_DEFAULT), |text| limit_of(&text));
    let order = order.map_or(Some(false), |text| is_newest_first(&text));
    let page = Page {
        since: None,
        limit: limit
            .ok_or_else(|| invalid(format!("limit: must be a number from 1 to {LIMIT_MAX}")))?,
        is_newest_first: order.ok_or_else(|| invalid("order: must be asc or desc"))?,
        tells_size: true,
    };
    asked.page(page, since).await
}

/// `DELETE`: forgets all that is kept.
pub(super) async fn forget(
    State(engine): State<Arc<Engine>>,
    app_id: Id,
    RawQuery(query): RawQuery,
    Extension(author): Extension<Author>,
) -> Result<Response, Failure> {
    let [name] = named(["name"], query.as_deref())?;
    let asked = Asked::new(engine, app_id, name)?;
    asked.rule()?;
    let HistoryTold::Forgotten(forgotten) = asked.told(HistoryAsked::Forget).await? else {
        return Err(unanswered());
    };
    asked.record_forgotten(&forgotten, &author);
    if forgotten.is_refused {
        return Err(Failure::unavailable(
            "the history is forgotten, but the disk has not taken that: until it has, a restart \
             brings the messages back; delete it again",
        ));
    }
    let deleted = forgotten.count;
    let channel = &asked.channel;
    Ok(Json(json!({ "channel": channel, "deleted": deleted })).into_response())
}

impl Asked {
    fn new(engine: Arc<Engine>, app_id: Id, name: Option<String>) -> Result<Self, Failure> {
        let app = Arc::clone(&engine.registry().app(&id(app_id)?)?.app);
        let channel = required("name", name)?;
        validate_channel_name(&channel)
            .map_err(|_| invalid("name: must be the name of a channel"))?;
        Ok(Self {
            engine,
            app,
            channel,
        })
    }

    /// The rule that holds for the channel, and its place among those of the app, from 1 on.
    fn rule(&self) -> Result<(usize, &HistoryRule), Failure> {
        let found = self.app.history.place_for_channel(&self.channel);
        found.map(|(at, rule)| (at + 1, rule)).ok_or_else(|| {
            let app = &*self.app.id;
            let channel = json!(self.channel);
            Failure::not_found(match self.app.history.is_empty() {
                true => format!(
                    "{app} keeps nothing of the channel {channel}: it has no history rules; \
                     ringmesh app update {app} --history gives it one"
                ),
                false => format!(
                    "{app} keeps nothing of the channel {channel}: none of its history rules \
                     matches; ringmesh app show {app} shows them"
                ),
            })
        })
    }

    async fn told(&self, asked: HistoryAsked) -> Result<HistoryTold, Failure> {
        let app = self.app.id.tag();
        let told = self.engine.shards().history(app, &self.channel, asked);
        let told = tokio::time::timeout(TIME_MAX, told).await;
        told.ok().flatten().ok_or_else(unanswered)
    }

    /// The page, as the owner renders it; `None` where what was asked for is not kept.
    async fn kept(&self, page: Page) -> Result<Option<Arc<[u8]>>, Failure> {
        match self.told(HistoryAsked::Page(page)).await? {
            HistoryTold::Page(body) => Ok(body),
            HistoryTold::Forgotten(_) => Err(unanswered()),
        }
    }

    async fn page(&self, page: Page, since: Since) -> Result<Response, Failure> {
        let (place, rule) = self.rule()?;
        let since = match since {
            Since::Start => None,
            Since::Position(epoch, seq) => Some((epoch, seq)),
            Since::Number(seq) => {
                let body = self.start().await?;
                let head = self.head(&body)?;
                Some((head.epoch.and_then(Epoch::parse), seq))
            }
        };
        let Some(body) = self.kept(Page { since, ..page }).await? else {
            return Err(self.lost().await?);
        };
        self.head(&body)?;
        let app = &*self.app.id;
        Ok(answer(app, place, rule, &body))
    }

    /// The beginning of what is kept.
    async fn start(&self) -> Result<Arc<[u8]>, Failure> {
        let page = Page {
            since: None,
            limit: 1,
            is_newest_first: false,
            tells_size: true,
        };
        self.kept(page).await?.ok_or_else(unanswered)
    }

    /// What stands before the publications; a channel that has a numbering has a history.
    fn head<'b>(&self, body: &'b [u8]) -> Result<Head<'b>, Failure> {
        let head: Head<'_> = serde_json::from_slice(body).map_err(|_| unanswered())?;
        if head.epoch.is_none() {
            return Err(Failure::not_found(format!(
                "nothing is kept of the channel {}: nothing was published there, or its time is \
                 over",
                json!(self.channel)
            )));
        }
        Ok(head)
    }

    /// What there is in place of what was asked for.
    async fn lost(&self) -> Result<Failure, Failure> {
        let body = self.start().await?;
        let head = self.head(&body)?;
        let epoch = head.epoch.unwrap_or_default();
        let kept = match head.first > head.last {
            true => "none is kept".to_owned(),
            false => format!("{} to {} are kept", head.first, head.last),
        };
        Ok(Failure::history_lost(format!(
            "since: what follows it is not kept, or not all of it; the epoch is {epoch}, the last \
             number {}, and {kept}",
            head.last
        )))
    }

    fn record_forgotten(&self, forgotten: &Forgotten, author: &Author) {
        let numbers = [author.session_number()];
        let where_not = match forgotten.is_refused {
            true => ", not on disk yet",
            false => "",
        };
        let detail = format!(
            "channel {} of {}: {} publications{where_not}",
            self.channel, &*self.app.id, forgotten.count
        );
        let record = Record {
            app: Some(self.app.index),
            numbers: &numbers,
            second: &detail,
            ..Record::new(Kind::Admin, Cause::HistoryForgotten)
        };
        self.engine.shards().events().record(&record.by(author));
    }
}

impl Since {
    fn parse(text: &str) -> Result<Self, Failure> {
        let position = since_of(text).map(|(epoch, seq)| Self::Position(epoch, seq));
        let found = position.or_else(|| seq_of(text).map(Self::Number));
        found.ok_or_else(|| invalid("since: must be <epoch>:<seq>, or <seq> of the epoch of now"))
    }
}

/// The page of the owner, behind what is known here.
fn answer(app: &str, place: usize, rule: &HistoryRule, page: &[u8]) -> Response {
    #[derive(Serialize)]
    struct Known<'a> {
        app: &'a str,
        rule: Place<'a>,
    }
    #[derive(Serialize)]
    struct Place<'a> {
        place: usize,
        #[serde(flatten)]
        rule: &'a HistoryRule,
    }
    let rule = Place { place, rule };
    // Texts and numbers are always JSON.
    let mut body = serde_json::to_vec(&Known { app, rule }).unwrap_or_default();
    body.pop();
    body.push(b',');
    body.extend_from_slice(page.get(1..).unwrap_or_default());
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

fn unanswered() -> Failure {
    Failure::unavailable("a shard did not answer in time")
}
