//! What a shard's loop is made of.

use std::sync::Arc;

use crate::control::ControlHandle;
use crate::runtime::clock::Clock;
use crate::runtime::command::Commands;
use crate::runtime::descriptors::PublicDescriptors;
use crate::runtime::histories::Share;
use crate::runtime::listener::Listeners;
use crate::runtime::memory::Memory;
use crate::runtime::mesh::{MeshIn, MeshOut};
use crate::runtime::transport::Transports;
use crate::runtime::wake::Wake;
use crate::shard::state::Shard;

/// What a shard's loop is made of.
pub(in crate::runtime) struct LoopParts {
    /// The shard value.
    pub shard: Shard,
    /// The process's clocks.
    pub clock: Clock,
    /// This shard's listeners.
    pub listeners: Listeners,
    /// What connections speak.
    pub transports: Transports,
    /// Outgoing links.
    pub mesh_out: MeshOut,
    /// Incoming links.
    pub mesh_in: MeshIn,
    /// Where commands come from.
    pub commands: Commands,
    /// Where usage is reported.
    pub control: Option<ControlHandle>,
    /// Ends the loop's sleep.
    pub wake: Arc<Wake>,
    /// What all shards take for connections.
    pub descriptors: Arc<PublicDescriptors>,
    /// The memory of all shards.
    pub memory: Arc<Memory>,
    /// What is kept on disk, if something is.
    pub history: Option<Share>,
}
