//! Established connections while 2,000 clients connect.

use std::io::Read;
use std::net::TcpStream;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

use rcgen::PKCS_ECDSA_P256_SHA256;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection};

use crate::support::{HOST, PATIENCE, Site, TLS, round_trip};

/// Handshakes of a storm: all of their first flights are under way before any is answered.
const STORM_THREADS: usize = 4;
const STORM_CONNECTS_EACH: usize = 500;

#[test]
fn a_storm_of_handshakes_starves_nobody() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let one_shard = TLS.replace("shards = 4", "shards = 1");
    let server = site.serve(&one_shard);
    let config = site.client(&[&TLS13]);
    let mut live = server.websocket(&config);
    let together = Arc::new(Barrier::new(STORM_THREADS + 1));
    let storm: Vec<_> = (0..STORM_THREADS)
        .map(|_| {
            let (config, together, address) = (config.clone(), together.clone(), server.address);
            thread::spawn(move || {
                let streams: Vec<_> = (0..STORM_CONNECTS_EACH)
                    .map(|_| TcpStream::connect(address).unwrap())
                    .collect();
                together.wait();
                let begun = Instant::now();
                for stream in &streams {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    send_first_flight(&config, stream);
                }
                for mut stream in &streams {
                    // The first byte of the server's flight: the costly part is done.
                    stream.read_exact(&mut [0]).unwrap();
                }
                begun.elapsed()
            })
        })
        .collect();
    together.wait();
    let mut trips = Vec::new();
    while !storm.iter().all(thread::JoinHandle::is_finished) {
        trips.push(round_trip(&mut live));
    }
    let took = storm
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .max()
        .unwrap();
    trips.sort();
    let worst = trips[trips.len() - 1];
    assert!(trips.len() > 20, "{} round trips in {took:?}", trips.len());
    assert!(worst < took / 4, "{worst:?} of {took:?}");
}

fn send_first_flight(config: &Arc<ClientConfig>, mut stream: &TcpStream) {
    let name = ServerName::try_from(HOST).unwrap();
    let mut connection = ClientConnection::new(config.clone(), name).unwrap();
    connection.write_tls(&mut stream).unwrap();
}
