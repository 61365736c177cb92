//! What a quiet shard hands over.
//!
//! Each struct is taken apart whole: a field that is added later has to be dealt with here before
//! anything compiles.

use std::collections::BTreeMap;

use ahash::AHashMap;
use smallvec::SmallVec;

use crate::domain::app_id::AppTag;
use crate::domain::channel::adopt::Past;
use crate::domain::roster::Interest;
use crate::ids::{AppIndex, ConnectionId, ConnectionRef, KeyIndex, ShardId};
use crate::proto::http::body::BodyState;
use crate::proto::http::response::ResponseHeader;
use crate::proto::wire::position::Since;
use crate::proto::ws::close::CloseCode;
use crate::proto::ws::message::{Decoder, Server};
use crate::shard::channel::channels::{Channels, LocalChannel};
use crate::shard::connection::connections::{
    Awaited, Connection, Connections, Held, Http, Membership, PartialRequest, Phase, Ping, Session,
};
use crate::shard::connection::ending::{Account, Ending, Why};
use crate::shard::connection::joining::{
    AwaitedRefresh, AwaitedSnapshot, Joining, State, Wanted, is_written,
};
use crate::shard::connection::permissions::Grant;
use crate::shard::connection::progress::NEVER_MS;
use crate::shard::connection::refusal::Refusal;
use crate::shard::handover::rates::rates_record;
use crate::shard::handover::record::{
    AccountRecord, AwaitedRecord, BodyRecord, ChannelRecord, CodingRecord, ConnectionRecord,
    EndingRecord, FragmentsRecord, GrantRecord, HttpRecord, JoinRecord, JoiningRecord,
    MembershipRecord, PeerRecord, PingRecord, RefreshRecord, RefusalRecord, SessionRecord,
    SinceRecord, SnapshotRecord, StageRecord, WantedRecord,
};
use crate::shard::handover::state::{StateWriter, TooLarge};
use crate::shard::outbound::outbox::Outbox;
use crate::shard::rest::unread::Unread;
use crate::shard::state::Shard;

/// What is handed over, and to whom it belongs.
#[derive(Debug)]
pub struct Exported {
    /// The records, see [`Handed`](crate::shard::handover::Handed).
    pub state: Vec<u8>,
    /// The connections in the order of their records.
    pub connections: Vec<ConnectionId>,
}

/// What records of connections are made with.
struct Exporter<'s> {
    writer: StateWriter,
    channels: &'s Channels,
    connections: &'s Connections,
    unread: &'s Unread,
    /// The keys by their numbers, for sessions that have ended.
    keys: AHashMap<(AppIndex, KeyIndex), (String, String)>,
}

impl Shard {
    /// As [`export_within`](Self::export_within), however large it is.
    #[expect(
        clippy::expect_used,
        reason = "nothing is larger than the largest number"
    )]
    pub fn export(&mut self) -> Exported {
        self.export_within(usize::MAX).expect("no bound")
    }

    /// What a [quiet](Self::is_quiet) shard hands over to another process. It is as it was
    /// afterwards, but for copies of what many connections wait for: it can go on.
    ///
    /// # Errors
    /// Its state has more than `bytes_max` bytes. It takes no more memory than that and its largest
    /// record.
    pub fn export_within(&mut self, bytes_max: usize) -> Result<Exported, TooLarge> {
        debug_assert!(self.is_frozen() && self.is_quiet());
        for slot in self.channels.slots() {
            self.channels
                .copy_out_channel(slot, &mut self.connections, &mut self.context);
        }
        self.check_what_is_left();
        let Self {
            context,
            connections,
            channels,
            rest,
            ..
        } = &*self;
        let hasher = context.placement.hasher();
        let mut keys = AHashMap::with_hasher(hasher.clone());
        for key in context.rights.keys() {
            let names = (key.app.id.to_string(), key.id.to_string());
            keys.insert((key.app.index, key.index), names);
        }
        let mut exporter = Exporter {
            writer: StateWriter::new(context.id().shard(), bytes_max, hasher),
            channels,
            connections,
            unread: &rest.unread,
            keys,
        };
        if context.id().shard() == ShardId(0) {
            exporter.writer.rates(&rates_record(context));
            exporter.writer.check()?;
        }
        let mut exported = Vec::with_capacity(connections.len());
        for connection in connections.iter() {
            let record = exporter.connection(connection);
            exporter.writer.connection(&record);
            exporter.writer.check()?;
            exported.push(connection.id);
        }
        let apps = context.rights.apps();
        let apps: BTreeMap<AppTag, &str> = apps.map(|app| (app.id.tag(), &*app.id)).collect();
        for (_, channel) in channels.iter() {
            // Nobody asks for what was kept for an app that is gone.
            if let Some(app) = apps.get(&channel.key.app) {
                exporter.channel(app, channel);
                exporter.writer.check()?;
            }
        }
        Ok(Exported {
            state: exporter.writer.finish()?,
            connections: exported,
        })
    }
}

impl Exporter<'_> {
    /// A time by which peers are measured, on the clock.
    fn on_clock(&self, peer_ms: u64) -> u64 {
        match peer_ms {
            NEVER_MS => NEVER_MS,
            // What times by which peers are measured are behind the clock.
            _ => peer_ms.saturating_add(self.connections.forgiven_ms),
        }
    }

    fn connection(&mut self, connection: &Connection) -> ConnectionRecord {
        let Connection {
            id,
            remote,
            input,
            leaves_with,
            stream_ended,
            is_unreachable,
            outbox,
            phase,
            received_ms,
            // Nobody has been asked for anything; what waits to be asked is counted anew.
            awaited_bytes: _,
            awaited_messages: _,
            ping,
            blocked,
            awaited,
            has_shown_credential,
            // A timer is set anew.
            timer_ms: _,
            held,
            // What waits is offered anew.
            dirty: _,
            // It has been copied.
            borrows: _,
            lent_bytes: _,
            ended_by,
            // Said of what is over.
            held_for: _,
            // The socket fails again.
            failed: _,
            account,
            ending,
        } = connection;
        ConnectionRecord {
            slot: id.slot,
            generation: id.generation,
            remote: *remote,
            input: input.bytes().to_vec().into(),
            outbox: outbox.hand_over(),
            stage: self.stage(phase, outbox),
            received_ms: self.on_clock(*received_ms),
            ended_by: ended_by.number(),
            leaves_with: leaves_with.map(CloseCode::get),
            stream_ended: *stream_ended,
            is_unreachable: *is_unreachable,
            ping: self.ping(*ping),
            blocked: blocked
                .since()
                .map(|(since_ms, taken)| (self.on_clock(since_ms), taken as u64)),
            awaited: self.awaited(*awaited),
            has_shown_credential: *has_shown_credential,
            // What waits in a line for a channel finds out anew whether it has to. Other reasons
            // follow from what waits.
            resumes: held.has(Held::RESUMING) || held.has(Held::FAN_OUT),
            account: account_record(*account),
            ending: ending.as_deref().map(|ending| self.ending(ending)),
            pardoned_bytes: self.connections.pardon_of(connection),
            unread: self.unread(*id),
        }
    }

    fn unread(&mut self, id: ConnectionId) -> Option<(u32, u64)> {
        let (key, bytes) = self.unread.of_connection(id)?;
        Some((self.writer.key(&key.app.id, &key.id), bytes as u64))
    }

    fn ping(&self, ping: Ping) -> PingRecord {
        match ping {
            Ping::None => PingRecord::None,
            Ping::Queued => PingRecord::Queued,
            Ping::Written { at_ms } => PingRecord::Written(self.on_clock(at_ms)),
        }
    }

    fn awaited(&self, awaited: Awaited) -> AwaitedRecord {
        match awaited {
            Awaited::Since(since_ms) => AwaitedRecord::Since(self.on_clock(since_ms)),
            Awaited::NotNow(left_ms) => AwaitedRecord::NotNow(left_ms),
        }
    }

    fn ending(&mut self, ending: &Ending) -> EndingRecord {
        let Ending {
            why: Why { cause, by, code },
            app,
            key,
            peer,
            queued_bytes,
            channels,
        } = ending;
        let names = self.keys.get(&(*app, *key)).cloned();
        EndingRecord {
            cause: cause.as_str().to_owned(),
            by: by.as_str().to_owned(),
            code: *code,
            key: names.map(|(app, id)| self.writer.key(&app, &id)),
            peer: PeerRecord::of(peer),
            queued_bytes: *queued_bytes,
            channels: *channels,
        }
    }

    fn stage(&mut self, phase: &Phase, outbox: &Outbox) -> StageRecord {
        match phase {
            Phase::Http(http) => StageRecord::Http(self.http(http)),
            // A quiet shard has none of the first kind.
            Phase::Registering(session) | Phase::Open(session) => {
                StageRecord::Open(Box::new(self.session(session, outbox)))
            }
            Phase::Closing { decoder, until_ms } => {
                StageRecord::Closing(fragments(decoder), self.on_clock(*until_ms))
            }
            Phase::Lingering { until_ms } => StageRecord::Lingering(self.on_clock(*until_ms)),
        }
    }

    fn http(&self, http: &Http) -> HttpRecord {
        let Http {
            scanned,
            deadline_ms,
            reused,
            body,
            // It is measured anew.
            began_ns: _,
            // It follows from the head.
            route: _,
        } = http;
        HttpRecord {
            scanned: *scanned,
            deadline_ms: self.on_clock(*deadline_ms),
            reused: *reused,
            body: body.as_deref().map(body_record),
        }
    }

    fn session(&mut self, session: &Session, outbox: &Outbox) -> SessionRecord {
        let Session {
            key,
            peer,
            grant,
            decoder,
            bucket,
            memberships,
            joining,
            drain_ms,
            is_counted,
            // What it is pardoned at the end of this pause is another one.
            pardoned_bytes: _,
        } = session;
        let app = &*key.app.id;
        SessionRecord {
            key: self.writer.key(app, &key.id),
            peer: PeerRecord::of(peer),
            grant: grant.as_deref().map(grant_record),
            fragments: fragments(decoder),
            bucket: bucket.spent(),
            memberships: self.memberships(app, memberships),
            joining: joining
                .as_deref()
                .map(|joining| self.joining(app, joining, outbox)),
            drain_ms: *drain_ms,
            is_counted: *is_counted,
        }
    }

    fn memberships(
        &mut self,
        app: &str,
        memberships: &SmallVec<[Membership; 2]>,
    ) -> Vec<MembershipRecord> {
        let channels = self.channels;
        let found = memberships.iter().filter_map(|membership| {
            let Membership { channel, index } = *membership;
            let channel = channels.get(channel)?;
            Some((channel, channel.members.get(index as usize)?.interest))
        });
        let record = |(channel, interest): (&LocalChannel, _)| {
            let Interest {
                presence,
                sender_metadata,
            } = interest;
            MembershipRecord {
                channel: self.writer.name(app, channel.key.name.as_str()),
                presence,
                sender_metadata,
            }
        };
        found.map(record).collect()
    }

    fn joining(&mut self, app: &str, joining: &Joining, outbox: &Outbox) -> JoiningRecord {
        let Joining {
            next,
            // A quiet shard has asked nobody.
            asked: _,
            snapshots,
            directs,
            directs_bytes: _,
            parked,
            refresh,
        } = joining;
        let snapshots = snapshots.iter();
        let directs = directs.iter();
        JoiningRecord {
            next: *next,
            snapshots: snapshots.map(|it| self.snapshot(app, it, outbox)).collect(),
            directs: directs
                .map(|(first, frame, _)| (*first, frame.to_vec().into()))
                .collect(),
            parked: parked.as_deref().map(|it| self.wanted(app, it)),
            refresh: refresh.as_deref().map(|it| {
                let AwaitedRefresh { token, command } = it;
                RefreshRecord {
                    token: token.as_deref().map(str::to_owned),
                    request_id: command.reply_to.id().map(str::to_owned),
                }
            }),
        }
    }

    fn snapshot(
        &mut self,
        app: &str,
        awaited: &AwaitedSnapshot,
        outbox: &Outbox,
    ) -> SnapshotRecord {
        let AwaitedSnapshot {
            channel,
            slot,
            number,
            sender_metadata,
            snapshot,
            state,
            replay,
            held,
            read_ns: _,
        } = awaited;
        let left = |end: u32| match is_written(outbox, end) {
            true => 0,
            false => end.wrapping_sub(outbox.position()),
        };
        SnapshotRecord {
            channel: self.writer.name(app, channel.name.as_str()),
            waits: slot.is_some(),
            number: *number,
            sender_metadata: *sender_metadata,
            snapshot: snapshot.as_ref().map(|it| it.hand_over().into()),
            state: match *state {
                State::Acked { end } => JoinRecord::Acked(left(end)),
                State::Written { from_ms } => JoinRecord::Written(from_ms),
                State::ReplayDue => JoinRecord::ReplayDue,
                State::Replaying { end } => JoinRecord::Replaying(left(end)),
                State::Queued { end } => JoinRecord::Queued(left(end)),
            },
            replay: replay.parts().map(|part| part.to_vec().into()).collect(),
            replay_count: replay.count(),
            held: held.clone().into(),
        }
    }

    fn wanted(&mut self, app: &str, wanted: &Wanted) -> WantedRecord {
        let Wanted {
            channel,
            interest,
            since,
            command,
        } = wanted;
        WantedRecord {
            channel: self.writer.name(app, channel.name.as_str()),
            presence: interest.presence,
            sender_metadata: interest.sender_metadata,
            since: since.map(|since| match since {
                Since::Now => SinceRecord::Now,
                Since::After(epoch, seq) => {
                    SinceRecord::After(epoch.map(|it| it.as_str().to_owned()), seq)
                }
                Since::Last(count) => SinceRecord::Last(count),
            }),
            request_id: command.reply_to.id().map(str::to_owned),
        }
    }

    /// A channel that this shard owns.
    fn channel(&mut self, app: &str, channel: &LocalChannel) {
        let LocalChannel {
            key,
            // They follow from the connections.
            members: _,
            // Everybody has it.
            fan_out: _,
            unoffered: _,
            owned,
            // Nothing is to be announced.
            batched: _,
            announce_ms: _,
            barrier_ms: _,
            history,
            // It is decided anew whether it has history.
            judged: _,
        } = channel;
        if owned.is_none() && history.is_none() {
            return;
        }
        let owned = owned.as_deref();
        let Past {
            announced_ms,
            published,
            window,
            fed,
        } = owned.map(|it| it.past()).unwrap_or_default();
        let homes = owned.into_iter().flat_map(|it| it.homes());
        let several = owned.into_iter().flat_map(|it| it.roster().several());
        let place = |it: &ConnectionRef| (it.home.shard().0, it.connection.slot);
        let history = history.as_deref();
        let record = ChannelRecord {
            channel: self.writer.name(app, key.name.as_str()),
            members: homes.map(|home| home.member_count).sum(),
            tabs: several
                .map(|tabs| tabs.iter().map(place).collect())
                .collect(),
            announced_ms,
            fed,
            published,
            window,
            history: history.map(|it| it.history.hand_over(it.until_ms, it.last_use())),
        };
        self.writer.channel(&record);
    }
}

fn fragments(decoder: &Decoder<Server>) -> Option<FragmentsRecord> {
    let (is_text, bytes) = decoder.open_message()?;
    let bytes = bytes.into();
    Some(FragmentsRecord { is_text, bytes })
}

fn grant_record(grant: &Grant) -> GrantRecord {
    let Grant {
        patterns,
        actions,
        expires_sec,
        closes_ms,
        // It has gone with `welcome`.
        metadata: _,
    } = grant;
    let patterns = patterns.as_deref();
    GrantRecord {
        patterns: patterns.map(|it| it.iter().map(|it| it.as_str().to_owned()).collect()),
        actions: actions.map(|it| it.names().map(str::to_owned).collect()),
        expires_sec: *expires_sec,
        closes_ms: *closes_ms,
    }
}

fn body_record(body: &PartialRequest) -> BodyRecord {
    let PartialRequest {
        bytes,
        head_bytes,
        decoder,
        verdict,
    } = body;
    let refusal = verdict.as_ref().err().map(|refusal| {
        let Refusal {
            error,
            message,
            header,
            ends_connection,
        } = refusal;
        RefusalRecord {
            status: error.status().code(),
            code: error.code().to_owned(),
            message: message.to_string(),
            retry_after_sec: match header {
                Some(ResponseHeader::RetryAfterSec(seconds)) => Some(*seconds),
                _ => None,
            },
            ends_connection: *ends_connection,
        }
    });
    BodyRecord {
        bytes: bytes.clone().into(),
        head_bytes: *head_bytes as u32,
        coding: match decoder.state() {
            BodyState::Length(left) => CodingRecord::Length(left),
            BodyState::Chunked(it) => CodingRecord::Chunked(
                it.next,
                it.size,
                it.digits,
                it.allowance,
                it.extension_bytes,
                it.trailer_bytes,
            ),
        },
        refusal,
    }
}

fn account_record(account: Account) -> AccountRecord {
    let Account {
        bytes_in,
        bytes_out,
        opened_ms,
        messages_in,
    } = account;
    AccountRecord {
        bytes_in,
        bytes_out,
        opened_ms,
        messages_in,
    }
}
