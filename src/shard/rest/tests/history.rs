//! What a channel keeps, over REST: pages, positions that are not known, and forgetting.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{outcome, request, with_key};
use crate::domain::history::{HistoryRule, HistoryRules};
use crate::domain::history_page::{Forgotten, HistoryAsked, HistoryTold, Page};
use crate::domain::rights::App;
use crate::proto::wire::position::Epoch;
use crate::shard::input::Input;
use crate::shard::query::{Answer, HistoryQuery, Query};
use crate::shard::testing::{Cluster, app, rights};

/// Five publications are kept of each channel below `room/`.
fn with_history(shard_count: u16) -> Cluster {
    let rule = HistoryRule {
        messages: 5,
        ..HistoryRule::new("room/**")
    };
    let app = App {
        history: Arc::new(HistoryRules::new(&[rule]).unwrap()),
        ..app()
    };
    Cluster::new(shard_count, rights(app))
}

fn publish(cluster: &mut Cluster, shard: usize, body: &str) -> Value {
    let request = with_key("POST", "/v1/channels/room/1/publish", body);
    let response = cluster.request(shard, &request);
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()
}

/// A page, asked for with that query.
fn page(cluster: &mut Cluster, shard: usize, query: &str) -> (u16, Value, String) {
    let path = format!("/v1/channels/room/1/history{query}");
    let response = cluster.request(shard, &with_key("GET", &path, ""));
    (response.status, response.json(), response.body)
}

fn numbers(page: &Value) -> Vec<u64> {
    let messages = page["messages"].as_array().unwrap().iter();
    messages.map(|it| it["seq"].as_u64().unwrap()).collect()
}

#[test]
fn publications_are_numbered_and_come_in_pages() {
    for shard_count in [1, 2, 4] {
        let mut cluster = with_history(shard_count);
        let shards = usize::from(shard_count);
        let first = publish(
            &mut cluster,
            0,
            r#"{"data":{ "a" : [1,  2] },"from":"x\"y"}"#,
        );
        let epoch = first["epoch"].as_str().unwrap().to_owned();
        let expected = json!({"channel": "room/1", "delivered": 0, "epoch": epoch, "seq": 1});
        assert_eq!(first, expected);
        let body = r#"{"data":2,"peerMetadata":{"n":2}}"#;
        assert_eq!(publish(&mut cluster, shards - 1, body)["seq"], 2);

        let (status, shown, body) = page(&mut cluster, shards - 1, "");
        assert_eq!(status, 200);
        let at = 1_700_000_000_000_u64;
        assert_eq!(
            shown,
            json!({
                "channel": "room/1", "epoch": epoch, "first": 1, "last": 2, "more": false,
                "messages": [
                    {"seq": 1, "timeMs": at, "from": "x\"y", "data": {"a": [1, 2]}},
                    {"seq": 2, "timeMs": at, "from": "server", "data": 2,
                     "fromMetadata": {"n": 2}},
                ],
            })
        );
        assert!(
            body.contains(r#""data":{ "a" : [1,  2] }"#),
            "byte for byte: {body}"
        );

        for data in 3..=7 {
            publish(&mut cluster, 0, &json!({ "data": data }).to_string());
        }
        for (query, expected, more) in [
            ("", &[3, 4, 5, 6, 7][..], false),
            ("?limit=2", &[3, 4], true),
            ("?limit=5", &[3, 4, 5, 6, 7], false),
            ("?limit=2&order=desc", &[7, 6], true),
            ("?order=desc", &[7, 6, 5, 4, 3], false),
            ("?since={}:2", &[3, 4, 5, 6, 7], false),
            ("?since={}:5&order=asc", &[6, 7], false),
            ("?since={}%3A5&order=desc&limit=1", &[7], true),
            ("?since={}:7", &[], false),
        ] {
            let (status, shown, _) = page(&mut cluster, 0, &query.replace("{}", &epoch));
            assert_eq!(status, 200, "{query}");
            assert_eq!((&shown["first"], &shown["last"]), (&json!(3), &json!(7)));
            assert_eq!(
                (&*numbers(&shown), &shown["more"]),
                (expected, &json!(more)),
                "{query}"
            );
        }
    }
}

#[test]
fn what_cannot_be_had_is_told_apart_from_what_cannot_be_asked() {
    let mut cluster = with_history(2);
    let mut epoch = String::new();
    for data in 0..7 {
        let published = publish(&mut cluster, 0, &json!({ "data": data }).to_string());
        epoch = published["epoch"].as_str().unwrap().to_owned();
    }
    for since in [
        "{}:1",
        "{}:0",
        "{}:8",
        "{}:18446744073709551615",
        "{}:99999999999999999999999",
        "AAAAAAAA:7",
        "abcdefgh-_klmnop:7",
    ] {
        let since = since.replace("{}", &epoch);
        for shard in 0..2 {
            let (status, error, _) = page(&mut cluster, shard, &format!("?since={since}"));
            assert_eq!(
                (status, &error["error"]),
                (410, &json!("history_lost")),
                "{since}"
            );
        }
    }
    for query in [
        "since=",
        "since=7",
        "since=:7",
        "since=short:7",
        "since=abcdefgh-_klmnopq:7",
        "since=AAAA%20AAA:7",
        "since={}:",
        "since={}:-1",
        "since={}:%2B1",
        "since={}:1.0",
        "since={}:7:7",
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=%2B1",
        "limit=x",
        "limit=99999999999999999999",
        "order=",
        "order=DESC",
        "limit=1&limit=1",
    ] {
        let query = query.replace("{}", &epoch);
        let (status, error, _) = page(&mut cluster, 0, &format!("?{query}"));
        assert_eq!(
            (status, &error["error"]),
            (400, &json!("invalid_request")),
            "{query}"
        );
    }
    // Of a channel without history there is nothing, and nothing behind any position.
    let hall = |query: &str| with_key("GET", &format!("/v1/channels/hall/history{query}"), "");
    let empty = json!({
        "channel": "hall", "epoch": null, "first": 0, "last": 0, "messages": [], "more": false,
    });
    for shard in 0..2 {
        assert_eq!(cluster.request(shard, &hall("")).json(), empty);
        let lost = cluster.request(shard, &hall(&format!("?since={epoch}:7")));
        assert_eq!(outcome(&lost), (410, "history_lost".to_owned()));
    }
}

#[test]
fn it_is_forgotten_whole_and_numbered_anew() {
    for shard_count in [1, 2, 4] {
        let mut cluster = with_history(shard_count);
        let forget = with_key("DELETE", "/v1/channels/room/1/history", "");
        let before = publish(&mut cluster, 0, r#"{"data":1}"#)["epoch"].clone();
        publish(&mut cluster, 0, r#"{"data":2}"#);
        let last = usize::from(shard_count) - 1;
        let answer = cluster.request(last, &forget).json();
        assert_eq!(answer, json!({"channel": "room/1", "deleted": 2}));
        let (_, shown, _) = page(&mut cluster, 0, "");
        assert_eq!(numbers(&shown), [] as [u64; 0]);
        assert_ne!(shown["epoch"], before);
        let query = format!("?since={}:1", before.as_str().unwrap());
        assert_eq!(page(&mut cluster, last, &query).0, 410);
        assert_eq!(cluster.request(0, &forget).json()["deleted"], 0);
        let other = with_key("DELETE", "/v1/channels/hall/history", "");
        assert_eq!(cluster.request(last, &other).json()["deleted"], 0);
    }
}

#[test]
fn a_publication_with_an_id_is_made_once() {
    for shard_count in [1, 2, 4] {
        let mut cluster = with_history(shard_count);
        let first = publish(&mut cluster, 0, r#"{"data":1,"id":"m-1"}"#);
        let last = usize::from(shard_count) - 1;
        let again = publish(&mut cluster, last, r#"{"data":2,"id":"m-1"}"#);
        assert_eq!(
            (&again["epoch"], &again["seq"]),
            (&first["epoch"], &json!(1))
        );
        assert_eq!(
            (&first["duplicate"], &again["duplicate"]),
            (&Value::Null, &json!(true))
        );
        // Somebody else's is another one.
        let other = publish(&mut cluster, 0, r#"{"data":3,"id":"m-1","from":"x"}"#);
        assert_eq!(other["seq"], 2);
        let longest = "x".repeat(64);
        let body = |id: &str| format!(r#"{{"data":1,"id":{id}}}"#);
        assert_eq!(
            publish(&mut cluster, 0, &body(&format!("{longest:?}")))["seq"],
            3
        );
        for id in [
            "\"\"",
            "7",
            "null",
            "\"\\ud800\"",
            &format!("\"{longest}x\""),
        ] {
            let path = "/v1/channels/room/1/publish";
            let refused = cluster.request(0, &with_key("POST", path, &body(id)));
            assert_eq!(
                outcome(&refused),
                (400, "invalid_request".to_owned()),
                "{id}"
            );
        }
    }
}

#[test]
fn who_may_read_may_not_always_forget() {
    let mut cluster = with_history(2);
    let narrow = "Authorization: Bearer sk_live_narrow\r\n";
    for (method, path, expected) in [
        ("GET", "/v1/channels/room/1/history", (200, "ok")),
        (
            "GET",
            "/v1/channels/hall/history",
            (403, "channel_not_authorized"),
        ),
        (
            "DELETE",
            "/v1/channels/room/1/history",
            (403, "action_not_permitted"),
        ),
        (
            "GET",
            "/v1/channels/_system%2Fx/history",
            (400, "channel_reserved"),
        ),
        (
            "PUT",
            "/v1/channels/room/1/history",
            (405, "invalid_request"),
        ),
    ] {
        let response = cluster.request(0, &request(method, path, narrow, ""));
        let (status, code) = outcome(&response);
        assert_eq!((status, &*code), expected, "{method} {path}");
        let refused = cluster.request(0, &request(method, path, "", ""));
        assert_eq!(refused.status, 401, "{method} {path}");
    }
}

/// What an operator asks that shard about `room/1`.
fn operator(cluster: &mut Cluster, shard: usize, asked: HistoryAsked) -> Vec<(u64, Answer)> {
    let query = Query::History(HistoryQuery {
        app: app().id.tag(),
        channel: "room/1".into(),
        asked,
    });
    cluster.input(shard, Input::Ask { query, number: 7 });
    cluster.run();
    std::mem::take(&mut cluster.effects(shard).answers)
}

fn all_since(since: Option<(Option<Epoch>, u64)>) -> HistoryAsked {
    HistoryAsked::Page(Page {
        since,
        limit: 10,
        is_newest_first: false,
        tells_size: true,
    })
}

fn forgotten(count: u64) -> HistoryTold {
    let is_refused = false;
    HistoryTold::Forgotten(Forgotten { count, is_refused })
}

#[test]
fn an_operator_may_ask_any_shard() {
    for shard_count in [1, 2, 4] {
        let mut cluster = with_history(shard_count);
        let none = Answer::History(forgotten(0));
        assert_eq!(operator(&mut cluster, 0, HistoryAsked::Forget), [(7, none)]);
        for data in 0..7 {
            publish(&mut cluster, 0, &json!({ "data": data }).to_string());
        }
        for shard in 0..usize::from(shard_count) {
            let mut answers = operator(&mut cluster, shard, all_since(None));
            let told = answers.pop().unwrap();
            let (7, Answer::History(HistoryTold::Page(Some(body)))) = told else {
                panic!("{told:?}")
            };
            let page: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(
                (numbers(&page), &page["count"]),
                (vec![3, 4, 5, 6, 7], &json!(5))
            );
            assert!(page["bytes"].as_u64() > Some(5 * 50), "{page}");
            let epoch = page["epoch"].as_str().and_then(Epoch::parse);
            for since in [(epoch, 1), (epoch, 8), (None, 7)] {
                let lost = Answer::History(HistoryTold::Page(None));
                let answers = operator(&mut cluster, shard, all_since(Some(since)));
                assert_eq!(answers, [(7, lost)], "{since:?}");
            }
        }
        let last = usize::from(shard_count) - 1;
        let all = Answer::History(forgotten(5));
        assert_eq!(
            operator(&mut cluster, last, HistoryAsked::Forget),
            [(7, all)]
        );
    }
}

#[test]
fn an_operator_hears_that_the_owner_is_silent() {
    let mut unanswered = 0;
    for asked in 0..2 {
        let mut cluster = with_history(2);
        cluster.lose(1 - asked);
        let mut answers = operator(&mut cluster, asked, all_since(None));
        cluster.wait(31_000);
        answers.append(&mut cluster.effects(asked).answers);
        assert_eq!(answers.len(), 1);
        unanswered += usize::from(answers[0].1 == Answer::Unanswered);
    }
    assert_eq!(unanswered, 1, "one of the two is the owner");
}

/// A channel of that number's shard, below `room/`.
fn owned_by(cluster: &Cluster, shard: usize) -> String {
    let placement = &cluster.shards[0].context.placement;
    let mut names = (0..).map(|number| format!("room/{number}"));
    let is_owner = |name: &String| {
        let hash = placement.channel_hash(app().id.tag(), name);
        placement.owner(hash).shard().index() == shard
    };
    names.find(is_owner).unwrap()
}

#[test]
fn any_shard_shows_and_forgets_what_another_one_keeps() {
    for owner in 0..3 {
        let mut cluster = with_history(3);
        let channel = owned_by(&cluster, owner);
        let mut epoch = Value::Null;
        for asked in (0..3).filter(|shard| *shard != owner) {
            let mut ask = |shard: usize, method: &str, rest: &str, body: &str| {
                let path = format!("/v1/channels/{channel}/{rest}");
                let response = cluster.request(shard, &with_key(method, &path, body));
                (response.status, response.json())
            };
            for data in 1..=2 {
                let body = format!(r#"{{"data":{data}}}"#);
                assert_eq!(ask(asked, "POST", "publish", &body).1["seq"], data);
            }
            let here = ask(owner, "GET", "history", "");
            assert_eq!(ask(asked, "GET", "history", ""), here);
            assert_eq!(numbers(&here.1), [1, 2]);
            assert_ne!(here.1["epoch"], epoch);
            epoch = here.1["epoch"].clone();
            let forgotten = ask(asked, "DELETE", "history", "").1;
            assert_eq!(forgotten, json!({"channel": channel, "deleted": 2}));
            let since = format!("history?since={}:1", epoch.as_str().unwrap());
            for shard in [asked, owner] {
                assert_eq!(ask(shard, "GET", &since, "").0, 410);
            }
        }
        let kept = cluster.shards.iter().map(|it| it.histories().1);
        let expected = (0..3).map(|shard| usize::from(shard == owner));
        assert!(kept.eq(expected), "what is kept is at the owner only");
    }
}
