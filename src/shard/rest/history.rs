//! `/v1/channels/:id/history`: what a channel keeps, a page at a time, and forgetting it.
//!
//! The channel's owner renders the whole body, of which as much as of a list of peers may wait for
//! a key's connections to read it.

use crate::domain::history_page::{LIMIT_DEFAULT, Page, is_newest_first, limit_of, since_of};
use crate::proto::actions::Action;
use crate::proto::http::error::ApiError;
use crate::proto::http::target::Target;
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::Connections;
use crate::shard::connection::refusal::Refusal;
use crate::shard::context::Context;
use crate::shard::mesh_message::{ForgetHistory, HistoryPage, MeshMessage};
use crate::shard::questions::{Caller, PendingAnswer};
use crate::shard::rest::answer::{ForgottenAnswer, append_json};
use crate::shard::rest::channels::channel_name;
use crate::shard::rest::{Rest, Served};
use crate::shard::stores::{Awaited, Waiting};

const SINCE: &str = "'since' must be <epoch>:<seq>, as an answer has them";

impl Rest {
    pub(super) fn read_history(
        &mut self,
        caller: &Caller,
        raw_name: &str,
        target: &Target<'_>,
        channels: &mut Channels,
        connections: &mut Connections,
        context: &mut Context,
    ) -> Result<Served, Refusal> {
        let name = channel_name(raw_name)?;
        let page = page_of(target)?;
        let permissions = caller.permissions();
        permissions.check(Action::Subscribe, Some(&name))?;
        self.check_unread(&caller.key)?;
        let app = caller.key.app.id.tag();
        let hash = context.placement.channel_hash(app, &name);
        let channel = channels.channel_key(app, hash, &name);
        let owner = context.placement.owner(hash);
        if owner == context.id() {
            let body = channels.history_page(&channel, &page, context);
            return body.map(Served::Shared).map_err(|_| lost());
        }
        let request = connections.wait(caller, PendingAnswer::History, owner, context);
        let page = HistoryPage {
            channel,
            page,
            request,
        };
        context.send(owner, MeshMessage::HistoryPage(Box::new(page)));
        Ok(Served::Later)
    }

    pub(super) fn forget_history(
        &mut self,
        caller: &Caller,
        raw_name: &str,
        channels: &mut Channels,
        connections: &mut Connections,
        context: &mut Context,
    ) -> Result<Served, Refusal> {
        let name = channel_name(raw_name)?;
        let permissions = caller.permissions();
        permissions.check(Action::Publish, Some(&name))?;
        let app = caller.key.app.id.tag();
        let hash = context.placement.channel_hash(app, &name);
        let channel = channels.channel_key(app, hash, &name);
        let owner = context.placement.owner(hash);
        let own = (owner == context.id()).then(|| channels.forget_history(&channel, context));
        if let Some((deleted, false)) = own {
            let channel = &name;
            append_json(&mut self.json, &ForgottenAnswer { channel, deleted });
            return Ok(Served::Now);
        }
        let answer = PendingAnswer::Forgotten {
            channel: name.as_ref().into(),
        };
        let request = connections.wait(caller, answer, owner, context);
        if let Some((count, _)) = own {
            context.stores.wait(Waiting {
                channel,
                home: owner,
                waiter: request,
                awaited: Awaited::Forgetting { count },
            });
            return Ok(Served::Later);
        }
        let forget = ForgetHistory { channel, request };
        context.send(owner, MeshMessage::ForgetHistory(Box::new(forget)));
        Ok(Served::Later)
    }
}

/// What was asked for is not kept any more.
pub(super) fn lost() -> Refusal {
    Refusal::new(
        ApiError::HistoryLost,
        "what follows 'since' is not kept, or not all of it; read without it",
    )
}

/// What was to be forgotten is so here, but maybe not on disk.
pub(super) fn unforgotten() -> Refusal {
    Refusal::new(
        ApiError::InternalError,
        "the history is forgotten, but the disk has not taken that: until it has, a restart brings \
         the messages back; delete it again",
    )
}

/// What the query asks for.
fn page_of(target: &Target<'_>) -> Result<Page, Refusal> {
    let limit = match target.query_value("limit")? {
        None => LIMIT_DEFAULT,
        Some(text) => limit_of(&text).ok_or(Refusal::invalid("'limit' must be 1 to 1000"))?,
    };
    let order = target.query_value("order")?;
    let order = order
        .map(|text| is_newest_first(&text).ok_or(Refusal::invalid("'order' must be asc or desc")));
    let since = target.query_value("since")?;
    let since = since.map(|text| since_of(&text).ok_or(Refusal::invalid(SINCE)));
    Ok(Page {
        since: since.transpose()?,
        limit,
        is_newest_first: order.transpose()?.unwrap_or(false),
        tells_size: false,
    })
}
