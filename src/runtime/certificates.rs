//! The thread that keeps the shards' certificate up to date: when its files change, and when it
//! is told to. A bad file is logged and changes nothing.

use std::io;
use std::path::PathBuf;
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

    /// Has these files read now, changed or not, and watched from now on.
    ///
    /// # Errors
    /// What is wrong with them; those from before are kept and watched.
    pub fn reload(&self, cert: PathBuf, key: PathBuf) -> Result<(), CertificateError> {
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
) {
    loop {
        match told.recv_timeout(POLL_INTERVAL) {
            Ok(Asked { cert, key, outcome }) => {
                let read = files.read_from(cert, key);
                // Whoever asked waits for it.
                let _ = outcome.send(read.map(|config| switch(&config, shards)));
            }
            Err(RecvTimeoutError::Timeout) => match files.poll() {
                Ok(None) => {}
                Ok(Some(config)) => switch(&config, shards),
                Err(error) => tracing::error!("the certificate in use is kept: {error}"),
            },
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn switch(config: &TlsConfig, shards: &ShardsHandle) {
    let heard = shards.switch_tls(config);
    // Ends when every shard has answered, or is gone and has dropped its sender.
    while heard.recv().is_ok() {}
    tracing::info!("new connections get the certificate as it is on disk now");
}
