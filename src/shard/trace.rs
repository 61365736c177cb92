//! What is published and sent, recorded for an operator who traces one peer or channel: who, to
//! whom, how much, and never what.
//!
//! While nothing is traced that costs a message one branch.

use std::sync::Arc;

use crate::domain::app_id::AppTag;
use crate::domain::trace::{Trace, Traced};
use crate::events::kind::{Cause, Kind};
use crate::events::record::Record;
use crate::shard::context::Context;
use crate::shard::mesh_message::Publisher;
use crate::shard::outbound::encode;
use crate::shard::tracing::{RECORDS_PER_SECOND_MAX, SECOND_MS, Tracing};

impl Context {
    /// Traces something from now on, in place of what was traced before.
    pub(in crate::shard) fn set_trace(&mut self, trace: Arc<Trace>) {
        let now_ms = self.now.mono_ms;
        self.tracing = (trace.for_ms > 0).then(|| {
            Box::new(Tracing {
                until_ms: now_ms + trace.for_ms,
                trace,
                second_ms: now_ms,
                left: RECORDS_PER_SECOND_MAX,
                skipped: 0,
            })
        });
    }

    /// Whether something is traced.
    #[inline(always)]
    pub(in crate::shard) fn is_tracing(&self) -> bool {
        self.tracing.is_some()
    }

    /// Records a publication with as many bytes as its frame has, if it is traced.
    #[cold]
    #[inline(never)]
    pub(in crate::shard) fn trace_publication(
        &mut self,
        (app, channel): (AppTag, &str),
        from: &Publisher,
        bytes: usize,
        members: u64,
    ) {
        let peer = from.peer.id.as_str();
        let is_meant = |traced: &Traced| match traced {
            Traced::Peer(id) => **id == *peer,
            Traced::Channel(name) => **name == *channel,
        };
        let numbers = [bytes as u64, members];
        let record = Record {
            numbers: &numbers,
            first: peer,
            second: channel,
            ..Record::new(Kind::Traced, Cause::Published)
        };
        self.trace(app, is_meant, record);
    }

    /// The same for one whose frame is there no more.
    #[cold]
    #[inline(never)]
    pub(in crate::shard) fn trace_published(
        &mut self,
        (app, channel): (AppTag, &str),
        from: &Publisher,
        data: &str,
        members: u64,
    ) {
        let mut frame = Vec::new();
        let name = serde_json::Value::from(channel).to_string();
        encode::message(&mut frame, &name, &from.peer, data);
        self.trace_publication((app, channel), from, frame.len(), members);
    }

    /// Records a direct message that is on its way, if it is traced.
    #[cold]
    #[inline(never)]
    pub(in crate::shard) fn trace_send(
        &mut self,
        app: AppTag,
        (from, to): (&str, &str),
        bytes: usize,
    ) {
        let is_meant = |traced: &Traced| match traced {
            Traced::Peer(id) => **id == *from || **id == *to,
            Traced::Channel(_) => false,
        };
        let numbers = [bytes as u64];
        let record = Record {
            is_to: true,
            numbers: &numbers,
            first: from,
            second: to,
            ..Record::new(Kind::Traced, Cause::Sent)
        };
        self.trace(app, is_meant, record);
    }

    fn trace(&mut self, app: AppTag, is_meant: impl Fn(&Traced) -> bool, mut record: Record<'_>) {
        let now_ms = self.now.mono_ms;
        let Some(tracing) = &mut self.tracing else {
            return;
        };
        if now_ms >= tracing.until_ms {
            self.tracing = None;
            return;
        }
        if tracing.trace.tag != app || !is_meant(&tracing.trace.traced) {
            return;
        }
        if now_ms >= tracing.second_ms + SECOND_MS {
            tracing.second_ms = now_ms;
            tracing.left = RECORDS_PER_SECOND_MAX;
        }
        if tracing.left == 0 {
            tracing.skipped = tracing.skipped.saturating_add(1);
            return;
        }
        tracing.left -= 1;
        record.app = Some(tracing.trace.app);
        record.count = 1 + std::mem::take(&mut tracing.skipped);
        self.record(&record);
    }
}
