//! `ringmesh pub` and `ringmesh sub`: a client for a try.

mod connect;
mod publish;
mod subscribe;
mod wire;

pub(crate) use publish::{PubArgs, publish};
pub(crate) use subscribe::{SubArgs, subscribe};
