//! What is measured: latencies and counts on the load cores, CPU and memory of the server.

pub(crate) mod process;
pub(crate) mod recorder;
pub(crate) mod trend;
