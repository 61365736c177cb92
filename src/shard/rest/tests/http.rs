//! Framing: keep-alive, pipelining, bodies in pieces, deadlines.

use super::{cluster, outcome, request, with_key};
use crate::domain::time::Now;
use crate::shard::input::Input;
use crate::shard::testing::{Client, Cluster, app};

const PUBLISH: &str = "/v1/channels/room/publish";

fn statuses(cluster: &mut Cluster, client: Client) -> Vec<u16> {
    let responses = cluster.responses(client);
    responses.iter().map(|response| response.status).collect()
}

#[test]
fn a_connection_serves_request_after_request() {
    let mut cluster = cluster(2);
    let client = cluster.accept(0);
    for _ in 0..3 {
        cluster.send(client, &with_key("POST", PUBLISH, r#"{"data":1}"#));
        assert_eq!(statuses(&mut cluster, client), [200]);
        cluster.send(client, &request("GET", "/healthz", "", ""));
        assert_eq!(statuses(&mut cluster, client), [200]);
    }
    assert!(cluster.is_open(client));
    cluster.send(
        client,
        &request("GET", "/healthz", "Connection: close\r\n", ""),
    );
    let responses = cluster.responses(client);
    assert!(responses[0].head.ends_with("Connection: close"));
    assert!(!cluster.is_open(client));
}

#[test]
fn pipelined_requests_are_answered_in_order_wherever_they_are_served() {
    for shard_count in 1..4 {
        let mut cluster = cluster(shard_count);
        let client = cluster.accept(0);
        let mut pipelined = Vec::new();
        for at in 0..8 {
            let path = format!("/v1/channels/room-{at}/peers");
            pipelined.extend(with_key("GET", &path, ""));
            let path = format!("/v1/peers/peer-{at}");
            pipelined.extend(with_key("DELETE", &path, ""));
        }
        cluster.send(client, &pipelined);
        let responses = cluster.responses(client);
        assert_eq!(responses.len(), 16, "{shard_count} shards");
        for (at, pair) in responses.chunks(2).enumerate() {
            let listed = format!(r#"{{"channel":"room-{at}","peers":[]}}"#);
            let kicked = format!(r#"{{"peerId":"peer-{at}","closed":0}}"#);
            assert_eq!((&pair[0].body, &pair[1].body), (&listed, &kicked));
        }
    }
}

#[test]
fn a_waiting_request_holds_what_comes_behind_it() {
    let mut cluster = cluster(4);
    // Whatever shard owns the peer, it is not all of these.
    for shard in 0..2 {
        let client = cluster.accept(shard);
        cluster.feed(client, &with_key("DELETE", "/v1/peers/ann", ""));
        let waits = !cluster.shards[shard].wants_input(client.id);
        cluster.feed(client, &request("GET", "/healthz", "", ""));
        cluster.run();
        let bodies: Vec<_> = cluster.responses(client);
        assert_eq!(bodies[0].body, r#"{"peerId":"ann","closed":0}"#);
        assert_eq!(bodies[1].body, r#"{"status":"ok"}"#);
        assert!(cluster.shards[shard].wants_input(client.id));
        if waits {
            return;
        }
    }
    panic!("no shard had to ask another");
}

#[test]
fn a_client_that_ends_its_side_still_gets_its_answer() {
    for shard in 0..4 {
        let mut cluster = cluster(4);
        let client = cluster.accept(shard);
        cluster.feed(client, &with_key("DELETE", "/v1/peers/ann", ""));
        cluster.end(client);
        cluster.run();
        assert_eq!(statuses(&mut cluster, client), [200]);
        assert!(!cluster.is_open(client));
    }
}

#[test]
fn requests_may_arrive_split_at_every_byte() {
    let chunked = b"POST /v1/channels/room/publish HTTP/1.1\r\nHost: x\r\n\
        Authorization: Bearer sk_live_full\r\nTransfer-Encoding: chunked\r\n\r\n\
        4;ext=1\r\n{\"da\r\n6\r\nta\":1}\r\n0\r\nTrailer: x\r\n\r\n";
    let counted = with_key("POST", PUBLISH, r#"{ "data" : [1, 2] }"#);
    let refused = request("POST", PUBLISH, "", r#"{"data":1}"#);
    for (sent, expected) in [(&chunked[..], 200), (&counted, 200), (&refused, 401)] {
        for split in 0..=sent.len() {
            let mut cluster = cluster(1);
            let client = cluster.accept(0);
            cluster.send(client, &sent[..split]);
            // What follows must not be taken for a part of it.
            let mut rest = sent[split..].to_vec();
            rest.extend(request("GET", "/healthz", "", ""));
            cluster.send(client, &rest);
            assert_eq!(
                statuses(&mut cluster, client),
                [expected, 200],
                "split at {split}"
            );
        }
        let mut cluster = cluster(1);
        let client = cluster.accept(0);
        for byte in sent {
            cluster.send(client, &[*byte]);
        }
        assert_eq!(statuses(&mut cluster, client), [expected], "byte by byte");
    }
}

#[test]
fn continue_is_sent_only_where_the_body_is_wanted() {
    let expecting = |lines: &str, length: usize| {
        format!(
            "POST {PUBLISH} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {length}\r\n\
             Expect: 100-continue\r\n\r\n"
        )
    };
    let key = "Authorization: Bearer sk_live_full\r\n";
    let mut cluster = cluster(1);
    let client = cluster.accept(0);
    cluster.send(client, expecting(key, 10).as_bytes());
    assert_eq!(cluster.take(client), b"HTTP/1.1 100 Continue\r\n\r\n");
    cluster.send(client, br#"{"data":1}"#);
    assert_eq!(statuses(&mut cluster, client), [200]);
    // The body is there already: nobody waits.
    let whole = expecting(key, 10) + r#"{"data":1}"#;
    cluster.send(client, whole.as_bytes());
    assert_eq!(statuses(&mut cluster, client), [200]);
    for (lines, length, status) in [("", 10, 401), (key, 50_000_000, 413)] {
        let client = cluster.accept(0);
        cluster.send(client, expecting(lines, length).as_bytes());
        assert_eq!(statuses(&mut cluster, client), [status]);
        assert!(!cluster.is_open(client));
    }
}

#[test]
fn bodies_up_to_the_limit_are_read_and_longer_ones_are_not() {
    let mut cluster = cluster(1);
    let body = |bytes: usize| {
        let padding = "x".repeat(bytes - r#"{"data":""}"#.len());
        format!(r#"{{"data":"{padding}"}}"#)
    };
    let response = cluster.request(0, &with_key("POST", PUBLISH, &body(32_768)));
    assert_eq!(response.status, 200);
    let response = cluster.request(0, &with_key("POST", PUBLISH, &body(32_769)));
    assert_eq!(outcome(&response), (413, "invalid_request".into()));
    // By the announcement alone, without a byte of the body.
    let client = cluster.accept(0);
    let whole = with_key("POST", PUBLISH, &body(32_769));
    let head_bytes = whole.len() - 32_769;
    cluster.send(client, &whole[..head_bytes]);
    assert_eq!(statuses(&mut cluster, client), [413]);
    // By count, where nothing is announced; with a bad credential it is that which counts.
    for (credential, status) in [("sk_live_full", 413), ("sk_live_none", 401)] {
        let client = cluster.accept(0);
        let head = format!(
            "POST {PUBLISH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {credential}\r\n\
             Transfer-Encoding: chunked\r\n\r\n"
        );
        cluster.send(client, head.as_bytes());
        for _ in 0..33 {
            assert!(cluster.is_open(client));
            let chunk = format!("400\r\n{}\r\n", "x".repeat(1_024));
            cluster.send(client, chunk.as_bytes());
        }
        assert_eq!(statuses(&mut cluster, client), [status]);
        assert!(!cluster.is_open(client));
    }
}

#[test]
fn what_could_smuggle_a_request_is_refused_and_ends_the_connection() {
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length: 5\n",
    ] {
        for credential in ["Authorization: Bearer sk_live_full\r\n", ""] {
            let mut cluster = cluster(1);
            let client = cluster.accept(0);
            let sent = format!(
                "POST {PUBLISH} HTTP/1.1\r\nHost: x\r\n{credential}{lines}\r\n0\r\n\r\n{smuggled}"
            );
            cluster.send(client, sent.as_bytes());
            assert_eq!(statuses(&mut cluster, client), [400], "{lines}");
            assert!(!cluster.is_open(client));
        }
    }
    let mut cluster = cluster(1);
    let client = cluster.accept(0);
    let sent = format!(
        "POST {PUBLISH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_live_full\r\n\
         Transfer-Encoding: chunked\r\n\r\nzz\r\n{smuggled}"
    );
    cluster.send(client, sent.as_bytes());
    assert_eq!(statuses(&mut cluster, client), [400]);
    assert!(!cluster.is_open(client));
}

#[test]
fn requests_must_arrive_in_time() {
    for sent in [
        "POST /v1/tok",
        "POST /v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_live_full\r\n\
         Content-Length: 5\r\n\r\n{",
    ] {
        let mut cluster = cluster(1);
        let client = cluster.accept(0);
        cluster.send(client, sent.as_bytes());
        cluster.wait(4_900);
        assert!(cluster.is_open(client));
        cluster.wait(200);
        assert_eq!(outcome(&cluster.responses(client)[0]).0, 408);
        assert!(!cluster.is_open(client));
    }
}

#[test]
fn idle_connections_end_without_an_answer() {
    let mut cluster = cluster(1);
    let client = cluster.accept(0);
    cluster.send(client, &request("GET", "/healthz", "", ""));
    cluster.take(client);
    cluster.wait(129_000);
    assert!(cluster.is_open(client));
    cluster.wait(1_100);
    assert!(!cluster.is_open(client));
    assert_eq!(cluster.take(client), b"");
}

#[test]
fn nobody_is_hurried_while_an_owner_is_asked() {
    let mut cluster = cluster(4);
    let clients: Vec<Client> = (0..4).map(|shard| cluster.accept(shard)).collect();
    for client in &clients {
        cluster.feed(*client, &with_key("DELETE", "/v1/peers/ann", ""));
    }
    let Now { mono_ms, unix_ms } = cluster.now;
    cluster.now = Now {
        mono_ms: mono_ms + 29_000,
        unix_ms: unix_ms + 29_000,
    };
    for shard in 0..4 {
        cluster.input(shard, Input::Time);
    }
    cluster.run();
    for client in clients {
        assert_eq!(statuses(&mut cluster, client), [200]);
    }
}

#[test]
fn a_head_answer_has_no_body() {
    let mut cluster = cluster(2);
    let client = cluster.accept(0);
    let path = "/v1/channels/room/peers";
    for path in ["/healthz", "/v1/usage", path] {
        cluster.send(client, &with_key("HEAD", path, ""));
        let sent = cluster.take(client);
        assert!(sent.starts_with(b"HTTP/1.1 200 OK\r\n"), "{path}");
        assert!(sent.ends_with(b"\r\n\r\n"), "{path}");
    }
}

#[test]
fn a_drain_serves_http_to_the_end() {
    let mut cluster = cluster(2);
    let idle = cluster.accept(0);
    cluster.send(idle, &request("GET", "/healthz", "", ""));
    cluster.take(idle);
    let whole = with_key("POST", PUBLISH, r#"{"data":1}"#);
    let [sending, waiting] = [cluster.accept(0), cluster.accept(1)];
    cluster.send(sending, &whole[..whole.len() - 3]);
    // The other shard has to be asked about the peer.
    let [other, here] = [0, 1].map(|at: usize| &cluster.shards[at].context);
    let app = app().id.tag();
    let is_elsewhere = |id: &String| here.placement.peer_owner(app, id) == other.id();
    let mut peers = (0..).map(|number| format!("peer-{number}"));
    let path = format!("/v1/peers/{}", peers.find(is_elsewhere).unwrap());
    cluster.feed(waiting, &with_key("DELETE", &path, ""));
    for shard in 0..2 {
        cluster.input(
            shard,
            Input::Drain {
                window_ms: 5_000,
                retry_after_ms: 1,
            },
        );
    }
    cluster.run();
    assert_eq!(statuses(&mut cluster, waiting), [200]);
    assert!(!cluster.is_open(waiting));
    cluster.send(sending, &whole[whole.len() - 3..]);
    assert_eq!(statuses(&mut cluster, sending), [200]);
    assert!(!cluster.is_open(sending));
    // Whoever asks nothing is left alone until nobody is accepted any more.
    assert!(cluster.is_open(idle));
    cluster.input(0, Input::EndIdle);
    cluster.run();
    assert!(!cluster.is_open(idle));
}
