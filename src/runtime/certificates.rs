//! The thread that keeps the shards' certificate up to date: when its files change, and when it
//! is told to. A bad file is logged and changes nothing.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use flume::RecvTimeoutError;

use crate::control::events::{Events, Severity};
use crate::events::kind::{Cause, Kind};
use crate::events::record::Record;
use crate::runtime::boot::ShardsHandle;
use crate::runtime::clock::unix_ms;
use crate::runtime::node::InUse;
use crate::tls::{CertificateError, CertificateFiles, TlsConfig, Validity};

/// How often the files are looked at: two `stat(2)` each time. A change is used after it has
/// been seen twice.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The end of a certificate is told of within so many days of it, the soonest first.
const TOLD_DAYS: [i64; 4] = [0, 1, 7, 14];
const DAY_SEC: i64 = 86_400;

/// Ends the thread when dropped.
#[derive(Debug)]
pub(super) struct Certificates {
    reload: flume::Sender<Asked>,
}

/// A request to read these files now, and where to tell whether they are good.
#[derive(Debug)]
struct Asked {
    cert: PathBuf,
    key: PathBuf,
    outcome: flume::Sender<Result<(), CertificateError>>,
}

impl Certificates {
    /// Starts to watch the files for running shards, and tells what becomes of them. What is
    /// `in_use` is what the shards were started with.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn watch(
        files: CertificateFiles,
        shards: ShardsHandle,
        (in_use, events): (InUse, Arc<Events>),
    ) -> io::Result<Self> {
        let (reload, told) = flume::unbounded();
        let expiry = Expiry {
            in_use,
            events,
            told_days: None,
        };
        thread::Builder::new()
            .name("certificates".into())
            .spawn(move || keep_up_to_date(files, &shards, &told, expiry))?;
        Ok(Self { reload })
    }

    /// Has these files read now, changed or not, and watched from now on.
    ///
    /// # Errors
    /// What is wrong with them; those from before are kept and watched.
    pub(super) fn reload(&self, cert: PathBuf, key: PathBuf) -> Result<(), CertificateError> {
        let (outcome, heard) = flume::bounded(1);
        let asked = Asked { cert, key, outcome };
        // The thread ends only when this end is dropped.
        let _ = self.reload.send(asked);
        heard.recv().unwrap_or(Ok(()))
    }
}

fn keep_up_to_date(
    mut files: CertificateFiles,
    shards: &ShardsHandle,
    told: &flume::Receiver<Asked>,
    mut expiry: Expiry,
) {
    loop {
        expiry.look();
        match told.recv_timeout(POLL_INTERVAL) {
            Ok(Asked { cert, key, outcome }) => {
                let read = files.read_from(cert, key);
                match &read {
                    Ok(config) => {
                        switch(config, shards);
                        expiry.taken_up(config);
                    }
                    Err(error) => expiry.refused(error),
                }
                // Whoever asked waits for it.
                let _ = outcome.send(read.map(drop));
            }
            Err(RecvTimeoutError::Timeout) => match files.poll() {
                Ok(None) => {}
                Ok(Some(config)) => {
                    switch(&config, shards);
                    expiry.taken_up(&config);
                }
                Err(error) => {
                    tracing::error!("the certificate in use is kept: {error}");
                    expiry.refused(&error);
                }
            },
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn switch(config: &TlsConfig, shards: &ShardsHandle) {
    let heard = shards.switch_tls(config);
    // Ends when every shard has answered, or is gone and has dropped its sender.
    while heard.recv().is_ok() {}
}

/// Until when the certificate in use is good, and what has been told of it.
struct Expiry {
    in_use: InUse,
    events: Arc<Events>,
    /// The days that have been told of the certificate in use.
    told_days: Option<i64>,
}

impl Expiry {
    /// A certificate is in use from now on.
    fn taken_up(&mut self, config: &TlsConfig) {
        let validity = config.validity().cloned();
        *self.in_use.lock().unwrap_or_else(PoisonError::into_inner) = validity;
        self.told_days = None;
        self.record(Cause::TakenUp, None);
        self.events.hold(Cause::CertificateRefused, None);
        // The last thing, so that whoever reads it finds the rest done.
        tracing::info!("new connections get the certificate as it is on disk now");
    }

    /// A changed one cannot be used.
    fn refused(&self, error: &CertificateError) {
        let text = error.to_string();
        self.record(Cause::CertificateRefused, Some(&text));
        let critical = Severity::Critical;
        self.events
            .hold_as(Cause::CertificateRefused, critical, Some(&text));
    }

    /// Tells when it ends within so many days.
    fn look(&mut self) {
        let not_after = self.with(|validity| validity.not_after_unix);
        let now_unix_ms = unix_ms();
        let days = not_after.and_then(|not_after| ends_within(not_after, now_unix_ms));
        let severity = match days {
            Some(..=1) => Severity::Critical,
            _ => Severity::Warn,
        };
        let ending = not_after.filter(|_| days.is_some());
        let detail = ending.map(|not_after| end(left_sec(not_after, now_unix_ms)));
        self.events
            .hold_as(Cause::CertificateExpires, severity, detail.as_deref());
        if days.is_some() && days != self.told_days {
            self.record(Cause::CertificateExpires, detail.as_deref());
        }
        self.told_days = days;
    }

    fn with<T>(&self, of: impl FnOnce(&Validity) -> T) -> Option<T> {
        let in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.as_ref().map(of)
    }

    fn record(&self, cause: Cause, detail: Option<&str>) {
        let validity = self.with(Validity::clone).unwrap_or_default();
        let names = validity.names.join(", ");
        let numbers = [u64::try_from(validity.not_after_unix).unwrap_or_default()];
        let record = Record {
            numbers: &numbers,
            first: &names,
            second: detail.unwrap_or_default(),
            ..Record::new(Kind::Certificate, cause)
        };
        self.events.record(&record);
    }
}

/// Seconds up to its end, below 0 after it.
fn left_sec(not_after_unix: i64, now_unix_ms: u64) -> i64 {
    let now_unix = i64::try_from(now_unix_ms / 1_000).unwrap_or(i64::MAX);
    not_after_unix.saturating_sub(now_unix)
}

/// What is said of the end, that many seconds before it.
fn end(left_sec: i64) -> String {
    match left_sec / DAY_SEC {
        _ if left_sec <= 0 => "it has ended".to_owned(),
        0 => "within a day".to_owned(),
        1 => "in 1 day".to_owned(),
        days => format!("in {days} days"),
    }
}

/// Within which of the days that are told of it ends; 0: it has ended.
fn ends_within(not_after_unix: i64, now_unix_ms: u64) -> Option<i64> {
    let left_sec = left_sec(not_after_unix, now_unix_ms);
    let mut told = TOLD_DAYS.into_iter();
    told.find(|days| left_sec <= days * DAY_SEC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_within_14_days_7_and_1() {
        for (left_sec, days) in [
            (15 * DAY_SEC, None),
            (14 * DAY_SEC, Some(14)),
            (7 * DAY_SEC + 1, Some(14)),
            (7 * DAY_SEC, Some(7)),
            (DAY_SEC, Some(1)),
            (1, Some(1)),
            (0, Some(0)),
            (-DAY_SEC, Some(0)),
        ] {
            assert_eq!(ends_within(1_000_000 + left_sec, 1_000_000_000), days);
        }
    }

    #[test]
    fn the_end_is_said_in_whole_days() {
        for (left_sec, text) in [
            (9 * DAY_SEC + 5, "in 9 days"),
            (DAY_SEC, "in 1 day"),
            (DAY_SEC - 1, "within a day"),
            (0, "it has ended"),
            (-DAY_SEC, "it has ended"),
        ] {
            assert_eq!(end(left_sec), text);
        }
    }
}
