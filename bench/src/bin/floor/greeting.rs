//! How a connection begins: the same number of requests and answers, of the same lengths, at the
//! bare server and at ringmesh.
//!
//! It matters long after: a client that has only ever received acknowledges every segment at
//! once, which the server's core pays for; one that has answered does not.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::str::FromStr;

use ringmesh_bench::client::{open, open_websocket, subscribe, subscription, upgrade};
use ringmesh_bench::fixture::upgrade_request;
use ringmesh_bench::real::Server;

use crate::compare::Contender;

/// A request and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Length of the request.
    pub request_bytes: usize,
    /// Length of the answer.
    pub answer_bytes: usize,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.request_bytes, self.answer_bytes)
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let halves = text.split_once(':');
        let halves = halves
            .and_then(|(request, answer)| Some((request.parse().ok()?, answer.parse().ok()?)));
        let (request_bytes, answer_bytes) = halves.ok_or("two lengths, as in 186:280")?;
        Ok(Self {
            request_bytes,
            answer_bytes,
        })
    }
}

/// How long the answers of ringmesh are: the switching of protocols with `welcome`, and the ack of
/// a subscription, if there is one.
///
/// # Errors
/// When ringmesh cannot be started, or refuses.
pub(crate) fn steps(query: &str, channel: Option<&str>) -> io::Result<Vec<Step>> {
    let server = Contender::RINGMESH.start()?;
    let mut socket = open(server.address)?;
    let answer_bytes = upgrade(&mut socket, query)?;
    let mut steps = vec![Step {
        request_bytes: upgrade_request(query).len(),
        answer_bytes,
    }];
    if let Some(channel) = channel {
        steps.push(Step {
            request_bytes: subscription(channel).0.len(),
            answer_bytes: subscribe(&mut socket, channel)?,
        });
    }
    Ok(steps)
}

/// A connection that has begun. At the bare server it takes all steps; at ringmesh it connects
/// with `query` and subscribes to `channel`, if there is one.
///
/// # Errors
/// Those of the socket, or a refusal.
pub(crate) fn connect(
    contender: &Contender,
    server: &Server,
    query: &str,
    channel: Option<&str>,
) -> io::Result<TcpStream> {
    let Some(floor) = &contender.floor else {
        let mut socket = open_websocket(server.address, query)?;
        if let Some(channel) = channel {
            subscribe(&mut socket, channel)?;
        }
        return Ok(socket);
    };
    let mut socket = open(server.address)?;
    for step in &floor.greeting {
        socket.write_all(&vec![b'x'; step.request_bytes])?;
        socket.read_exact(&mut vec![0; step.answer_bytes])?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_read_as_it_is_written() {
        let step = Step {
            request_bytes: 186,
            answer_bytes: 280,
        };
        assert_eq!(step.to_string().parse(), Ok(step));
        for wrong in ["", "186", "186:", ":280", "186:280:1", "186:x"] {
            assert!(wrong.parse::<Step>().is_err(), "{wrong:?}");
        }
    }
}
