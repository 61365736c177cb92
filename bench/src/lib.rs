//! What ringmesh costs, in process and at the socket.
//!
//! [`cases`] names the operations that are timed by `cargo bench` and counted by the
//! instruction gate; [`fixture`] is the shard value that most of them run on. The rest is for
//! the programs that start servers: the real one ([`real`]), clients ([`client`], [`tls`]), what
//! idle ones cost ([`idle`]), and what the kernel says about processes ([`machine`]).

pub mod cases;
pub mod client;
pub mod fixture;
pub mod idle;
pub mod machine;
pub mod real;
pub mod tls;
