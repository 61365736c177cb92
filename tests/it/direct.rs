//! Direct messages: every connection of the peer but the sending one, wherever they live.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::on_shards;
use crate::support::setup::{ALL_ACTIONS, Setup, key, signer};
use crate::support::token::token;

fn send(to: &str, data: Value) -> Value {
    json!({"type": "send", "to": to, "data": data})
}

fn direct(from: &str, data: &str) -> String {
    format!(r#"{{"type":"direct","from":"{from}","data":{data}}}"#)
}

#[test]
fn all_pairs_of_peers_reach_each_other() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let mut peers: Vec<Client> = (0..8)
            .map(|number| server.peer(&format!("p{number}")))
            .collect();
        for from in 0..8 {
            for to in (0..8).filter(|to| *to != from) {
                peers[from].ask(send(&format!("p{to}"), json!([from, to])));
                peers[to].expect(&direct(&format!("p{from}"), &format!("[{from},{to}]")));
            }
        }
        peers.iter_mut().for_each(Client::expect_nothing_queued);
    });
}

#[test]
fn every_tab_of_the_peer_gets_it_but_the_sending_one() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let mut tabs: Vec<Client> = (0..4).map(|_| server.peer("tabs")).collect();
        let mut other = server.peer("other");
        other.ask(send("tabs", json!("to all")));
        tabs.iter_mut()
            .for_each(|tab| tab.expect(&direct("other", r#""to all""#)));
        tabs[0].ask(send("tabs", json!("to my others")));
        for tab in &mut tabs[1..] {
            tab.expect(&direct("tabs", r#""to my others""#));
        }
        tabs.iter_mut().for_each(Client::expect_nothing_queued);
        // With its last other tab gone, there is nobody left.
        let mut last = tabs.pop().unwrap();
        while let Some(tab) = tabs.pop() {
            tab.close(Some(1000));
        }
        crate::support::until("the tabs are gone", || {
            last.request(send("tabs", json!(0)));
            last.next().contains("peer_not_found")
        });
    });
}

#[test]
fn data_and_metadata_arrive_as_they_were_written() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let mut ada = server.with_claims(json!({"sub": "a\"d~\\", "peerMetadata": {"n": "Ada"}}));
        let mut bob = server.peer("bob");
        let data = r#"{ "a" : 1e400, "b":"\ud800" }"#;
        ada.send(format!(
            r#"{{"type":"send","to":"b\u006fb","data": {data} }}"#
        ));
        bob.expect(&format!(
            r#"{{"type":"direct","from":"a\"d~\\","data":{data},"fromMetadata":{{"n":"Ada"}}}}"#
        ));
        bob.ask(send("a\"d~\\", json!(null)));
        ada.expect(&direct("bob", "null"));
    });
}

#[test]
fn messages_to_one_peer_keep_their_order() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let (mut from, mut to) = (server.peer("from"), server.peer("to"));
        for number in 0..200 {
            from.send(send("to", json!(number)).to_string());
        }
        for number in 0..200 {
            to.expect(&direct("from", &number.to_string()));
        }
    });
}

#[test]
fn an_app_can_ask_for_a_shared_channel() {
    on_shards(|shards| {
        let keys = [key("pk_live_c", &["**"], ALL_ACTIONS), signer("sk_id_c")];
        let app = "app_c\ndirect_scope = \"shared-channel\"";
        let server = Setup::new(shards).app(app, &keys).start();
        let peer = |id: &str| {
            let permissions = ["publish", "subscribe", "send"];
            let claims = json!({"sub": id, "permissions": permissions});
            server.connect(&format!("?token={}", token("sk_id_c", claims)))
        };
        for round in 0..4 {
            let (mut a, mut b) = (peer("a"), peer("b"));
            a.ask_refused(send("b", json!(1)), "peer_not_found");
            a.subscribe("x");
            b.subscribe("y");
            a.ask_refused(send("b", json!(1)), "peer_not_found");
            a.subscribe("y");
            a.ask(send("b", json!(round)));
            b.expect(&direct("a", &round.to_string()));
            b.ask(send("a", json!(round)));
            a.expect(&direct("b", &round.to_string()));
            b.ask(json!({"type": "unsubscribe", "channel": "y"}));
            a.ask_refused(send("b", json!(1)), "peer_not_found");
            b.expect_nothing_queued();
            a.close(None);
            b.close(None);
        }
    });
}
