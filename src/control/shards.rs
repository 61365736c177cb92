//! The shards as the control plane needs them, implemented by the runtime. Nothing else about them
//! is known here.

use std::pin::Pin;
use std::sync::Arc;

use crate::control::events::Events;
use crate::domain::app_id::AppTag;
use crate::domain::configuration::{ReloadReport, Setting};
use crate::domain::history_page::{HistoryAsked, HistoryTold};
use crate::domain::look::{Look, Seen};
use crate::domain::node_info::NodeInfo;
use crate::domain::rights::{App, Rights};
use crate::domain::trace::Trace;
use crate::domain::upgrade::{UpgradeDone, UpgradeFailed};
use crate::events::author::Author;
use crate::ids::{ConnectionId, ShardId};
use crate::metrics::report::NodeReport;
use crate::metrics::text::MetricsPage;

/// A result that comes later.
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whom to disconnect, and for whom.
#[derive(Debug)]
pub(crate) struct Kick {
    /// The app.
    pub app: Arc<App>,
    /// The peer's id; empty with a connection: whoever it is.
    pub peer: String,
    /// One connection, and the shard that it is on; `None`: all of the peer's.
    pub connection: Option<(ShardId, ConnectionId)>,
    /// Who wants it.
    pub by: Author,
}

/// All shards of the process.
pub(crate) trait Shards: Send + Sync + 'static {
    /// Hands a snapshot to every shard; done when the last one has switched to it and has
    /// closed the connections that it ends. Returns how many these were. Called with rising
    /// versions, one at a time.
    fn switch(&self, rights: Arc<Rights>) -> Later<'_, u64>;

    /// This node, live, as `GET /api/internal/v1/stats` shows it.
    fn stats(&self) -> Later<'_, NodeReport>;

    /// What this node is.
    fn node(&self) -> NodeInfo;

    /// What the shards count and measure, in Prometheus' text format.
    fn metrics(&self) -> Later<'_, MetricsPage>;

    /// What the shards and the process have recorded.
    fn events(&self) -> &Arc<Events>;

    /// How many connections a peer has now.
    fn connected(&self, app: AppTag, peer: &str) -> Later<'_, u64>;

    /// Disconnects somebody; done when nothing of that is left in rosters. Returns how many
    /// connections were closed; `None` when a shard did not answer.
    fn kick(&self, kick: Kick) -> Later<'_, Option<u64>>;

    /// What is told about what a channel keeps; `None` when a shard did not answer.
    fn history(
        &self,
        app: AppTag,
        channel: &str,
        asked: HistoryAsked,
    ) -> Later<'_, Option<HistoryTold>>;

    /// Records somebody's messages for a while, in place of what was traced before. Returns whether
    /// every shard does.
    fn trace(&self, trace: Trace) -> Later<'_, bool>;

    /// What each shard sees, with its number; `None` when it does not answer any more.
    fn look(&self, look: Look) -> Vec<(u16, Later<'_, Option<Seen>>)>;

    /// Why the node is not ready; `None`: every shard accepts, and the cluster is joined if one
    /// is configured.
    fn unready(&self) -> Option<String>;

    /// Each key of the configuration as it holds.
    fn settings(&self) -> Vec<Setting>;

    /// Has the configuration read again, as SIGHUP does. `None` when the process is ending.
    fn reload(&self, by: Author) -> Later<'_, Option<ReloadReport>>;

    /// Hands over to a new process, as SIGUSR2 does. `None` when the process is ending.
    fn upgrade(&self) -> Later<'_, Option<Result<UpgradeDone, UpgradeFailed>>>;
}
