//! Everything that ends a run without a result, each with its cause and its remedy in one line.
//!
//! A run that meets any of these prints the line to standard error, writes no result file and
//! exits with [`Failure::exit_code`].

use std::fmt;

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The command line or a scenario file asks for something impossible.
    Usage(String),
    /// A file could not be read or written.
    File {
        /// Its path as given.
        path: String,
        /// What the system or the parser said.
        cause: String,
    },
    /// Too few file descriptors for the connections asked for.
    Descriptors {
        /// How many the run needs.
        needed: u64,
        /// `RLIMIT_NOFILE`, hard.
        hard: u64,
    },
    /// The load executors could not start.
    Executor(String),
    /// No TCP connection.
    Unreachable {
        /// `host:port`.
        address: String,
        /// The system's word for it.
        cause: String,
    },
    /// The TLS handshake failed.
    Tls(String),
    /// The server's certificate is not to be trusted, for this reason.
    Untrusted(String),
    /// The server answered the upgrade or a REST request with an HTTP error.
    Rejected {
        /// HTTP status.
        status: u16,
        /// The body's beginning.
        body: String,
    },
    /// The peer answers, but not in this protocol.
    Protocol(String),
    /// The server closed a connection that the run needs.
    Closed {
        /// WebSocket close code; `None` when TCP ended without one.
        code: Option<u16>,
        /// The reason sent, or the socket error.
        reason: String,
    },
    /// The server answered a command with an `error`.
    ServerError {
        /// `code` of the frame.
        code: String,
        /// `message` of the frame.
        message: String,
    },
    /// Messages were lost, doubled, reordered or delivered to the wrong connection.
    Incorrect(String),
    /// The server did not answer in time.
    Timeout(String),
    /// Somebody stopped the run; with what there is of it.
    Interrupted(String),
    /// An attack got through.
    Verdict(String),
    /// `--spawn` started no server; what it said.
    Spawn(String),
    /// `--server-pid` cannot be read.
    ServerProcess {
        /// The process id given.
        pid: u32,
        /// What is missing.
        cause: String,
    },
}

impl Failure {
    /// 2 for a mistake in what was asked, 1 for everything that went wrong on the way, 130 for
    /// Ctrl-C, as shells have it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Interrupted(_) => 130,
            _ => 1,
        }
    }

    /// Cause and remedy in one line. What a server sent is in it, so control characters are not.
    pub(crate) fn line(&self) -> String {
        let text = self.to_string();
        let words = text.split(|c: char| c.is_whitespace() || c.is_control());
        words
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(what) => write!(f, "{what}; see --help"),
            Failure::File { path, cause } => write!(f, "{path}: {cause}"),
            Failure::Descriptors { needed, hard } => write!(
                f,
                "this run needs {needed} file descriptors and the hard limit is {hard}; \
                 raise it with `ulimit -Hn {needed}` as root, or use fewer connections"
            ),
            Failure::Executor(cause) => write!(
                f,
                "cannot start the load executors: {cause}; they need io_uring and 512 KiB of \
                 locked memory (`ulimit -l`)"
            ),
            Failure::Verdict(what) => write!(f, "{what}; the figures and bounds are above"),
            Failure::Spawn(said) => write!(
                f,
                "the executable of --spawn did not become a server: {said}; try it by hand"
            ),
            Failure::Unreachable { address, cause } => write!(
                f,
                "cannot connect to {address}: {cause}; is the server running, and --url right?"
            ),
            Failure::Tls(cause) => write!(f, "TLS handshake failed: {cause}; see the server's log"),
            Failure::Untrusted(cause) => write!(
                f,
                "the server's certificate is not trusted: {cause}; name it, or its issuer, with \
                 --insecure-ca FILE, or take any with --insecure"
            ),
            Failure::Rejected { status, body } => write_rejected(f, *status, body),
            Failure::Protocol(what) => write!(
                f,
                "the server does not speak this protocol: {what}; check host, port and scheme of \
                 --url"
            ),
            Failure::Closed { code, reason } => write_closed(f, *code, reason),
            Failure::ServerError { code, message } => write!(
                f,
                "the server answered `{code}`: {message}; check the patterns and actions of the \
                 key, and the app's quota"
            ),
            Failure::Incorrect(what) => {
                write!(
                    f,
                    "incorrect delivery: {what}; the figures of this run are void"
                )
            }
            Failure::Timeout(what) => {
                write!(
                    f,
                    "{what}; the server is overloaded or stuck: lower the rate, or see its log"
                )
            }
            Failure::Interrupted(what) => write!(f, "interrupted: {what}"),
            Failure::ServerProcess { pid, cause } => {
                write!(
                    f,
                    "--server-pid {pid}: {cause}; give the pid of the running server"
                )
            }
        }
    }
}

fn write_rejected(f: &mut fmt::Formatter<'_>, status: u16, body: &str) -> fmt::Result {
    let remedy = match status {
        401 => {
            "check --key, or --token-secret ID:SECRET and --token-lifetime; REST needs --api-secret"
        }
        403 => "the key's patterns or actions do not allow this run",
        404 => "check the path and port of --url",
        429 => "set limits.connects_per_address, rest.rate_per_key or the quota to 0 (no limit)",
        503 => "see the server's log",
        _ => "check --url",
    };
    let body = body.trim();
    let colon = if body.is_empty() { "" } else { ": " };
    write!(
        f,
        "the server answered HTTP {status}{colon}{body}; {remedy}"
    )
}

fn write_closed(f: &mut fmt::Formatter<'_>, code: Option<u16>, reason: &str) -> fmt::Result {
    let remedy = match code {
        None => "did the server end? see its log",
        Some(1001) => "the server is shutting down",
        Some(1013) => "a slow consumer: lower the rate or raise limits.outbound_queue_bytes",
        Some(4010) => "raise the app's maxConcurrentConnections",
        Some(4011) => "set limits.message_rate = 0, or spread the load over more publishers",
        Some(4001) => "check --key or --token-secret",
        Some(4002) => "a token expired: raise --token-lifetime",
        Some(_) => "see the server's log",
    };
    match code {
        Some(code) => write!(
            f,
            "the server closed a connection with {code} ({reason}); {remedy}"
        ),
        None => write!(
            f,
            "a connection ended without a close frame ({reason}); {remedy}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_one_line_and_names_a_remedy() {
        let rejected = Failure::Rejected {
            status: 401,
            body: "<html>\r\n  <b>\x1b[31mno</b>\n".into(),
        }
        .line();
        assert!(
            rejected.contains("HTTP 401: <html> <b> [31mno</b>; "),
            "{rejected}"
        );
        assert!(rejected.contains("401") && rejected.contains("--key"));
        let gone = Failure::Closed {
            code: None,
            reason: "reset".into(),
        }
        .line();
        assert!(gone.contains("did the server end"));
        let limit = Failure::Descriptors {
            needed: 30_000,
            hard: 4_096,
        }
        .line();
        assert!(limit.contains("ulimit -Hn 30000"));
        for line in [rejected, gone, limit] {
            assert!(!line.contains(char::is_control));
        }
    }

    #[test]
    fn only_a_mistake_in_the_question_exits_with_2() {
        assert_eq!(Failure::Usage("x".into()).exit_code(), 2);
        assert_eq!(Failure::Timeout("x".into()).exit_code(), 1);
        assert_eq!(Failure::Interrupted("x".into()).exit_code(), 130);
    }
}
