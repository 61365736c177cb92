//! Bytes that several connections, or several shards, share.

use std::sync::Arc;

/// A WebSocket frame, or several, encoded once for all that get it.
pub(in crate::shard) type Frame = Arc<[u8]>;
