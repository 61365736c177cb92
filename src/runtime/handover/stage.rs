//! How far an upgrade has come, as the log, the metrics and whoever asked for it are told.

use std::fmt;

/// A stage of the sequence: A while all are served, B while nobody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::runtime) enum Stage {
    /// Whether it can be done at all.
    Check,
    /// The new process is started.
    Spawn,
    /// It reads its configuration, and says hello.
    Hello,
    /// It gets what it begins with.
    Welcome,
    /// It is ready for the state.
    Ready,
    /// Nobody is served any more.
    Freeze,
    /// What is on its way comes to its end.
    Quiet,
    /// The shards write what they hand over.
    Export,
    /// It is handed over, with the sockets.
    Send,
    /// The new shards go on with it.
    Import,
    /// Whether both count the same; and whose it is from then on.
    Commit,
}

impl Stage {
    /// Its name in the log, and in tests.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Check => "A1",
            Self::Spawn => "A2",
            Self::Hello => "A3",
            Self::Welcome => "A4",
            Self::Ready => "A5",
            Self::Freeze => "B1",
            Self::Quiet => "B2",
            Self::Export => "B3",
            Self::Send => "B4",
            Self::Import => "B5",
            Self::Commit => "B6",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Check => "check",
            Self::Spawn => "start",
            Self::Hello => "hello",
            Self::Welcome => "welcome",
            Self::Ready => "ready",
            Self::Freeze => "freeze",
            Self::Quiet => "quiet",
            Self::Export => "export",
            Self::Send => "send",
            Self::Import => "import",
            Self::Commit => "commit",
        })
    }
}
