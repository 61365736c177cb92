//! The thread that keeps the shards' certificate up to date: when its files change, and when it
//! is told to. A bad file is logged and changes nothing.

use std::io;
use std::thread;
use std::time::Duration;

use flume::RecvTimeoutError;

use crate::runtime::boot::ShardsHandle;
use crate::tls::{CertificateError, CertificateFiles, TlsConfig};

/// How often the files are looked at: two `stat(2)` each time. A change is used after it has
/// been seen twice.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Ends the thread when dropped.
#[derive(Debug)]
pub struct Certificates {
    reload: flume::Sender<()>,
}

impl Certificates {
    /// Starts to watch the files for running shards.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn watch(files: CertificateFiles, shards: ShardsHandle) -> io::Result<Self> {
        let (reload, told) = flume::unbounded();
        thread::Builder::new()
            .name("certificates".into())
            .spawn(move || keep_up_to_date(files, &shards, &told))?;
        Ok(Self { reload })
    }

    /// Has the files read now, changed or not.
    pub fn reload(&self) {
        // The thread ends only when this end is dropped.
        let _ = self.reload.send(());
    }
}

fn keep_up_to_date(mut files: CertificateFiles, shards: &ShardsHandle, told: &flume::Receiver<()>) {
    loop {
        let outcome = match told.recv_timeout(POLL_INTERVAL) {
            Ok(()) => files.reload().map(Some),
            Err(RecvTimeoutError::Timeout) => files.poll(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        switch(outcome, shards);
    }
}

fn switch(outcome: Result<Option<TlsConfig>, CertificateError>, shards: &ShardsHandle) {
    match outcome {
        Ok(None) => {}
        Ok(Some(config)) => {
            let heard = shards.switch_tls(&config);
            // Ends when every shard has answered, or is gone and has dropped its sender.
            while heard.recv().is_ok() {}
            tracing::info!("new connections get the certificate as it is on disk now");
        }
        Err(error) => tracing::error!("the certificate in use is kept: {error}"),
    }
}
