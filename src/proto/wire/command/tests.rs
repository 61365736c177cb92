//! Messages as a client writes them, good ones and with every combination of faults.

use proptest::prelude::*;

use super::*;
use crate::proto::wire::error::ErrorCode::*;

/// The command, with the id to echo as it is written in the text.
fn check<'a>(text: &'a str, expected: Command<'_>, request_id: Option<&'a str>) {
    let request_id = request_id.map(JsonStr::from_escaped);
    assert_eq!(
        Request::parse(text),
        Ok(Request {
            request_id,
            command: expected
        }),
        "{text}"
    );
}

fn check_rejected(text: &str, code: ErrorCode, request_id: Option<&str>) {
    let rejection = Request::parse(text).expect_err(text);
    let request_id = request_id.map(JsonStr::from_escaped);
    assert_eq!(
        (rejection.code, rejection.request_id),
        (code, request_id),
        "{text}"
    );
    let escaped = serde_json::to_string(rejection.message).unwrap();
    assert_eq!(escaped, format!("\"{}\"", rejection.message));
}

#[test]
fn each_type_is_a_command() {
    let channel = || Cow::Borrowed("app/room-1");
    let subscribe = |include_sender_metadata| Command::Subscribe {
        channel: channel(),
        include_sender_metadata,
        since: None,
    };
    check(
        r#"{"type":"subscribe","channel":"app/room-1"}"#,
        subscribe(false),
        None,
    );
    check(
        r#"{"includeSenderMetadata":true,"type":"subscribe","channel":"app/room-1"}"#,
        subscribe(true),
        None,
    );
    check(
        r#"{"type":"subscribe","includeSenderMetadata": false ,
            "channel":"app/room-1","requestId":"1"}"#,
        subscribe(false),
        Some("\"1\""),
    );
    check(
        r#"{"type":"unsubscribe","channel":"app/room-1","requestId":"r"}"#,
        Command::Unsubscribe { channel: channel() },
        Some("\"r\""),
    );
    check(
        r#"{"type":"publish","channel":"app/room-1","data": {"a": [1, 2]} ,"to":7}"#,
        Command::Publish {
            channel: channel(),
            data: r#"{"a": [1, 2]}"#,
            id: None,
            position: false,
        },
        None,
    );
    check(
        r#"{"type":"send","to":"alice@example.com","data":null,"channel":7}"#,
        Command::Send {
            to: "alice@example.com".into(),
            data: "null",
        },
        None,
    );
    check(
        r#"{"type":"ping","channel":"","to":"","data":[]}"#,
        Command::Ping,
        None,
    );
    for (text, token) in [
        (r#"{"type":"refresh","token":"a.b.c"}"#, Some("a.b.c")),
        (
            r#"{"token":"\u0061","type":"refresh","channel":7}"#,
            Some("a"),
        ),
        (r#"{"type":"refresh"}"#, None),
        (r#"{"type":"refresh","token":["a"]}"#, None),
        (r#"{"type":"refresh","token":"\ud800"}"#, None),
    ] {
        let token = token.map(Cow::Borrowed);
        check(text, Command::Refresh { token }, None);
    }
    check(
        r#"{"type":"ping","requestId":"p"}"#,
        Command::Ping,
        Some("\"p\""),
    );
}

#[test]
fn the_last_of_a_duplicated_key_counts() {
    check(
        r#"{"type":5,"requestId":5,"channel":5,"data":1,"includeSenderMetadata":5,
            "type":"publish","requestId":"r","channel":"c","data":2,
            "includeSenderMetadata":true}"#,
        Command::Publish {
            channel: "c".into(),
            data: "2",
            id: None,
            position: false,
        },
        Some("\"r\""),
    );
    check_rejected(
        r#"{"type":"ping","requestId":"r","type":"x"}"#,
        UnknownType,
        Some("\"r\""),
    );
    check_rejected(
        r#"{"type":"ping","requestId":"r","requestId":null}"#,
        MalformedMessage,
        None,
    );
    check_rejected(
        r#"{"type":"publish","channel":"c","data":1,"channel":"_system/c"}"#,
        ChannelReserved,
        None,
    );
}

#[test]
fn names_and_keys_are_what_their_escapes_mean() {
    check(
        r#"{"\u0074ype":"pu\u0062lish","channel":"a\/\u00e9","d\u0061ta":"\u0061",
            "requestId":"\u0072"}"#,
        Command::Publish {
            channel: "a/é".into(),
            data: r#""\u0061""#,
            id: None,
            position: false,
        },
        Some(r#""\u0072""#),
    );
    check(
        r#"{"type":"send","to":"\"\\","\u0064ata":1,"data":"\ud83d"}"#,
        Command::Send {
            to: "\"\\".into(),
            data: r#""\ud83d""#,
        },
        None,
    );
    check(
        r#"{"type":"ping","\ud83d":1,"Type":2,"type ":3}"#,
        Command::Ping,
        None,
    );
    for (text, code) in [
        (r#"{"type":"subscribe","channel":"\ud83d"}"#, InvalidChannel),
        (
            r#"{"type":"subscribe","channel":"a\u0000"}"#,
            InvalidChannel,
        ),
        (
            r#"{"type":"subscribe","channel":"\u005fSystem\/x"}"#,
            ChannelReserved,
        ),
        (r#"{"type":"send","to":"\udc00","data":1}"#, InvalidPeerId),
        (r#"{"type":"send","to":"\u00e9","data":1}"#, InvalidPeerId),
        (r#"{"type":"ping\ud83d"}"#, UnknownType),
    ] {
        check_rejected(text, code, None);
    }
}

#[test]
fn malformed_messages_are_answered_with_a_good_request_id_or_none() {
    for text in [
        "",
        "ping",
        "[]",
        "{",
        "{\"type\":\"ping\"}x",
        "{\"type\":\"ping\",\"data\":01}",
        "{\"requestId\":\"r\",\"type\":\"ping\"",
        r#"{"type":"ping","requestId":null}"#,
        r#"{"type":"ping","requestId":7}"#,
        r#"{"type":"ping","requestId":["r"]}"#,
        r#"{"type":"ping","requestId":""}"#,
        r#"{"type":"ping","requestId":"\ud83d"}"#,
    ] {
        check_rejected(text, MalformedMessage, None);
    }
    let deep = format!(
        r#"{{"type":"ping","requestId":"r","data":{}{}}}"#,
        "[".repeat(128),
        "]".repeat(128)
    );
    check_rejected(&deep, MalformedMessage, None);
    for text in [
        r#"{"requestId":"r"}"#,
        r#"{"requestId":"r","type":null}"#,
        r#"{"requestId":"r","type":["ping"]}"#,
        r#"{"requestId":"r","type":"subscribe","channel":"c","includeSenderMetadata":null}"#,
        r#"{"requestId":"r","type":"subscribe","channel":"c","includeSenderMetadata":"true"}"#,
    ] {
        check_rejected(text, MalformedMessage, Some("\"r\""));
    }
}

#[test]
fn request_ids_are_measured_decoded() {
    for (id, is_valid) in [
        ("r".repeat(128), true),
        ("r".repeat(129), false),
        ("é".repeat(64), true),
        ("é".repeat(64) + "r", false),
        (r"\u0072".repeat(128), true),
        (r"\u0072".repeat(129), false),
        (r"\n".repeat(128), true),
    ] {
        let (id, text) = (
            format!("\"{id}\""),
            format!(r#"{{"type":"ping","requestId":"{id}"}}"#),
        );
        if is_valid {
            check(&text, Command::Ping, Some(&id));
        } else {
            check_rejected(&text, MalformedMessage, None);
        }
    }
}

/// A way to write a member, and the code it earns where the member counts.
type Variant = (&'static str, Option<ErrorCode>);

#[test]
fn the_first_fault_in_order_wins() {
    const TYPES: &[Variant] = &[
        (r#","type":"subscribe""#, None),
        (r#","type":"unsubscribe""#, None),
        (r#","type":"publish""#, None),
        (r#","type":"send""#, None),
        (r#","type":"refresh""#, None),
        (r#","type":"ping""#, None),
        (r#","type":"Ping""#, Some(UnknownType)),
        (r#","type":7"#, Some(MalformedMessage)),
        ("", Some(MalformedMessage)),
    ];
    const CHANNELS: &[Variant] = &[
        (r#","channel":"c""#, None),
        (r#","channel":"_metered/c""#, Some(ChannelReserved)),
        (r#","channel":"_INTERNAL/\n""#, Some(InvalidChannel)),
        (r#","channel":"""#, Some(InvalidChannel)),
        (r#","channel":{}"#, Some(InvalidChannel)),
        ("", Some(InvalidChannel)),
    ];
    const PEERS: &[Variant] = &[
        (r#","to":"p""#, None),
        (r#","to":1"#, Some(InvalidPeerId)),
        ("", Some(InvalidPeerId)),
    ];
    const DATA: &[Variant] = &[(r#","data":0"#, None), ("", Some(MissingData))];
    const MARKS: &[Variant] = &[
        ("", None),
        (r#","includeSenderMetadata":true"#, None),
        (r#","includeSenderMetadata":1"#, Some(MalformedMessage)),
    ];
    for kind in TYPES {
        let channels = ["subscribe", "publish"]
            .iter()
            .any(|known| kind.0.contains(known));
        let peers = kind.0.contains("send");
        let data = peers || kind.0.contains("publish");
        for (channel, to, data_member, mark) in product(CHANNELS, PEERS, DATA, MARKS) {
            let faults = [
                kind.1,
                mark.1,
                channel.1.filter(|_| channels),
                to.1.filter(|_| peers),
                data_member.1.filter(|_| data),
            ];
            let members = [data_member.0, mark.0, to.0, channel.0, kind.0].concat();
            let text = format!(r#"{{"requestId":"r"{members}}}"#);
            match faults.into_iter().flatten().min() {
                Some(code) => check_rejected(&text, code, Some("\"r\"")),
                None => assert!(Request::parse(&text).is_ok(), "{text}"),
            }
            let text = format!(r#"{{"requestId":""{members}}}"#);
            check_rejected(&text, MalformedMessage, None);
        }
    }
}

fn product<'a>(
    a: &'a [Variant],
    b: &'a [Variant],
    c: &'a [Variant],
    d: &'a [Variant],
) -> impl Iterator<Item = (Variant, Variant, Variant, Variant)> {
    let count = a.len() * b.len() * c.len() * d.len();
    (0..count).map(|index| {
        let (index, on_a) = (index / a.len(), a[index % a.len()]);
        let (index, on_b) = (index / b.len(), b[index % b.len()]);
        let (index, on_c) = (index / c.len(), c[index % c.len()]);
        (on_a, on_b, on_c, d[index])
    })
}

/// Any of the commands with any members, most of them strings.
fn message() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        6 => "\"(\\\\u[0-9a-f]{4}|[ !#-\\[\\]-~é]{1,9}){0,3}\"",
        1 => "null|true|[0-9]|\\{\\}|\\[\"r\"\\]",
    ];
    let member = ("channel|to|data|data|x|requestId", value)
        .prop_map(|(key, value)| format!(",\"{key}\":{value}"));
    (
        "subscribe|unsubscribe|publish|send|ping",
        prop::collection::vec(member, 2..9),
    )
        .prop_map(|(kind, members)| format!("{{\"type\":\"{kind}\"{}}}", members.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    #[test]
    fn whatever_is_accepted_keeps_the_rules(text in message()) {
        let has_id = |id: JsonStr<'_>| (1..=128).contains(&id.decode().unwrap().len());
        match Request::parse(&text) {
            Ok(request) => {
                prop_assert!(request.request_id.is_none_or(has_id));
                match request.command {
                    Command::Subscribe { channel, .. } | Command::Unsubscribe { channel } => {
                        prop_assert_eq!(validate_channel_name(&channel), Ok(()));
                    }
                    Command::Publish { channel, data, .. } => {
                        prop_assert_eq!(validate_channel_name(&channel), Ok(()));
                        prop_assert!(text.contains(&["\"data\":", data].concat()));
                    }
                    Command::Send { to, data } => {
                        prop_assert_eq!(validate_peer_id(&to), Ok(()));
                        prop_assert!(text.contains(&["\"data\":", data].concat()));
                    }
                    Command::Refresh { .. } | Command::Ping => {}
                }
            }
            Err(rejection) => prop_assert!(rejection.request_id.is_none_or(has_id)),
        }
    }
}

#[test]
fn what_was_published_before_is_asked_for_in_three_ways() {
    let subscribe = |since| Command::Subscribe {
        channel: "c".into(),
        include_sender_metadata: false,
        since: Some(since),
    };
    let known = Epoch::parse("q7Zk2wAb");
    for (since, expected) in [
        (
            r#""since":{"epoch":"q7Zk2wAb","seq":41}"#,
            Since::After(known, 41),
        ),
        (
            r#""since":{"seq":0,"x":[],"epoch":"sixteen-characte"}"#,
            Since::After(None, 0),
        ),
        (r#""since":{"last":20},"position":true"#, Since::Last(20)),
        (r#""position":true"#, Since::Now),
    ] {
        let text = format!(r#"{{"type":"subscribe","channel":"c","requestId":"1",{since}}}"#);
        check(&text, subscribe(expected), Some("\"1\""));
    }
    for since in [
        r#"{"epoch":"q7Zk2wAb"}"#,
        r#"{"seq":1}"#,
        r#"{"epoch":"q7Zk2wAb","seq":1,"last":1}"#,
        r#"{"epoch":7,"seq":1}"#,
        r#"{"epoch":"q7Zk2wAb","seq":-1}"#,
        r#"{"epoch":"q7Zk2wAb","seq":1.0}"#,
        r#"{"epoch":"q7Zk2wAb","seq":"1"}"#,
        r#"{"epoch":"q7Zk2wAb","seq":99999999999999999999}"#,
        r#"{"last":4294967296}"#,
        r#"{"last":null}"#,
        "{}",
        "[]",
        "null",
        "7",
    ] {
        let with = |tail| format!(r#"{{"type":"subscribe","channel":"","since":{since}{tail}}}"#);
        check_rejected(
            &with(r#","requestId":"1""#),
            MalformedMessage,
            Some("\"1\""),
        );
        check_rejected(&with(""), MalformedMessage, None);
    }
    let without_id = r#"{"type":"subscribe","channel":"c","since":{"last":1}}"#;
    check_rejected(without_id, MalformedMessage, None);
    let text = r#"{"type":"subscribe","channel":"c","position":1}"#;
    check_rejected(text, MalformedMessage, None);
    // Others do not know these fields.
    let text = r#"{"type":"ping","since":7,"position":7,"id":7}"#;
    check(text, Command::Ping, None);
}

#[test]
fn a_publication_may_have_an_id() {
    let text = r#"{"type":"publish","channel":"c","data":1,"id":"m-\u0031","position":true}"#;
    let expected = Command::Publish {
        channel: "c".into(),
        data: "1",
        id: Some("m-1".into()),
        position: true,
    };
    check(text, expected, None);
    let long = format!("\"{}\"", "x".repeat(65));
    for id in ["\"\"", &long, "7", "null", r#""\ud800""#] {
        let text = format!(r#"{{"type":"publish","channel":"","data":1,"id":{id}}}"#);
        check_rejected(&text, MalformedMessage, None);
    }
}
