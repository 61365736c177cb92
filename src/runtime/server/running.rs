//! A server at work: what it is asked to do, one thing after the other, and how it ends: after a
//! drain, or when another process has taken over.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{COUNT_TIME_MAX, Server, ServerError, record_drain, record_node};
use crate::config::Config;
use crate::domain::configuration::ReloadReport;
use crate::domain::upgrade::{UpgradeDone, UpgradeFailed};
use crate::events::kind::Cause;
use crate::run_file::RunFile;
use crate::runtime::handover::{Committed, HandoverOutcome, Parts, hand_over};
use crate::runtime::options::endpoints;
use crate::runtime::reload::{self, Reloadable};
use crate::runtime::signals::Wish;

/// Longest wait for the log's writer at the end.
const LOG_FLUSH: Duration = Duration::from_secs(1);

impl Server {
    /// Serves until a signal ends it, then drains; a second signal cuts the drain short, and
    /// usage is saved all the same. Or hands over to another process, and ends. `read` reads the
    /// configuration again.
    ///
    /// # Errors
    /// A shard had failed.
    pub(crate) fn run(
        mut self,
        read: impl Fn() -> Result<Option<Config>, String>,
    ) -> Result<(), ServerError> {
        loop {
            match self.signals.wishes.recv() {
                Ok(Wish::Reload) => self.reload_with(&read),
                Ok(Wish::Upgrade) => match self.upgrade() {
                    Ok(None) => {}
                    Ok(Some(committed)) => return self.leave(committed),
                    Err(error) => return Err(error),
                },
                // Whoever asks for something is there as long as the process.
                Ok(Wish::Stop) | Err(_) => return self.end(),
            }
        }
    }

    fn reload_with(&mut self, read: &impl Fn() -> Result<Option<Config>, String>) {
        let Self {
            shards,
            certificates,
            handle,
            log,
            reload,
            requests,
            service,
            events,
            ..
        } = self;
        let parts = Reloadable {
            shards: shards.handle(),
            certificates: certificates.as_ref(),
            control: handle,
            log,
            events,
        };
        service.reloading();
        match read() {
            Ok(Some(config)) => {
                let report = reload.apply(config, &parts, &requests.take_author());
                requests.tell(&report, Some(reload.settings()));
            }
            Ok(None) => {
                let text = "nothing to reload: there is no configuration file";
                tracing::info!("{text}");
                requests.tell(&ReloadReport::failed(text), None);
            }
            Err(error) => {
                tracing::error!("nothing was reloaded: {error}");
                let text = format!("nothing was reloaded: {error}");
                requests.tell(&ReloadReport::failed(text), None);
                let by = requests.take_author();
                reload::record(Cause::ReloadFailed, &error.to_string(), events, &by);
            }
        }
        service.reloaded();
    }

    /// Hands over to a new process, if that comes to its end: then this one has to leave.
    fn upgrade(&mut self) -> Result<Option<Committed>, ServerError> {
        let shards = self.shards.handle();
        let started = self.reload.started();
        if started.file.is_none() {
            let cause = "a server of `ringmesh dev` is not upgraded: stop it and start it again";
            self.upgrade_failed("check", cause);
            return Ok(None);
        }
        self.service.reloading();
        let is_stopping = || self.signals.is_stopping.load(Ordering::Acquire);
        let outcome = hand_over(Parts {
            shards: &shards,
            connections: shards.connections(COUNT_TIME_MAX).unwrap_or_default(),
            configured: &endpoints(started),
            endpoints: self.shards.endpoints(),
            admin: self.admin_listener.as_ref(),
            control: &self.handle,
            clock: self.clock,
            settings: &self.reload.current().handover,
            origin: &self.origin,
            lineage: &self.lineage,
            is_stopping: &is_stopping,
        });
        match outcome {
            HandoverOutcome::Committed(committed) => Ok(Some(committed)),
            HandoverOutcome::Abandoned { stage, cause } => {
                self.upgrade_failed(&stage.to_string(), &cause);
                Ok(None)
            }
            HandoverOutcome::Lost => {
                let text = "upgrade: the new process had taken over and was ended: nobody serves";
                tracing::error!("{text}");
                self.log.flush(LOG_FLUSH);
                Err(ServerError::failed(text))
            }
        }
    }

    /// An upgrade has failed, and this process serves on.
    fn upgrade_failed(&self, stage: &str, cause: &str) {
        tracing::error!("upgrade failed: {stage}: {cause}; this process serves on");
        self.lineage.failed.fetch_add(1, Ordering::Relaxed);
        self.service.upgrade_failed(&format!("{stage}: {cause}"));
        let failed = UpgradeFailed::new(stage, cause);
        self.signals.upgrades.tell(Err(failed));
    }

    /// Another process serves: this one lets go of what is left. Its sockets are not shut down,
    /// which the other one has as well.
    fn leave(self, mut committed: Committed) -> Result<(), ServerError> {
        committed.release_store();
        let pause_ms = u64::try_from(committed.pause.as_millis()).unwrap_or(u64::MAX);
        let (pid, connections) = (committed.pid, committed.connections);
        let version = committed.version.clone();
        tracing::info!(pid, %version, pause_ms, connections, "upgrade: handed over");
        self.signals.upgrades.tell(Ok(UpgradeDone {
            outcome: "done",
            pause_ms,
            connections,
            pid,
            version,
        }));
        self.signals.upgrades.end();
        self.requests.end();
        if self.signals.is_stopping.load(Ordering::Acquire) {
            committed.stop();
        }
        self.service.handed_over(pid);
        self.control.shutdown();
        self.log.flush(LOG_FLUSH);
        // The other process knows by this that it is alone.
        drop(committed);
        Ok(())
    }

    /// Drains, and ends.
    fn end(self) -> Result<(), ServerError> {
        let Self {
            signals,
            shards,
            control,
            draining,
            log,
            reload,
            requests,
            service,
            events,
            ..
        } = self;
        signals.upgrades.end();
        requests.end();
        service.stopping();
        draining.store(true, Ordering::Release);
        let shutdown = &reload.current().shutdown;
        tracing::info!(window_ms = shutdown.drain_ms, "draining");
        record_drain(&events, Cause::DrainBegun, &shards.handle());
        shards.drain(shutdown, &signals.hurry);
        record_drain(&events, Cause::DrainEnded, &shards.handle());
        let outcome = shards.stop();
        // Before the store is closed: then the directory may be another server's.
        RunFile::remove(&reload.started().store.data_dir);
        record_node(&events, Cause::Stopping);
        control.shutdown();
        tracing::info!("stopped");
        log.flush(LOG_FLUSH);
        Ok(outcome?)
    }
}
