//! What another seat says, handed to the part that it is for.

use crate::domain::history_page::Forgotten;
use crate::events::feed::FeedKind;
use crate::ids::Seat;
use crate::proto::wire::event::AckTold;
use crate::shard::channel::channels::Channels;
use crate::shard::context::Context;
use crate::shard::mesh_message::{
    ForgetHistory, HistoryPage, MeshMessage, Placed, Published, RestValue, Sequenced,
};
use crate::shard::questions::Question;
use crate::shard::state::Shard;
use crate::shard::stores::{Awaited, Waiting};

impl Shard {
    /// Hands a message to the part that it is for.
    pub(in crate::shard) fn mesh(&mut self, from: Seat, message: MeshMessage) {
        let Self {
            context,
            connections,
            channels,
            peers,
            rest,
            ..
        } = self;
        match message {
            MeshMessage::Join(join) => channels.owner_join(*join, context),
            MeshMessage::Leave(leave) => channels.owner_leave(*leave, connections, context),
            MeshMessage::Publish(publish) => {
                channels.owner_publish(from, *publish, connections, context)
            }
            MeshMessage::Announced(announced) => {
                channels.owner_announced(from, &announced, connections, context)
            }
            MeshMessage::Joined(joined) => channels.home_joined(*joined, connections, context),
            MeshMessage::Left(left) => channels.home_left(*left, connections, context),
            MeshMessage::Published(published) => self.published(published),
            MeshMessage::Placed(placed) => self.placed(&placed),
            MeshMessage::Unstored { waiter } => self.unstored(waiter),
            MeshMessage::Deliver(deliver) => channels.home_deliver(&deliver, connections, context),
            MeshMessage::Announce(announce) => {
                channels.home_announce(from, *announce, connections, context)
            }
            MeshMessage::Register(register) => peers.peer_register(&register, context),
            MeshMessage::Registered { ticket } => self.owner_registered(ticket),
            MeshMessage::Unregister(it) => {
                let peer_id = it.peer.id.as_str();
                if peers.registry.unregister(it.app, peer_id, it.connection) {
                    context.feed_peer(it.app, &it.peer, FeedKind::PeerOffline);
                }
            }
            MeshMessage::Send(send) => peers.peer_send(*send, channels, connections, context),
            MeshMessage::Direct(direct) => channels.home_direct(&direct, connections, context),
            MeshMessage::DirectResult(result) => connections.direct_result(from, result, context),
            MeshMessage::Scope(scope) => channels.owner_scope(&scope, context),
            MeshMessage::ScopeResult(result) => peers.scope_result(from, result, context),
            MeshMessage::ListPeers(list) => rest.owner_list_peers(from, &list, channels, context),
            MeshMessage::HistoryPage(asked) => channels.owner_history_page(from, &asked, context),
            MeshMessage::ForgetHistory(asked) => {
                channels.owner_forget_history(from, &asked, context);
            }
            MeshMessage::Kick(kick) => peers.owner_kick(from, &kick, connections, context),
            MeshMessage::KickHere(kick) => self.home_kick(from, *kick),
            MeshMessage::Kicked(kicked) => context.owner_kicked(from, kicked),
            MeshMessage::Reach { ticket } => channels.reach(from, ticket, connections, context),
            MeshMessage::Reached { ticket } => context.home_reached(from, ticket),
            MeshMessage::RestResult(result) => self.rest_result(*result),
            MeshMessage::Lag(lag) => channels.owner_lag(from, *lag, connections, context),
            MeshMessage::Hold(hold) => channels.hold(&hold, connections, context),
            MeshMessage::Throttle { throttled } => {
                connections.throttle(from.shard(), throttled, context)
            }
        }
    }

    /// A publication has its place at the channel's owner.
    pub(in crate::shard) fn published(&mut self, published: Published) {
        match self.context.questions.take(published.waiter) {
            Some(Question::Publish(command)) => {
                self.connections
                    .answer_command(&command, Ok(()), &mut self.context)
            }
            Some(Question::Rest(waiting)) => {
                self.rest.answer_waiting(
                    &waiting,
                    &RestValue::Published(Sequenced::delivered(published.delivered)),
                    &mut self.connections,
                    &mut self.context,
                );
            }
            _ => {} // It has ended without the answer.
        }
    }

    /// A publication has its place at the channel's owner, and the position is wanted.
    fn placed(&mut self, placed: &Placed) {
        let Placed { waiter, sequenced } = placed;
        match self.context.questions.take(*waiter) {
            Some(Question::Publish(command)) => {
                let told = match sequenced.is_duplicate {
                    true => AckTold::Duplicate,
                    false => AckTold::Nothing,
                };
                let position = sequenced.position;
                self.connections
                    .answer_command_at(&command, position, told, &mut self.context);
            }
            Some(Question::Rest(waiting)) => {
                self.rest.answer_waiting(
                    &waiting,
                    &RestValue::Published(*sequenced),
                    &mut self.connections,
                    &mut self.context,
                );
            }
            _ => {} // It has ended without the answer.
        }
    }
}

impl Channels {
    fn owner_history_page(&mut self, home: Seat, asked: &HistoryPage, context: &mut Context) {
        let body = self.history_page(&asked.channel, &asked.page, context);
        context.rest_result(home, asked.request, RestValue::History(body.ok()));
    }

    fn owner_forget_history(&mut self, home: Seat, asked: &ForgetHistory, context: &mut Context) {
        let (count, is_awaited) = self.forget_history(&asked.channel, context);
        let waiter = asked.request;
        if is_awaited {
            return context.stores.wait(Waiting {
                channel: asked.channel.clone(),
                home,
                waiter,
                awaited: Awaited::Forgetting { count },
            });
        }
        let is_refused = false;
        let forgotten = Forgotten { count, is_refused };
        context.rest_result(home, waiter, RestValue::Forgotten(forgotten));
    }
}
