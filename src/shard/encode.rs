//! Events as whole frames, appended to a buffer of the caller's.

use crate::domain::peer::{ChannelKey, PeerInfo, SharedPeer};
use crate::proto::wire::error::ErrorCode;
use crate::proto::wire::event;
use crate::proto::ws::frame::{Opcode, begin_frame, finish_frame};
