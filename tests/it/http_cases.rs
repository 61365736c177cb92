//! HTTP/1.1 as it is attacked: the cases of `tests/conformance/http.toml`.

use std::collections::HashSet;
use std::net::Shutdown;

use serde::Deserialize;

use crate::support::raw::Raw;
use crate::support::setup::{ALL_ACTIONS, Setup, secret_key};

const CASES: &str = include_str!("../conformance/http.toml");
const POST: &str = "POST /v1/channels/hall/publish HTTP/1.1\r\nHost: x\r\n\
    Authorization: Bearer sk_live_declared_0123456789\r\nContent-Type: application/json\r\n";
const NEXT: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
const LAST: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    case: Vec<Case>,
}

/// How many pieces of a request that comes piece by piece: what is longer does not come byte by
/// byte, for on a machine that does other things that takes longer than a head may.
const PIECES: usize = 1_000;

/// See the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    source: String,
    send: String,
    answers: Vec<u16>,
    then: Then,
    /// For readers of the file.
    #[expect(dead_code, reason = "see above")]
    why: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum Then {
    #[serde(rename = "ends")]
    Ends,
    #[serde(rename = "goes on")]
    GoesOn,
    #[serde(rename = "breaks off")]
    BreaksOff,
}

impl Case {
    fn bytes(&self, post: &str) -> Vec<u8> {
        let mut text = self.send.replace("{post}", post).replace("{next}", NEXT);
        text = text.replace("{crlf}", &"\r\n".repeat(5));
        let lines: String = (0..100).map(|at| format!("A{at}: 1\r\n")).collect();
        text = text.replace("{lines}", &lines);
        for count in [256, 2_048, 8_192, 32_768] {
            text = text.replace(&format!("{{{count}}}"), &"x".repeat(count));
        }
        let byte = |char| u8::try_from(u32::from(char)).expect("a character is a byte");
        text.chars().map(byte).collect()
    }

    /// What is wrong with what the server makes of it, whole and piece by piece.
    fn faults(&self, post: &str, connect: impl Fn() -> Raw) -> Vec<String> {
        let bytes = self.bytes(post);
        let pieces = [bytes.len(), bytes.len().div_ceil(PIECES)].into_iter();
        let faults = pieces.filter_map(|piece| {
            let fault = self.fault(connect(), bytes.chunks(piece))?;
            let (name, source) = (&self.name, &self.source);
            Some(format!("{name} ({source}), {piece} at once: {fault}"))
        });
        faults.collect()
    }

    /// What is wrong with what the server makes of these pieces.
    fn fault<'p>(
        &self,
        mut raw: Raw,
        mut pieces: impl Iterator<Item = &'p [u8]>,
    ) -> Option<String> {
        // A server that has refused takes no more.
        let _taken = pieces.all(|it| raw.write_while_taken(it));
        let mut wanted = self.answers.clone();
        match self.then {
            Then::Ends => {}
            Then::GoesOn => {
                wanted.push(200);
                let _taken = raw.write_while_taken(LAST);
            }
            Then::BreaksOff => raw.stream.shutdown(Shutdown::Write).unwrap(),
        }
        let answered = answers(&mut raw);
        (answered != wanted).then(|| format!("{answered:?}, not {wanted:?}"))
    }
}

/// The statuses that come until the server ends the connection.
fn answers(raw: &mut Raw) -> Vec<u16> {
    std::iter::from_fn(|| raw.try_response().map(|answer| answer.status)).collect()
}

#[test]
fn no_request_is_understood_in_two_ways() {
    let keys = [secret_key("sk_id_r", &["**"], ALL_ACTIONS) + "api_secret_file = \"api.secret\"\n"];
    let server = Setup::new(2).app("app_r", &keys).start();
    let table: Table = toml::from_str(CASES).unwrap();
    let names: HashSet<&str> = table.case.iter().map(|it| it.name.as_str()).collect();
    let mut faults = Vec::new();
    for case in &table.case {
        assert!(!case.source.is_empty(), "{} has a source", case.name);
        faults.extend(case.faults(POST, || server.raw()));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(names.len(), table.case.len(), "a name for each case");
}

/// What the admin listener answers otherwise: it has begun to read a body and says so; strangers
/// that call it `x` get 421 whatever the path.
const OF_ADMIN: [(&str, &[u16]); 6] = [
    ("a size of 2^64 - 1", &[400]),
    ("a body that breaks off", &[400]),
    ("a length that breaks off", &[400]),
    ("behind a refused body that is read", &[421, 200]),
    ("behind a refused body that is too long", &[421]),
    ("behind a refused body that is not waited for", &[421, 400]),
];

/// The admin listener has a library for HTTP, which would take much of this.
#[test]
fn the_admin_listener_is_as_strict() {
    let server = Setup::new(1).start();
    let (address, api) = (server.admin_address(), server.admin());
    let post = format!(
        "POST /api/internal/v1/reload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\n",
        api.bearer
    );
    let mut table: Table = toml::from_str(CASES).unwrap();
    for (name, answers) in OF_ADMIN {
        let case = table.case.iter_mut().find(|it| it.name == name);
        case.unwrap().answers = answers.to_vec();
    }
    // It makes no WebSockets.
    table.case.retain(|it| !it.name.contains("handshake"));
    let mut faults = Vec::new();
    for case in &table.case {
        faults.extend(case.faults(&post, || Raw::open(address)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
