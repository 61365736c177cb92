//! The shards as the control plane needs them, implemented by the runtime. Nothing else about them
//! is known here.

use std::pin::Pin;
use std::sync::Arc;

use crate::domain::rights::Rights;
use crate::metrics::report::NodeReport;
use crate::metrics::text::MetricsPage;

/// A result that comes later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// All shards of the process.
pub trait Shards: Send + Sync + 'static {
    /// Hands a snapshot to every shard; done when the last one has switched to it and has
    /// closed the connections that it ends. Called with rising versions, one at a time.
    fn switch(&self, rights: Arc<Rights>) -> Later<'_, ()>;

    /// This node, live, as `GET /api/internal/v1/stats` shows it.
    fn stats(&self) -> Later<'_, NodeReport>;

    /// What the shards count and measure, in Prometheus' text format.
    fn metrics(&self) -> Later<'_, MetricsPage>;

    /// Why the node is not ready; `None`: every shard accepts, and the cluster is joined if one
    /// is configured.
    fn unready(&self) -> Option<String>;
}
