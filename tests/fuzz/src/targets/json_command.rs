//! Messages of clients against serde_json: the grammar, the members, and the span of `data`.

use std::fmt;

use ringmesh::limits::JSON_DEPTH_MAX;
use ringmesh::proto::wire::command::{Command, Request};
use ringmesh::proto::wire::error::ErrorCode;
use ringmesh::proto::wire::json::{JsonFault, for_each_member};
use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let mut members = Vec::new();
    let outcome = for_each_member(text, |key, value| members.push((key.decode(), value)));
    let is_json = serde_json::from_str::<&RawValue>(text).is_ok();
    let is_object = text
        .trim_start_matches([' ', '\t', '\r', '\n'])
        .starts_with('{');
    match outcome {
        Ok(()) => assert!(is_json && is_object && depth(text) <= JSON_DEPTH_MAX),
        Err(JsonFault::TooDeep) => assert!(depth(text) > JSON_DEPTH_MAX),
        Err(JsonFault::NotAnObject) => assert!(!is_object),
        Err(JsonFault::Syntax) => assert!(!is_json),
    }
    let request = Request::parse(text);
    if outcome.is_err() {
        let code = request.err().map(|rejection| rejection.code);
        return assert_eq!(code, Some(ErrorCode::MalformedMessage));
    }
    // A key with half a character is none of ours, and serde_json has no string for it.
    let Some(theirs) = object(text) else {
        return assert!(members.iter().any(|(key, _)| key.is_none()));
    };
    let ours: Vec<(String, &str)> = members
        .into_iter()
        .map(|(key, value)| (key.expect("a whole key").into_owned(), value))
        .collect();
    assert_eq!(ours, theirs);
    check(text, &request, &theirs);
}

fn check(
    text: &str,
    request: &Result<Request<'_>, ringmesh::proto::wire::command::Rejection<'_>>,
    members: &[(String, &str)],
) {
    let last = |name: &str| {
        let mut members = members.iter().rev();
        members
            .find(|(key, _)| key == name)
            .map(|(_, value)| *value)
    };
    let string = |name: &str| serde_json::from_str::<String>(last(name)?).ok();
    let Ok(request) = request else {
        let is_plain = string("type").is_some_and(|it| it == "ping")
            && last("requestId").is_none()
            && last("includeSenderMetadata").is_none();
        return assert!(!is_plain, "a sound ping is refused");
    };
    let id = request.request_id.and_then(|id| id.decode());
    assert_eq!(id.as_deref().map(str::to_owned), string("requestId"));
    let kind = string("type").expect("a type");
    let (name, data) = match &request.command {
        Command::Subscribe {
            channel,
            include_sender_metadata,
            since,
        } => {
            let asks = last("since").is_some() || last("position") == Some("true");
            assert_eq!(since.is_some(), asks);
            let wanted = last("includeSenderMetadata") == Some("true");
            assert_eq!(
                (kind.as_str(), *include_sender_metadata),
                ("subscribe", wanted)
            );
            (Some(("channel", channel)), None)
        }
        Command::Unsubscribe { channel } => {
            assert_eq!(kind, "unsubscribe");
            (Some(("channel", channel)), None)
        }
        Command::Publish {
            channel,
            data,
            id,
            position,
        } => {
            assert_eq!(kind, "publish");
            assert_eq!(id.as_deref().map(str::to_owned), string("id"));
            assert_eq!(*position, last("position") == Some("true"));
            (Some(("channel", channel)), Some(*data))
        }
        Command::Send { to, data } => {
            assert_eq!(kind, "send");
            (Some(("to", to)), Some(*data))
        }
        other => {
            check_nameless(other, &kind, string("token").as_deref());
            (None, None)
        }
    };
    if let Some((member, name)) = name {
        assert_eq!(string(member).as_deref(), Some(&**name));
    }
    if let Some(data) = data {
        assert_eq!(Some(data), last("data"));
        assert_within(text, data);
    }
}

/// Checks a command that names neither a channel nor a peer.
fn check_nameless(command: &Command<'_>, kind: &str, theirs: Option<&str>) {
    match command {
        Command::Refresh { token } => {
            assert_eq!((kind, token.as_deref()), ("refresh", theirs));
        }
        other => assert_eq!((kind, other), ("ping", &Command::Ping)),
    }
}

/// No copy was made.
fn assert_within(text: &str, part: &str) {
    let inside = text.as_bytes().as_ptr_range();
    let span = part.as_bytes().as_ptr_range();
    assert!(
        inside.start <= span.start && span.end <= inside.end,
        "no copy"
    );
}

/// The deepest level of containers, counted outside of strings.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut is_escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The members of an object, duplicates included.
fn object(text: &str) -> Option<Vec<(String, &str)>> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, &'de str)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                members.push((key, value.get()));
            }
            Ok(members)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    reader.deserialize_map(Members).ok()
}
