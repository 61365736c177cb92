//! Another token for an open connection: it is judged as at a connect, and what it allows holds
//! from the `ack` on.
//!
//! Who the peer is for others does not change. Subscriptions that the new token does not allow end
//! here, as by an `unsubscribe`; where it does not allow presence any more, that ends too. Where it
//! allows presence again, each channel is shown as to one that has just joined: a snapshot, and
//! then changes. Joins were asked for under the old token: a `refresh` waits for those that are on
//! their way, and all input behind it with it, so that it finds members only.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::domain::peer::SharedChannel;
use crate::domain::rights::Key;
use crate::events::kind::Cause;
use crate::ids::ConnectionId;
use crate::proto::actions::Action;
use crate::proto::claims::Claims;
use crate::proto::wire::error::ErrorCode;
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::{Connections, Held, Session};
use crate::shard::connection::credential::{self, CredentialFault};
use crate::shard::connection::joining::{AwaitedRefresh, AwaitedSnapshot, State};
use crate::shard::connection::permissions::Grant;
use crate::shard::connection::shown::Shown;
use crate::shard::context::Context;
use crate::shard::effect::ChannelSlot;
use crate::shard::history::replay::Replay;
use crate::shard::mesh_message::LeaveCause;
use crate::shard::outbound::encode;
use crate::shard::questions::Asked;

/// Channels that a connection is no longer in.
type Ended = SmallVec<[(ChannelSlot, SharedChannel); 4]>;

/// What a new token changes for the channels of a connection.
#[derive(Default)]
struct Switched {
    ended: Ended,
    /// Channels of which it is told again who is there.
    shown: SmallVec<[ChannelSlot; 4]>,
}

impl Channels {
    /// A client shows another token.
    pub(in crate::shard) fn refresh(
        &mut self,
        id: ConnectionId,
        token: Option<&str>,
        request_id: Option<&str>,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let session = connections.session(id);
        if session.is_none_or(|session| session.joining.is_none()) {
            let reply_to = (request_id, context.stamp_ns);
            return self.refresh_now(id, token, reply_to, connections, context);
        }
        let command = connections.await_command(id, Asked::Membership, request_id, context);
        if let Some(session) = connections.open_mut(id)
            && let Some(joining) = &mut session.joining
        {
            let token = token.map(Box::from);
            joining.refresh = Some(Box::new(AwaitedRefresh { token, command }));
            connections[id].held.add(Held::REFRESH);
        }
    }

    /// The joins are over for which a `refresh` of this connection has waited, if one has.
    pub(in crate::shard) fn refresh_awaited(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Some(session) = connections.session_mut(id) else {
            return;
        };
        let Some(joining) = session.joining.as_mut().filter(|it| it.is_quiet()) else {
            return;
        };
        let Some(refresh) = joining.refresh.take() else {
            return;
        };
        session.joining = None;
        let AwaitedRefresh { token, command } = *refresh;
        let reply_to = (command.reply_to.id(), command.reply_to.read_ns);
        connections.awaited_reply(id, command.asked, reply_to.0);
        self.refresh_now(id, token.as_deref(), reply_to, connections, context);
        connections.hold_if_unread(id);
    }

    fn refresh_now(
        &mut self,
        id: ConnectionId,
        token: Option<&str>,
        reply_to: (Option<&str>, u64),
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Some(session) = connections.session(id) else {
            return;
        };
        let (key, claims) = match judge(session, token, context) {
            Ok(good) => good,
            Err((code, cause)) => {
                connections.record_refresh_refused(id, cause, context);
                return connections.error(id, reply_to, code, None, context);
            }
        };
        let Switched { ended, shown } = self.switch_token(id, key, claims, connections, context);
        connections.ack_refresh(id, reply_to, shown.len(), context);
        for (_, channel) in &ended {
            connections.tell_ended(id, channel, context);
        }
        let names = ended.iter().map(|(_, channel)| channel.name.as_str());
        connections.record_refreshed(id, names, reply_to.1, context);
        for slot in shown {
            self.begin_presence(id, slot, reply_to, connections, context);
        }
        for (slot, _) in &ended {
            self.let_go(*slot, connections, context);
        }
        connections.arm(id, context);
    }

    /// The claims hold from now on: the connection is no member any more of channels that they do
    /// not allow.
    fn switch_token(
        &mut self,
        id: ConnectionId,
        key: Arc<Key>,
        claims: Claims,
        connections: &mut Connections,
        context: &mut Context,
    ) -> Switched {
        let Some(session) = connections.open_mut(id) else {
            return Switched::default();
        };
        // Its own metadata is for `welcome` only.
        let grant = Grant {
            metadata: None,
            ..Grant::new(claims, context.now)
        };
        session.key = key;
        session.grant = Some(Box::new(grant));
        let (permissions, peer) = (session.permissions(), session.peer.clone());
        let has_presence = permissions.may(Action::Presence);
        let (mut ended, mut kept) = (Ended::new(), SmallVec::<[ChannelSlot; 4]>::new());
        let mut is_new = false;
        for membership in &session.memberships {
            let Some(channel) = self.get(membership.channel) else {
                continue;
            };
            let name = channel.key.name.as_str();
            let member = channel.members.get(membership.index as usize);
            match permissions.check(Action::Subscribe, Some(name)) {
                Ok(()) => {
                    kept.push(membership.channel);
                    is_new |= member.is_some_and(|member| !member.interest.presence);
                }
                Err(_) => ended.push((membership.channel, channel.key.clone())),
            }
        }
        for (slot, channel) in &ended {
            context.leave_silently(id, peer.clone(), channel.clone(), LeaveCause::Ended);
            self.remove_member(id, *slot, connections, context);
        }
        // All of them or none, so that a client need not know which ones.
        let mut shown = SmallVec::new();
        for slot in kept {
            if !has_presence {
                self.end_presence(id, slot, connections, context);
            } else if is_new {
                // What it is told of the channel until now goes before the ack.
                self.copy_out(id, slot, connections, context);
                shown.push(slot);
            }
        }
        Switched { ended, shown }
    }

    /// A member is told no longer who comes and goes. Its channel's owner tells this shard as
    /// before, until the connection leaves.
    fn end_presence(
        &mut self,
        id: ConnectionId,
        slot: ChannelSlot,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Some(place) = self.copy_out(id, slot, connections, context) else {
            return;
        };
        if let Some(channel) = self.get_mut(slot)
            && let Some(member) = channel.members.get_mut(place)
        {
            member.interest.presence = false;
        }
    }

    /// Puts into the outbox of a member what it was to get until now. Returns its place.
    fn copy_out(
        &mut self,
        id: ConnectionId,
        slot: ChannelSlot,
        connections: &mut Connections,
        context: &mut Context,
    ) -> Option<usize> {
        let place = connections[id].place_in(slot)?;
        self.copy_out_member(slot, place, connections, context);
        Some(place)
    }

    /// A member is told again who comes and goes: first who is there. What is sent to its channel
    /// from now on follows that.
    fn begin_presence(
        &mut self,
        id: ConnectionId,
        slot: ChannelSlot,
        (request_id, read_ns): (Option<&str>, u64),
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Some(place) = connections[id].place_in(slot) else {
            return;
        };
        let channel = self.get(slot);
        let member = channel.and_then(|it| Some((it.key.clone(), it.members.get(place)?)));
        let Some((channel, member)) = member else {
            return;
        };
        let sender_metadata = member.interest.sender_metadata;
        let end = connections[id].outbox.end();
        let Some(session) = connections.open_mut(id) else {
            return;
        };
        let joining = session.joining.get_or_insert_default();
        joining.snapshots.push_back(AwaitedSnapshot {
            channel: channel.clone(),
            slot: Some(slot),
            number: joining.next,
            sender_metadata,
            snapshot: None,
            // As behind the ack of a `subscribe`.
            state: match request_id {
                Some(_) => State::Acked { end },
                None => State::Written { from_ms: 0 },
            },
            replay: Replay::default(),
            held: Vec::new(),
            read_ns,
        });
        self.set_waits(id, slot, true, connections);
        connections.ask_for_snapshot(id, channel, (sender_metadata, read_ns), context);
        connections.debug_check_joins(id, context);
    }
}

/// What a token proves for a session; else the error and its cause.
fn judge(
    session: &Session,
    token: Option<&str>,
    context: &Context,
) -> Result<(Arc<Key>, Claims), (ErrorCode, Cause)> {
    if session.grant.is_none() {
        return Err((ErrorCode::ActionNotPermitted, Cause::ActionNotPermitted));
    }
    let token = token.ok_or((ErrorCode::InvalidToken, Cause::InvalidToken))?;
    let credential = credential::of_token(&context.rights, token, context.now);
    let credential = credential.map_err(|fault| {
        let code = match fault {
            CredentialFault::KeyUnreadable => ErrorCode::InternalError,
            _ => ErrorCode::InvalidToken,
        };
        let shown = Shown::of_token(&context.rights, token);
        (code, shown.refused(&fault, 0).cause)
    })?;
    let key = credential.key;
    let claims = credential.claims.filter(|claims| {
        let is_same_peer = *claims.sub == *session.peer.id.as_str();
        is_same_peer && key.app.index == session.key.app.index
    });
    let claims = claims.ok_or((ErrorCode::PeerMismatch, Cause::PeerMismatch))?;
    Ok((key, claims))
}

impl Connections {
    /// Lets a `refresh` go on, if no join is on its way any more.
    pub(in crate::shard) fn release_refresh(&mut self, id: ConnectionId) {
        let session = self.session(id);
        let joining = session.and_then(|session| session.joining.as_ref());
        if joining.is_some_and(|it| it.refresh.is_some() && it.is_quiet()) {
            self.release_input(id, Held::REFRESH);
        }
    }

    fn ack_refresh(
        &mut self,
        id: ConnectionId,
        (request_id, read_ns): (Option<&str>, u64),
        snapshots: usize,
        context: &mut Context,
    ) {
        let grant = self.session(id).and_then(|session| session.grant.as_ref());
        let expires_sec = grant.map(|grant| grant.expires_sec);
        if let Some((request_id, expires_sec)) = request_id.zip(expires_sec) {
            let mut frame = std::mem::take(&mut context.encoded);
            frame.clear();
            encode::refreshed(&mut frame, request_id, expires_sec, snapshots);
            self.reply(id, &frame, read_ns, context);
            context.encoded = frame;
        }
    }

    fn tell_ended(&mut self, id: ConnectionId, channel: &SharedChannel, context: &mut Context) {
        let mut frame = std::mem::take(&mut context.encoded);
        frame.clear();
        encode::subscription_ended(&mut frame, channel);
        self.queue_reply(id, &frame, context);
        context.encoded = frame;
    }
}
