//! `rooms`, `mixed` and `soak`: the same population of users, with different habits.

use clap::Args;

use crate::failure::Failure;
use crate::measure::trend;
use crate::report::result::RunResult;
use crate::report::units::bytes;
use crate::stamp::PAYLOAD_BYTES_MIN;
use crate::workload::day::{Day, Habits};
use crate::workload::{Plan, RunContext, Workload};

/// Series of these workloads, in this order.
pub(crate) const SERIES: [&str; 4] = ["chat", "signal", "room change", "reconnect"];

/// Options of `rooms`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RoomsOptions {
    /// Rooms
    #[arg(long, default_value_t = 100)]
    rooms: u32,
    /// Members of each
    #[arg(long, default_value_t = 8)]
    members: u32,
    /// Messages per second, over all rooms
    #[arg(long, default_value_t = 400.0)]
    rate: f64,
    /// Members that change rooms, per second
    #[arg(long, default_value_t = 20.0)]
    changes: f64,
    /// Bytes of each message's data
    #[arg(long, default_value_t = 128)]
    payload: usize,
}

/// Options of `mixed`.
#[derive(Debug, Clone, Args)]
pub(crate) struct MixedOptions {
    /// Users, each with one connection in one room
    #[arg(long, default_value_t = 1000)]
    users: u32,
    /// Users in a room, on average
    #[arg(long, default_value_t = 10)]
    room_size: u32,
    /// Chat messages per second, over all users
    #[arg(long, default_value_t = 300.0)]
    chat: f64,
    /// Room changes per second
    #[arg(long, default_value_t = 10.0)]
    changes: f64,
    /// Users per second that close and connect again
    #[arg(long, default_value_t = 5.0)]
    reconnects: f64,
    /// Signalling bursts per second: one user sends direct messages to another of its room
    #[arg(long, default_value_t = 5.0)]
    bursts: f64,
    /// Messages of a burst
    #[arg(long, default_value_t = 20)]
    burst_messages: u32,
    /// Bytes of each message's data
    #[arg(long, default_value_t = 300)]
    payload: usize,
}

/// Options of `soak`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SoakOptions {
    #[command(flatten)]
    mixed: MixedOptions,
}

impl RoomsOptions {
    fn habits(&self) -> Habits {
        Habits {
            users: self.rooms.saturating_mul(self.members),
            rooms: self.rooms,
            chat_per_s: self.rate,
            changes_per_s: self.changes,
            reconnects_per_s: 0.0,
            bursts_per_s: 0.0,
            burst_messages: 0,
            payload_bytes: self.payload,
        }
    }
}

impl MixedOptions {
    fn habits(&self) -> Habits {
        Habits {
            users: self.users,
            rooms: self.users.div_ceil(self.room_size.max(1)),
            chat_per_s: self.chat,
            changes_per_s: self.changes,
            reconnects_per_s: self.reconnects,
            bursts_per_s: self.bursts,
            burst_messages: self.burst_messages,
            payload_bytes: self.payload,
        }
    }
}

impl Habits {
    fn check(&self) -> Result<(), Failure> {
        let usage = |what: &str| Err(Failure::Usage(what.to_owned()));
        let rates = [
            self.chat_per_s,
            self.changes_per_s,
            self.reconnects_per_s,
            self.bursts_per_s,
        ];
        if rates.iter().any(|rate| !(0.0..1e9).contains(rate)) {
            return usage("rates must be 0 or more");
        }
        if self.users < 2 || self.rooms == 0 {
            return usage("there must be two users and a room at least");
        }
        if self.payload_bytes < PAYLOAD_BYTES_MIN {
            return usage(&format!("--payload must be at least {PAYLOAD_BYTES_MIN}"));
        }
        Ok(())
    }

    fn workloads(&self, run: &RunContext) -> Vec<Box<dyn Workload + Send>> {
        // More cores than rooms leave some of them without work.
        let one = |core| Box::new(Day::new(*self, run, core)) as Box<dyn Workload + Send>;
        (0..run.core_count).map(one).collect()
    }
}

impl Plan for RoomsOptions {
    fn check(&self) -> Result<(), Failure> {
        self.habits().check()
    }

    fn connection_count(&self) -> u64 {
        u64::from(self.habits().users)
    }

    fn series(&self) -> Vec<&'static str> {
        SERIES.to_vec()
    }

    fn unit(&self) -> &'static str {
        "delivery"
    }

    fn workloads(&self, run: &RunContext) -> Vec<Box<dyn Workload + Send>> {
        self.habits().workloads(run)
    }
}

impl Plan for MixedOptions {
    fn check(&self) -> Result<(), Failure> {
        self.habits().check()
    }

    fn connection_count(&self) -> u64 {
        u64::from(self.users)
    }

    fn series(&self) -> Vec<&'static str> {
        SERIES.to_vec()
    }

    fn unit(&self) -> &'static str {
        "delivery"
    }

    fn workloads(&self, run: &RunContext) -> Vec<Box<dyn Workload + Send>> {
        self.habits().workloads(run)
    }
}

impl Plan for SoakOptions {
    fn check(&self) -> Result<(), Failure> {
        self.mixed.check()
    }

    fn connection_count(&self) -> u64 {
        self.mixed.connection_count()
    }

    fn series(&self) -> Vec<&'static str> {
        self.mixed.series()
    }

    fn unit(&self) -> &'static str {
        self.mixed.unit()
    }

    fn phases(&self, warmup: f64, duration: Option<f64>) -> (f64, f64) {
        (warmup, duration.unwrap_or(3600.0))
    }

    /// Adds the trend of memory, the purpose of a soak. Its first fifth is left out: caches fill.
    fn conclude(&self, result: &mut RunResult) {
        let measured = result
            .timeline
            .iter()
            .filter(|point| point.at_s > result.seconds / 5.0);
        let memory: Vec<_> = measured
            .filter_map(|point| Some((point.at_s / 3600.0, point.rss_bytes? as f64)))
            .collect();
        result.notes.push(match trend::fit(&memory) {
            Some(trend) => format!(
                "server memory changes by {} per hour (a line explains {:.0}% of its variance)",
                bytes(trend.slope),
                trend.r_squared * 100.0
            ),
            None => "no trend of memory: give --server-pid, and a longer --duration".to_owned(),
        });
    }

    fn workloads(&self, run: &RunContext) -> Vec<Box<dyn Workload + Send>> {
        self.mixed.workloads(run)
    }
}
