//! One connection, taken over from its record.

use smallvec::SmallVec;

use crate::domain::peer::SharedChannel;
use crate::domain::roster::Interest;
use crate::domain::token_bucket::TokenBucket;
use crate::events::kind::{By, Cause};
use crate::ids::{AppIndex, ConnectionId, KeyIndex};
use crate::metrics::label::EndedBy;
use crate::proto::actions::Actions;
use crate::proto::http::body::{BodyDecoder, BodyState};
use crate::proto::http::chunked::ChunkedState;
use crate::proto::http::error::ApiError;
use crate::proto::http::head::parse_head;
use crate::proto::http::response::ResponseHeader;
use crate::proto::http::target::Target;
use crate::proto::pattern::Pattern;
use crate::proto::wire::position::{Epoch, Since};
use crate::proto::ws::close::CloseCode;
use crate::proto::ws::frame::are_whole_frames;
use crate::proto::ws::message::{Decoder, Server};
use crate::shard::connection::connections::{
    Awaited, Connection, Held, Http, Membership, PartialRequest, Phase, Ping, Session,
};
use crate::shard::connection::ending::{Account, Ending, Failed, Why};
use crate::shard::connection::input_buffer::InputBuffer;
use crate::shard::connection::joining::{AwaitedRefresh, AwaitedSnapshot, Joining, State, Wanted};
use crate::shard::connection::permissions::Grant;
use crate::shard::connection::progress::{Blocked, NEVER_MS};
use crate::shard::connection::refusal::Refusal;
use crate::shard::effect::ChannelSlot;
use crate::shard::frame::Frame;
use crate::shard::handover::import::{NUMBER_MAX, Place, Tables};
use crate::shard::handover::record::{
    AccountRecord, AwaitedRecord, BodyRecord, CodingRecord, ConnectionRecord, EndingRecord,
    FragmentsRecord, GrantRecord, HttpRecord, JoinRecord, JoiningRecord, PeerRecord, PingRecord,
    RefusalRecord, SessionRecord, SinceRecord, SnapshotRecord, StageRecord, WantedRecord,
};
use crate::shard::handover::state::ImportError;
use crate::shard::history::replay::Replay;
use crate::shard::outbound::outbox::{Finish, Outbox};
use crate::shard::outbound::snapshot::Snapshot;
use crate::shard::questions::{Asked, PendingCommand};
use crate::shard::rest::route;
use crate::shard::state::Shard;

use ImportError::Wrong;

impl Shard {
    /// Takes over a connection that this shard is given.
    pub(super) fn take_over(&mut self, place: &Place<'_>) -> Result<(), ImportError> {
        let id = place.to.connection;
        if self.connections.at_slot(id.slot).is_some() {
            return Err(Wrong("two connections in one place"));
        }
        let connection = self.connection(id, place)?;
        let is_websocket = connection.ended_by != EndedBy::HTTP;
        let is_stranger = !connection.has_shown_credential;
        self.connections.insert(connection);
        self.connections.websockets += usize::from(is_websocket);
        if is_stranger {
            self.connections.unauthenticated.count += 1;
            self.connections.unauthenticated.oldest.push_back(id);
        }
        if let StageRecord::Open(session) = &place.record.stage {
            self.join_channels(id, session, place.tables)?;
            if let Some(joining) = &session.joining {
                self.take_joins_over(id, joining, place.tables)?;
            }
        }
        if let Some((key, bytes)) = place.record.unread {
            let bytes = (bytes as usize).min(self.connections[id].outbox.reply_bytes());
            self.rest.unread.set(id, place.tables.key(key)?, bytes);
        }
        self.connections.record_taken_over(id, &mut self.context);
        self.go_on_with(id, place.record);
        Ok(())
    }

    /// What follows from what was taken over: what is held back, written and waited for.
    fn go_on_with(&mut self, id: ConnectionId, record: &ConnectionRecord) {
        // A limit that is lower by now is no reason to close anybody either.
        let waiting = self.connections[id].delivery_bytes_waiting();
        let too_much = waiting.saturating_sub(self.context.delivery_bytes_max());
        let pardon = (record.pardoned_bytes as usize).max(too_much).min(waiting);
        self.connections.pardon(id, pardon as u32);
        self.connections.hold_if_unread(id);
        if record.resumes {
            self.connections.resume_later(id);
        }
        let connection = &mut self.connections[id];
        let outbox = &connection.outbox;
        if !outbox.is_empty() || outbox.finish_when_empty() != Finish::Open {
            connection.mark_dirty(&mut self.context.effects);
        }
        self.connections.arm(id, &mut self.context);
    }

    /// A time of the clock, as peers are measured by it here.
    fn for_peers(&self, clock_ms: u64) -> u64 {
        match clock_ms {
            NEVER_MS => NEVER_MS,
            _ => clock_ms
                .min(NUMBER_MAX)
                .saturating_sub(self.connections.forgiven_ms),
        }
    }

    fn connection(
        &mut self,
        id: ConnectionId,
        place: &Place<'_>,
    ) -> Result<Connection, ImportError> {
        let record = place.record;
        let outbox = Outbox::take_over(&record.outbox, &mut self.context.pool);
        let mut input = InputBuffer::default();
        input.append(&record.input);
        let leaves_with = record.leaves_with.map(CloseCode::from_wire);
        let received_ms = record.received_ms.min(NUMBER_MAX);
        let ending = record.ending.as_ref().map(|it| ending(it, place.tables));
        Ok(Connection {
            id,
            remote: record.remote,
            input,
            leaves_with: leaves_with
                .map(|it| it.ok_or(Wrong("a close code")))
                .transpose()?,
            stream_ended: record.stream_ended,
            is_unreachable: record.is_unreachable,
            outbox: outbox.ok_or(Wrong("an outbox"))?,
            phase: self.phase(place)?,
            received_ms: self.for_peers(received_ms),
            awaited_bytes: 0,
            awaited_messages: 0,
            ping: match record.ping {
                PingRecord::None => Ping::None,
                PingRecord::Queued => Ping::Queued,
                PingRecord::Written(at_ms) => Ping::Written {
                    at_ms: self.for_peers(at_ms.min(NUMBER_MAX)),
                },
            },
            blocked: record
                .blocked
                .map_or_else(Blocked::default, |(since_ms, taken)| {
                    let taken = taken.min(NUMBER_MAX) as usize;
                    Blocked::blocked_since(self.for_peers(since_ms.min(NUMBER_MAX)), taken)
                }),
            awaited: match record.awaited {
                AwaitedRecord::Since(since_ms) => {
                    Awaited::Since(self.for_peers(since_ms.min(NUMBER_MAX)))
                }
                AwaitedRecord::NotNow(left_ms) => Awaited::NotNow(left_ms.min(NUMBER_MAX)),
            },
            has_shown_credential: record.has_shown_credential,
            timer_ms: NEVER_MS,
            held: Held::default(),
            dirty: None,
            borrows: None,
            lent_bytes: 0,
            ended_by: EndedBy::of_number(record.ended_by),
            held_for: Held::default(),
            failed: Failed::No,
            account: account(record.account),
            ending: ending.transpose()?.map(Box::new),
        })
    }

    fn phase(&self, place: &Place<'_>) -> Result<Phase, ImportError> {
        Ok(match &place.record.stage {
            StageRecord::Http(http) => Phase::Http(self.http(http, place.record)?),
            StageRecord::Open(session) => Phase::Open(Box::new(self.session(session, place)?)),
            StageRecord::Closing(fragments, until_ms) => Phase::Closing {
                decoder: decoder(fragments.as_ref())?,
                until_ms: self.for_peers(*until_ms),
            },
            StageRecord::Lingering(until_ms) => Phase::Lingering {
                until_ms: self.for_peers(*until_ms),
            },
        })
    }

    fn http(&self, http: &HttpRecord, record: &ConnectionRecord) -> Result<Http, ImportError> {
        if http.scanned as usize > record.input.len() {
            return Err(Wrong("a head that has been looked at, and is not there"));
        }
        let body = http.body.as_ref().map(|body| self.body(body)).transpose()?;
        let route = body.as_ref().map(|(_, path)| route::label(path));
        Ok(Http {
            scanned: http.scanned,
            deadline_ms: self.for_peers(http.deadline_ms),
            reused: http.reused,
            body: body.map(|(body, _)| Box::new(body)),
            began_ns: self.context.stamp_ns,
            route,
        })
    }

    /// A request whose body is being read, and its path.
    fn body(&self, body: &BodyRecord) -> Result<(PartialRequest, String), ImportError> {
        let head = body.bytes.get(..body.head_bytes as usize);
        let head = head.and_then(|head| parse_head(head).ok());
        let head = head.ok_or(Wrong("a request's head"))?;
        let target = Target::parse(head.target).map_err(|_| Wrong("a request's target"))?;
        let state = match body.coding {
            CodingRecord::Length(left) => BodyState::Length(left),
            CodingRecord::Chunked(next, size, digits, allowance, extensions, trailers) => {
                BodyState::Chunked(ChunkedState {
                    next,
                    size,
                    digits,
                    allowance,
                    extension_bytes: extensions,
                    trailer_bytes: trailers,
                })
            }
        };
        let refusal = body.refusal.as_ref().map(|record| {
            let now = self.context.admit_request_again(&head, &target).err();
            refusal(record, now)
        });
        let partial = PartialRequest {
            bytes: body.bytes.to_vec(),
            head_bytes: body.head_bytes as usize,
            decoder: BodyDecoder::at(state).ok_or(Wrong("a request's body"))?,
            verdict: refusal.transpose()?.map_or(Ok(()), Err),
        };
        Ok((partial, target.path.to_owned()))
    }

    fn session(&self, session: &SessionRecord, place: &Place<'_>) -> Result<Session, ImportError> {
        let key = place.tables.key(session.key)?.clone();
        if session.is_counted {
            // The limit was kept when it came.
            let _ = key.app.gauges.connect(None);
        }
        let grant = session.grant.as_ref().map(grant).transpose()?;
        let (spent, as_of_ms) = session.bucket;
        Ok(Session {
            key,
            peer: place.peer.ok_or(Wrong("a session of nobody"))?.clone(),
            grant: grant.map(Box::new),
            decoder: decoder(session.fragments.as_ref())?,
            bucket: TokenBucket::with_spent((spent, as_of_ms.min(NUMBER_MAX))),
            memberships: SmallVec::new(),
            joining: None,
            drain_ms: session.drain_ms.map(|it| it.min(NUMBER_MAX)),
            is_counted: session.is_counted,
            pardoned_bytes: 0,
        })
    }

    fn join_channels(
        &mut self,
        id: ConnectionId,
        session: &SessionRecord,
        tables: &Tables,
    ) -> Result<(), ImportError> {
        for membership in &session.memberships {
            let slot = self
                .channels
                .find_or_insert(tables.channel(membership.channel)?);
            if self.connections[id].place_in(slot).is_some() {
                return Err(Wrong("a member twice"));
            }
            let interest = Interest {
                presence: membership.presence,
                sender_metadata: membership.sender_metadata,
            };
            let index = self.channels.push_member(slot, id.slot, interest);
            if let Some(session) = self.connections.open_mut(id) {
                session.memberships.push(Membership {
                    channel: slot,
                    index,
                });
            }
        }
        Ok(())
    }

    /// Joins that wait for the peer, and what waits for them.
    fn take_joins_over(
        &mut self,
        id: ConnectionId,
        record: &JoiningRecord,
        tables: &Tables,
    ) -> Result<(), ImportError> {
        let mut joining = Joining {
            next: record.next.min(NUMBER_MAX),
            ..Joining::default()
        };
        for it in &record.snapshots {
            joining.snapshots.push_back(self.snapshot(id, it, tables)?);
        }
        for (first, frame) in &record.directs {
            if !are_whole_frames(frame) {
                return Err(Wrong("a direct message"));
            }
            joining.directs_bytes += frame.len();
            let frame = Frame::from(&frame[..]);
            joining
                .directs
                .push_back((*first, frame, self.context.stamp_ns));
        }
        let in_order = joining
            .directs
            .iter()
            .is_sorted_by_key(|(first, ..)| *first);
        if !in_order {
            return Err(Wrong("direct messages out of their order"));
        }
        if let Some(wanted) = &record.parked {
            let wanted = self.wanted(id, wanted, tables)?;
            joining.park(wanted);
            self.connections[id].held.add(Held::JOINS);
        }
        if let Some(refresh) = &record.refresh {
            let is_awaited = !joining.is_quiet();
            joining.refresh = Some(Box::new(AwaitedRefresh {
                token: refresh.token.as_deref().map(Box::from),
                command: self.command(id, refresh.request_id.as_deref()),
            }));
            if is_awaited {
                self.connections[id].held.add(Held::REFRESH);
            }
        }
        if joining.is_over() {
            return Ok(());
        }
        if let Some(session) = self.connections.open_mut(id) {
            session.joining = Some(Box::new(joining));
        }
        Ok(())
    }

    fn snapshot(
        &mut self,
        id: ConnectionId,
        record: &SnapshotRecord,
        tables: &Tables,
    ) -> Result<AwaitedSnapshot, ImportError> {
        let channel = tables.channel(record.channel)?;
        let slot = match record.waits {
            true => Some(self.wait(id, channel)?),
            false => None,
        };
        let snapshot = record.snapshot.as_deref().map(|frames| {
            let snapshot = Snapshot::take_over(frames);
            snapshot.ok_or(Wrong("a snapshot"))
        });
        let snapshot = snapshot.transpose()?;
        let state = match record.state {
            JoinRecord::Acked(end) => State::Acked { end },
            JoinRecord::Written(from_ms) => State::Written {
                from_ms: from_ms.min(NUMBER_MAX),
            },
            JoinRecord::ReplayDue => State::ReplayDue,
            JoinRecord::Replaying(end) => State::Replaying { end },
            JoinRecord::Queued(end) if slot.is_none() && snapshot.is_none() => {
                State::Queued { end }
            }
            JoinRecord::Queued(_) => return Err(Wrong("a snapshot that is queued, and waits")),
        };
        match state {
            State::Written { from_ms } => self.channels.pauses.push_back((from_ms, id)),
            State::ReplayDue => self.channels.replaying.push_back(id),
            _ => {}
        }
        let mut parts = record.replay.iter();
        let are_good = parts.all(|part| !part.is_empty() && are_whole_frames(part));
        if !are_good || !are_whole_frames(&record.held) {
            return Err(Wrong("a replay"));
        }
        let parts = record.replay.iter();
        let parts = parts.map(|part| (Frame::from(&part[..]), 0..part.len()));
        Ok(AwaitedSnapshot {
            channel: channel.clone(),
            slot,
            number: record.number,
            sender_metadata: record.sender_metadata,
            snapshot,
            state,
            replay: Replay::new(parts.collect(), record.replay_count),
            held: record.held.to_vec(),
            read_ns: self.context.stamp_ns,
        })
    }

    /// The connection waits among the members of a channel.
    fn wait(
        &mut self,
        id: ConnectionId,
        channel: &SharedChannel,
    ) -> Result<ChannelSlot, ImportError> {
        let slot = self.channels.find_key(channel);
        let place = slot.and_then(|slot| self.connections[id].place_in(slot));
        let (Some(slot), Some(place)) = (slot, place) else {
            return Err(Wrong("a snapshot for nobody"));
        };
        let members = self.channels.get_mut(slot).map(|it| &mut it.members);
        if let Some(member) = members.and_then(|members| members.get_mut(place)) {
            member.waits = true;
        }
        Ok(slot)
    }

    fn wanted(
        &mut self,
        id: ConnectionId,
        record: &WantedRecord,
        tables: &Tables,
    ) -> Result<Wanted, ImportError> {
        Ok(Wanted {
            channel: tables.channel(record.channel)?.clone(),
            interest: Interest {
                presence: record.presence,
                sender_metadata: record.sender_metadata,
            },
            since: record.since.as_ref().map(|since| match since {
                SinceRecord::Now => Since::Now,
                SinceRecord::After(epoch, seq) => {
                    Since::After(epoch.as_deref().and_then(Epoch::parse), *seq)
                }
                SinceRecord::Last(count) => Since::Last(*count),
            }),
            command: self.command(id, record.request_id.as_deref()),
        })
    }

    /// A command that waits for joins, and counts among those that will be answered.
    fn command(&mut self, id: ConnectionId, request_id: Option<&str>) -> PendingCommand {
        let asked = Asked::Membership;
        self.connections
            .await_command(id, asked, request_id, &mut self.context)
    }
}

fn decoder(fragments: Option<&FragmentsRecord>) -> Result<Decoder<Server>, ImportError> {
    let mut decoder = Decoder::server();
    if let Some(FragmentsRecord { is_text, bytes }) = fragments {
        let gone_on = decoder.go_on_with(*is_text, bytes);
        gone_on.map_err(|_| Wrong("a message in pieces"))?;
    }
    Ok(decoder)
}

fn grant(record: &GrantRecord) -> Result<Grant, ImportError> {
    let patterns = record.patterns.as_ref().map(|sources| {
        let patterns = sources.iter().map(|source| Pattern::parse(source));
        patterns.collect::<Result<Box<[_]>, _>>()
    });
    let actions = record.actions.as_ref().map(Actions::parse);
    Ok(Grant {
        patterns: patterns.transpose().map_err(|_| Wrong("a pattern"))?,
        actions: actions.transpose().map_err(|_| Wrong("an action"))?,
        expires_sec: record.expires_sec.min(NUMBER_MAX),
        closes_ms: record.closes_ms,
        metadata: None,
    })
}

fn account(record: AccountRecord) -> Account {
    Account {
        bytes_in: record.bytes_in.min(NUMBER_MAX),
        bytes_out: record.bytes_out.min(NUMBER_MAX),
        opened_ms: record.opened_ms.min(NUMBER_MAX),
        messages_in: record.messages_in,
    }
}

fn ending(record: &EndingRecord, tables: &Tables) -> Result<Ending, ImportError> {
    let key = record.key.map(|key| tables.key(key)).transpose()?;
    Ok(Ending {
        why: Why {
            // A cause of another release may have no name here.
            cause: Cause::of_text(&record.cause).unwrap_or(Cause::None),
            by: By::of_text(&record.by).unwrap_or(By::Server),
            code: record.code,
        },
        app: key.map_or(AppIndex(u32::MAX), |key| key.app.index),
        key: key.map_or(KeyIndex(u32::MAX), |key| key.index),
        peer: PeerRecord::shared(&record.peer),
        queued_bytes: record.queued_bytes,
        channels: record.channels,
    })
}

/// The refusal of a record; if the same would be refused now, with the same headers.
fn refusal(record: &RefusalRecord, now: Option<Refusal>) -> Result<Refusal, ImportError> {
    let mut errors = ApiError::ALL.into_iter();
    let error =
        errors.find(|it| (it.status().code(), it.code()) == (record.status, record.code.as_str()));
    let error = error.ok_or(Wrong("an unknown error"))?;
    let header = record.retry_after_sec.map(ResponseHeader::RetryAfterSec);
    let now = now.filter(|now| now.error == error);
    Ok(Refusal {
        error,
        message: record.message.clone().into(),
        header: header.or_else(|| now.and_then(|now| now.header)),
        ends_connection: record.ends_connection,
    })
}
