//! Handshakes in memory: what the library takes for the server's half, with nothing around it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringmesh::tls::{Progress, TlsConfig, TlsSession};
use ringmesh_bench::machine::median;
use ringmesh_bench::tls::{Exchange, Suites, client_config, connection, server_config};
use rustls::{ClientConfig, HandshakeKind};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Handshakes of each kind.
    #[arg(long, default_value_t = 2_000)]
    handshakes: usize,
}

const OFFERS: [(&str, Exchange, Suites); 5] = [
    ("X25519MLKEM768", Exchange::Hybrid, Suites::All),
    ("X25519MLKEM768, SHA-384", Exchange::Hybrid, Suites::Aes256),
    ("X25519", Exchange::X25519, Suites::All),
    ("X25519, SHA-384", Exchange::X25519, Suites::Aes256),
    ("P-256", Exchange::P256, Suites::All),
];

pub(crate) fn run(arguments: &Arguments) -> io::Result<()> {
    crate::pin_to_load_core();
    let server = server_config()?;
    println!(
        "the server's half of a TLS 1.3 handshake, ECDSA P-256, in memory; medians of {}",
        arguments.handshakes
    );
    println!(
        "{:<26} {:>10} {:>12}",
        "client offers", "full us", "resumed us"
    );
    for (name, exchange, suites) in OFFERS {
        let client = |resume| client_config(exchange, suites, resume);
        let full = measure(arguments, &server, &client(false), HandshakeKind::Full)?;
        let resumed = measure(arguments, &server, &client(true), HandshakeKind::Resumed)?;
        println!("{name:<26} {full:>10.1} {resumed:>12.1}");
    }
    Ok(())
}

fn measure(
    arguments: &Arguments,
    server: &TlsConfig,
    client: &Arc<ClientConfig>,
    expected: HandshakeKind,
) -> io::Result<f64> {
    let mut times_us = Vec::with_capacity(arguments.handshakes);
    // The first of those that resume has nothing to resume yet.
    shake_hands(server, client)?;
    for _ in 0..arguments.handshakes {
        let (took, kind) = shake_hands(server, client)?;
        if kind != Some(expected) {
            return Err(io::Error::other(format!("not {expected:?} but {kind:?}")));
        }
        times_us.push(took.as_secs_f64() * 1e6);
    }
    Ok(median(&mut times_us))
}

fn shake_hands(
    server: &TlsConfig,
    client: &Arc<ClientConfig>,
) -> io::Result<(Duration, Option<HandshakeKind>)> {
    let mut client = connection(client, 0)?;
    let (mut plaintext, mut output) = (Vec::new(), Vec::new());
    let mut flight = Vec::new();
    let mut took = Duration::ZERO;
    let begun = Instant::now();
    let mut server = TlsSession::new(server).map_err(io::Error::other)?;
    took += begun.elapsed();
    while server.progress() == Progress::Handshaking {
        flight.clear();
        while client.wants_write() {
            client.write_tls(&mut flight)?;
        }
        let begun = Instant::now();
        server
            .receive(&mut flight, &mut plaintext, &mut output)
            .map_err(io::Error::other)?;
        took += begun.elapsed();
        let mut rest = &output[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest)?;
            client.process_new_packets().map_err(io::Error::other)?;
        }
        output.clear();
    }
    Ok((took, client.handshake_kind()))
}
