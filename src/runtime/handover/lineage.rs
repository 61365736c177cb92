//! What a process knows of those before it, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::text::{Kind, MetricsPage};

/// Which process of a server this is, and how upgrades have ended so far.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Lineage {
    /// How many times the server was handed over before this process.
    pub generation: u64,
    pub done: AtomicU64,
    pub failed: AtomicU64,
    /// The pause with which this process began, in milliseconds.
    pub pause_ms: AtomicU64,
}

impl Lineage {
    /// Appends it to a metrics page.
    pub(in crate::runtime) fn append(&self, page: &mut MetricsPage) {
        page.single(
            Kind::Gauge,
            "generation",
            "How many times the server was handed over to this process and those before it.",
            self.generation,
        );
        const OUTCOMES: &str = "handovers_total";
        page.metric(Kind::Counter, OUTCOMES, "Upgrades, by how they ended.");
        for (outcome, count) in [("done", &self.done), ("failed", &self.failed)] {
            let count = count.load(Ordering::Relaxed);
            page.sample(OUTCOMES, &[("outcome", outcome.to_owned())], count);
        }
        let pause_ms = self.pause_ms.load(Ordering::Relaxed);
        page.single(
            Kind::Gauge,
            "handover_pause_seconds",
            "For how long nobody was served when this process took over; 0: it was started.",
            format!("{}.{:03}", pause_ms / 1_000, pause_ms % 1_000),
        );
    }
}
