//! The workloads: what the connections of a load core do, and what they expect to receive.
//!
//! A workload is driven by one load core and never waits: it reacts to messages and is asked, on
//! every turn of the loop, for what is due.

use crate::client::message::Message;
use crate::driver::core::Core;
use crate::failure::Failure;
use crate::report::result::RunResult;

pub(crate) mod acks;
pub(crate) mod connect;
pub(crate) mod day;
pub(crate) mod direct;
pub(crate) mod fanout;
pub(crate) mod fanout_options;
pub(crate) mod idle;
pub(crate) mod ledger;
pub(crate) mod mixed;
pub(crate) mod pace;
pub(crate) mod presence;
pub(crate) mod rest;
pub(crate) mod resume;
pub(crate) mod users;

/// What a workload needs to know of the run it is part of.
#[derive(Debug, Clone)]
pub(crate) struct RunContext {
    /// Part of channel names, so that runs do not meet.
    pub tag: String,
    /// Load cores.
    pub core_count: u32,
}

/// A workload as asked for, before it is divided among the load cores.
pub(crate) trait Plan {
    /// Refuses what cannot be run.
    ///
    /// # Errors
    /// [`Failure::Usage`] naming the option.
    fn check(&self) -> Result<(), Failure>;

    /// Connections open at once, over all cores.
    fn connection_count(&self) -> u64;

    /// Names of the latency series; the first is the headline.
    fn series(&self) -> Vec<&'static str>;

    /// What `received` counts, in the singular.
    fn unit(&self) -> &'static str;

    /// Whether it ends after a count instead of a duration.
    fn is_counted(&self) -> bool {
        false
    }

    /// Whether it makes WebSocket connections, and REST requests.
    fn uses(&self) -> (bool, bool) {
        (true, false)
    }

    /// Seconds of warm-up and of measurement, from those asked for.
    fn phases(&self, warmup: f64, duration: Option<f64>) -> (f64, f64) {
        (warmup, duration.unwrap_or(10.0))
    }

    /// Adds what only this workload can say about a result.
    fn conclude(&self, _result: &mut RunResult) {}

    /// One share per core.
    fn workloads(&self, run: &RunContext) -> Vec<Box<dyn Workload + Send>>;
}

/// What a workload found when everything was over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Verified {
    /// Messages that were checked to arrive once and in order.
    pub messages: u64,
    /// Facts worth a line in the summary.
    pub notes: Vec<String>,
}

/// One load core's share of a workload.
pub(crate) trait Workload {
    /// Opens the connections of the set-up.
    ///
    /// # Errors
    /// As every method here: a [`Failure`] ends the run without a result.
    fn start(&mut self, core: &mut Core) -> Result<(), Failure>;

    /// A connection is usable; `welcome` is the text of its first message.
    ///
    /// # Errors
    /// See [`Workload::start`].
    fn on_welcome(&mut self, core: &mut Core, client: u32, welcome: &[u8]) -> Result<(), Failure>;

    /// A message arrived.
    ///
    /// # Errors
    /// See [`Workload::start`].
    fn on_message(
        &mut self,
        core: &mut Core,
        client: u32,
        message: Message<'_>,
    ) -> Result<(), Failure>;

    /// A REST answer arrived.
    ///
    /// # Errors
    /// See [`Workload::start`].
    fn on_response(
        &mut self,
        _core: &mut Core,
        _client: u32,
        status: u16,
        body: &[u8],
    ) -> Result<(), Failure> {
        let body = String::from_utf8_lossy(body).chars().take(200).collect();
        Err(Failure::Rejected { status, body })
    }

    /// A connection that the workload closed has ended.
    ///
    /// # Errors
    /// See [`Workload::start`].
    fn on_closed(&mut self, _core: &mut Core, _client: u32) -> Result<(), Failure> {
        Ok(())
    }

    /// Whether the set-up is complete.
    fn is_ready(&self) -> bool;

    /// Sends what is due and returns when to be asked again, at the latest; `None`: when
    /// something arrives. Nothing is due at or after the end of the window.
    ///
    /// # Errors
    /// See [`Workload::start`].
    fn pump(&mut self, core: &mut Core) -> Result<Option<u64>, Failure>;

    /// Whether a counted workload has done its count. Timed ones never say so.
    fn is_finished(&self) -> bool {
        false
    }

    /// Whether everything that was sent, by whatever core, has arrived here.
    fn is_drained(&self) -> bool;

    /// Deliveries found to be wrong so far. After one, complete arrival may never come.
    fn fault_count(&self) -> u64 {
        0
    }

    /// Judges the run.
    ///
    /// # Errors
    /// [`Failure::Incorrect`] when a message was lost, doubled, reordered or misdirected.
    fn verify(&mut self, core: &mut Core) -> Result<Verified, Failure>;
}

/// A `welcome`'s peer id.
///
/// # Errors
/// [`Failure::Protocol`] when there is none.
pub(crate) fn peer_id_of(welcome: &[u8]) -> Result<String, Failure> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Welcome {
        peer_id: String,
    }
    serde_json::from_slice::<Welcome>(welcome)
        .map(|welcome| welcome.peer_id)
        .map_err(|_| Failure::Protocol("a welcome without a peerId".into()))
}

/// A message that no workload of this kind expects.
///
/// # Errors
/// Always: [`Failure::ServerError`] for an `error`, [`Failure::Incorrect`] for a delivery.
pub(crate) fn unexpected(message: &Message<'_>) -> Result<(), Failure> {
    #[derive(serde::Deserialize, Default)]
    struct ErrorFrame {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    match message {
        Message::Error(text) => {
            let error = serde_json::from_slice::<ErrorFrame>(text).unwrap_or_default();
            Err(Failure::ServerError {
                code: error.code,
                message: error.message,
            })
        }
        Message::GoingAway => Err(Failure::Closed {
            code: Some(1001),
            reason: "going_away".into(),
        }),
        other => Err(Failure::Incorrect(format!("nobody asked for {other:?}"))),
    }
}
