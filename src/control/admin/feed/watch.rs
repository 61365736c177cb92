//! One reader of a feed: where it is, and whether it may still read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use tokio::sync::Semaphore;

use crate::control::admin::answer::Failure;
use crate::control::admin::backend::{Backend, secret_key};
use crate::control::engine::Engine;
use crate::control::error::ControlError;
use crate::control::events::{FeedEventJson, FeedStart};
use crate::domain::rights::{App, Key};
use crate::events::feed::{FeedEvent, FeedKind};
use crate::proto::actions::Action;

/// Readings that are under way at the same time.
static READINGS: Semaphore = Semaphore::const_new(2);
/// How long one reading may take; another goes on from there.
const READ_TIME_MAX: Duration = Duration::from_millis(100);

/// See the top of this file.
pub(super) struct Watch {
    engine: Arc<Engine>,
    app_id: String,
    backend: Option<Backend>,
    /// As it was when this reader began.
    app: Arc<App>,
    /// From where it goes on.
    next: Vec<u64>,
    /// How much had been written when there was nothing more; `None`: there may be more.
    written: Option<u64>,
}

/// What there is.
pub(super) enum Looked {
    /// What comes next, maybe nothing, and whether there may be more now.
    Events(Vec<FeedEventJson>, bool),
    /// Something was missed. The reader is at the end now.
    Expired,
}

impl Watch {
    /// Begins at the end of what there is.
    ///
    /// # Errors
    /// There is no such app, it has no feed, or who asks may not read it.
    pub(super) fn begin(
        engine: Arc<Engine>,
        app_id: String,
        backend: Option<Backend>,
    ) -> Result<Self, Failure> {
        let reader = engine.shards().events().feed().reader().clone();
        let (app, _) = allowed(&engine, &app_id, backend.as_ref())?;
        Ok(Self {
            next: reader.end(),
            written: None,
            app,
            backend,
            app_id,
            engine,
        })
    }

    /// The app whose feed is read.
    pub(super) fn app(&self) -> &App {
        &self.app
    }

    /// Where it is.
    pub(super) fn cursor(&self) -> String {
        let feed = self.engine.shards().events().feed();
        feed.cursor(&self.app, &self.next)
    }

    /// Goes on from a cursor. Returns another one where that is not possible.
    ///
    /// # Errors
    /// It is no cursor.
    pub(super) fn go_on_from(&mut self, cursor: &str) -> Result<Option<String>, &'static str> {
        let feed = self.engine.shards().events().feed();
        match feed.start(&self.app, cursor) {
            FeedStart::From(next) => {
                self.next = next;
                Ok(None)
            }
            FeedStart::Expired => Ok(Some(self.cursor())),
            FeedStart::NoCursor => Err("after: it is no cursor of a feed"),
        }
    }

    /// Looks for what comes next.
    ///
    /// # Errors
    /// Who reads may not read any more.
    pub(super) async fn look(&mut self, limit: usize) -> Result<Looked, Failure> {
        let (app, key) = allowed(&self.engine, &self.app_id, self.backend.as_ref())?;
        let events = Arc::clone(self.engine.shards().events());
        let reader = events.feed().reader().clone();
        let is_same = (app.index, app.feed) == (self.app.index, self.app.feed);
        self.app = app;
        if !is_same {
            return Ok(self.expire());
        }
        let written = reader.written();
        if self.written == Some(written) {
            return Ok(Looked::Events(Vec::new(), false));
        }
        // Never closed.
        let _turn = READINGS.acquire().await;
        let (tag, next) = (self.app.id.tag().words(), self.next.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let goes_on = || began.elapsed() < READ_TIME_MAX;
            let is_wanted = |event: &FeedEvent| key.as_ref().is_none_or(|key| may_see(key, event));
            reader.read(tag, &next, limit, goes_on, is_wanted)
        });
        let failed = |_| Failure::unavailable("the reading has failed; see the log");
        let Some(page) = reading.await.map_err(failed)? else {
            return Ok(self.expire());
        };
        let (found, has_more) = (events.feed_json(&page), page.has_more);
        self.next = page.next;
        self.written = (!has_more).then_some(written);
        Ok(Looked::Events(found, has_more))
    }

    fn expire(&mut self) -> Looked {
        self.next = self.engine.shards().events().feed().reader().end();
        self.written = None;
        Looked::Expired
    }
}

/// The app, if it has a feed and who asks may read it; and the key, if that is shown.
fn allowed(
    engine: &Engine,
    app_id: &str,
    backend: Option<&Backend>,
) -> Result<(Arc<App>, Option<Arc<Key>>), Failure> {
    let key = match backend {
        None => None,
        Some(backend) => {
            let key = secret_key(engine, app_id, &backend.authorization);
            Some(key.ok_or_else(Failure::no_feed_credential)?)
        }
    };
    if !engine.shards().events().feed().reader().is_on() {
        let text = "no feeds are kept: feed.memory_per_shard is 0";
        return Err(Failure::invalid(StatusCode::NOT_FOUND, text));
    }
    let app = Arc::clone(&engine.registry().app(app_id)?.app);
    if !app.feed.is_on() {
        let text = "the app has no feed: set its feed.presence or feed.peers";
        return Err(ControlError::Conflict(text.to_owned()).into());
    }
    let lacks_presence = |key: &Arc<Key>| !key.actions.contains(Action::Presence);
    if key.as_ref().is_some_and(lacks_presence) {
        return Err(Failure::forbidden("the key lacks the action 'presence'"));
    }
    Ok((app, key))
}

/// Whether the holder of a key with `presence` may know of it: of channels as by
/// `GET /v1/channels/:id/peers`, and of all peers.
fn may_see(key: &Key, event: &FeedEvent) -> bool {
    matches!(event.kind, FeedKind::PeerOnline | FeedKind::PeerOffline)
        || key.patterns.any_matches(&event.channel)
}
