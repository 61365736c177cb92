//! Connect, read `welcome`, close; so many at the same time: plaintext, full handshakes, resumed
//! ones.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringmesh_bench::client::{Readers, open};
use ringmesh_bench::fixture::{PUBLISHABLE_KEY, upgrade_request};
use ringmesh_bench::machine::{CpuMeter, median};
use ringmesh_bench::real::Server;
use ringmesh_bench::tls::{Exchange, Suites, TlsClient, client_config, connection};
use rustls::{ClientConfig, HandshakeKind};

use crate::SERVER_CORE;

/// How the answer to a connect ends.
const ANSWER_END: &[u8] = b"\"maxMessageSize\":65536}";
/// So many bytes are an answer: no refusal is as long.
const ANSWER_BYTES_MIN: usize = 230;
/// The last closes are dealt with before the time is taken.
const CLOSING_TIME: Duration = Duration::from_millis(50);

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Connects at the same time.
    #[arg(long, default_value_t = 32)]
    parallel: usize,
    /// The key exchange that clients offer.
    #[arg(long, value_enum, default_value = "hybrid")]
    exchange: Exchange,
    /// The cipher suites that they offer.
    #[arg(long, value_enum, default_value = "all")]
    suites: Suites,
    /// How often each kind is measured.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// How long each time.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

type Kind = (&'static str, Option<(Arc<ClientConfig>, HandshakeKind)>);

pub(crate) fn run(arguments: &Arguments) -> io::Result<()> {
    let client = |resume| client_config(arguments.exchange, arguments.suites, resume);
    let kinds: [Kind; 3] = [
        ("plaintext", None),
        ("full", Some((client(false), HandshakeKind::Full))),
        ("resumed", Some((client(true), HandshakeKind::Resumed))),
    ];
    let server = crate::start()?;
    let mut figures: [Vec<f64>; 3] = Default::default();
    for _ in 0..arguments.runs.max(1) {
        for ((_, tls), figures) in kinds.iter().zip(&mut figures) {
            figures.push(measure(arguments, &server, tls.as_ref())?);
        }
    }
    println!(
        "connects up to welcome and closes, {} at a time, clients offer {:?} and {:?} suites; \
         medians of {} runs",
        arguments.parallel, arguments.exchange, arguments.suites, arguments.runs
    );
    for ((name, _), figures) in kinds.iter().zip(&mut figures) {
        println!("{name:<12} {:>8.1} us of server CPU", median(figures));
    }
    Ok(())
}

fn measure(
    arguments: &Arguments,
    server: &Server,
    tls: Option<&(Arc<ClientConfig>, HandshakeKind)>,
) -> io::Result<f64> {
    if let Some((config, _)) = tls {
        // Tickets, and warm caches.
        connect_tls(arguments, server, config, None)?;
    }
    let duration = Duration::from_secs_f64(arguments.seconds);
    let (meter, start) = (CpuMeter::start(server.pid(), SERVER_CORE), Instant::now());
    let mut connects = 0;
    while start.elapsed() < duration {
        match tls {
            None => connect_plain(arguments, server)?,
            Some((config, kind)) => connect_tls(arguments, server, config, Some(*kind))?,
        }
        connects += arguments.parallel as u64;
    }
    std::thread::sleep(CLOSING_TIME);
    Ok(meter.per_unit_us(connects))
}

fn request() -> String {
    upgrade_request(&format!("key={PUBLISHABLE_KEY}"))
}

fn connect_plain(arguments: &Arguments, server: &Server) -> io::Result<()> {
    let request = request();
    let mut sockets = Vec::new();
    for _ in 0..arguments.parallel {
        let mut socket = open(server.address)?;
        socket.write_all(request.as_bytes())?;
        sockets.push(socket);
    }
    let mut answered = vec![0; sockets.len()];
    let mut readers = Readers::new(sockets)?;
    while answered.iter().any(|bytes| *bytes < ANSWER_BYTES_MIN) {
        readers.wait(Duration::from_secs(5), |at, count| answered[at] += count)?;
    }
    Ok(())
}

/// All send their first flight before any reads; each sends its request behind its last flight,
/// in a write of its own, as most clients do.
fn connect_tls(
    arguments: &Arguments,
    server: &Server,
    config: &Arc<ClientConfig>,
    expected: Option<HandshakeKind>,
) -> io::Result<()> {
    let address = server.tls_address()?;
    let mut clients = Vec::new();
    for number in 0..arguments.parallel {
        let mut client = TlsClient {
            session: connection(config, number)?,
            socket: open(address)?,
        };
        client.flush()?;
        clients.push(client);
    }
    for client in &mut clients {
        while client.session.is_handshaking() {
            client.take_in()?;
            client.flush()?;
        }
        client.session.writer().write_all(request().as_bytes())?;
        client.flush()?;
    }
    for client in &mut clients {
        client.ask(b"", ANSWER_END)?;
        let kind = client.session.handshake_kind();
        if expected.is_some() && kind != expected {
            return Err(io::Error::other(format!("not {expected:?} but {kind:?}")));
        }
    }
    Ok(())
}
