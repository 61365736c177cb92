//! What is measured: latencies and counts on the load cores, CPU and memory of the server.

pub mod process;
pub mod recorder;
pub mod trend;
