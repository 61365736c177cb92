//! What a shard has beside what it hands over, and why that stays behind.
//!
//! Each struct is taken apart whole, as in `export`: what is added later has to be dealt with here
//! before anything compiles.

use crate::shard::channel::channels::Channels;
use crate::shard::channel::pressure::{BackPressure, Lags};
use crate::shard::connection::connections::{Connections, Unauthenticated};
use crate::shard::context::Context;
use crate::shard::peer::peers::Peers;
use crate::shard::state::Shard;

impl Shard {
    /// Panics in debug builds if something would be lost with this shard.
    pub(super) fn check_what_is_left(&self) {
        let Self {
            context,
            connections,
            channels,
            peers,
            // Answers that have not been read go with their connections.
            rest: _,
            // Rights are walked through anew, and timers come again. The rest is empty.
            portions,
            // An operator's question ends with the process that was asked, and is asked again.
            walks: _,
        } = self;
        debug_assert!(!portions.any_of_others(), "a portion of some work is left");
        context.check_what_is_left();
        connections.check_what_is_left();
        channels.check_what_is_left();
        let Peers {
            // It follows from the connections.
            registry: _,
            scopes,
        } = peers;
        debug_assert!(scopes.is_empty(), "a direct message is on its way");
    }
}

impl Context {
    fn check_what_is_left(&self) {
        let Self {
            // Another process has its own.
            config: _,
            placement: _,
            tuning: _,
            rights: _,
            entropy: _,
            pool: _,
            http_date: _,
            // It counts who is closed for rights that came last; they come anew.
            closed_for_rights: _,
            // The first shard hands them over, for all.
            connect_rates: _,
            now: _,
            stamp_ns: _,
            // What concerns sockets is asked for anew. Nothing else is left.
            effects: _,
            loopback,
            // Nothing is on its way: all are free.
            links: _,
            encoded: _,
            encoded_with_metadata: _,
            numbered: _,
            stores,
            slow,
            questions,
            // What was counted is reported before, and leases are given back.
            usage: _,
            // Another process counts from 0, which is what Prometheus expects of it.
            metrics: _,
            // What was recorded ends with the process. Who is connected is recorded again as
            // opened, so that each end has its beginning.
            events: _,
            // An operator's trace ends with the process that was asked for it.
            tracing: _,
            // A cursor of another process is answered with the present state, as after a restart.
            feed: _,
            // The driver says so again at once.
            memory_level: _,
            // Nobody hands over who is about to end.
            shutdown: _,
            retry_after_ms: _,
            is_frozen: _,
            // What shards have exchanged counts for one process.
            mesh_received: _,
        } = self;
        let is_settled = loopback.is_empty() && slow.is_empty() && questions.is_empty();
        debug_assert!(is_settled && stores.are_settled(), "somebody waits");
    }
}

impl Connections {
    fn check_what_is_left(&self) {
        let Self {
            // They are handed over.
            slots: _,
            // All are counted anew.
            count: _,
            websockets: _,
            // Timers are set anew, for the times that hold then.
            to_rearm: _,
            timers: _,
            // Each connection says whether it is among these.
            resumable: _,
            unauthenticated:
                Unauthenticated {
                    count: _,
                    // They are put into the order in which they were last waited for.
                    oldest: _,
                },
            // What each is pardoned goes with it.
            pardons: _,
            // Times are handed over on the clock.
            forgiven_ms: _,
            // The pause is forgiven by whoever goes on, and with it what was before.
            stalled: _,
            // The driver says so again.
            heard_ms: _,
            // Counted for one process.
            met: _,
        } = self;
    }
}

impl Channels {
    fn check_what_is_left(&self) {
        let parts = self.parts_left();
        debug_assert!(parts.iter().all(|it| *it == 0), "a channel is at work");
        let BackPressure {
            // Turns are those of one process. What has not been offered presses again.
            turn: _,
            offered: _,
            tight: _,
            overfed: _,
            choked: _,
            turn_bytes: _,
            fed: _,
            waiting,
            next_turn,
            // Whether a channel lags is found out anew, from members that are blocked: at worst
            // its publishers wait for one more lag, as long as it may be. Nothing is kept for it.
            lags:
                Lags {
                    here: _,
                    order: _,
                    suspects: _,
                    look_ms: _,
                    kept_bytes,
                },
            // Publishers in lines go on, and wait again if they have to.
            holds: _,
        } = &self.pressure;
        let is_empty = waiting.is_empty() && next_turn.is_empty() && *kept_bytes == 0;
        debug_assert!(is_empty, "something was put off");
    }
}
