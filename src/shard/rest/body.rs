//! Request bodies: JSON to checked fields.
//!
//! The members are found with the parser of the WebSocket protocol, so that both mean the same
//! by JSON: 128 levels, the last of a repeated member counts, and `data` is the bytes that were
//! sent. Unknown members of a publication are ignored, as those of a command are. A token is
//! refused for one: it would grant all that the misspelled member was to take away.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::limits::{
    PEER_METADATA_BYTES_MAX, PUBLICATION_ID_BYTES_MAX, TOKEN_LIFETIME_SEC_MAX,
    TOKEN_METADATA_BYTES_MAX, TOKEN_PATTERNS_MAX, TOKEN_PERMISSIONS_MAX,
};
use crate::nearest::nearest;
use crate::proto::http::head::RequestHead;
use crate::proto::pattern::Pattern;
use crate::proto::wire::json::{JsonFault, for_each_member};
use crate::proto::wire::name::validate_peer_id;
use crate::proto::wire::string::JsonStr;
use crate::shard::connection::refusal::Refusal;

/// Lifetime of a token for which none is asked, in seconds.
pub(in crate::shard) const TOKEN_LIFETIME_SEC_DEFAULT: u64 = 3_600;

/// Bytes of an unknown field's name that an answer repeats.
const SHOWN_NAME_BYTES_MAX: usize = 64;

// The texts below name the numbers.
const _: () = assert!(
    TOKEN_PATTERNS_MAX == 100
        && TOKEN_PERMISSIONS_MAX == 16
        && TOKEN_LIFETIME_SEC_MAX == 86_400
        && TOKEN_METADATA_BYTES_MAX == 8_192
        && PEER_METADATA_BYTES_MAX == 4_096
        && PUBLICATION_ID_BYTES_MAX == 64
);
const PEER_ID: &str = "'peerId' must be a string of 1 to 128 printable ASCII characters";
const CHANNELS: &str = "'channels' must be an array of at most 100 channel patterns";
const PERMISSIONS: &str = "'permissions' must be an array of at most 16 strings";
const EXPIRES: &str = "'expiresInSec' must be an integer from 1 to 86400";
const METADATA: &str = "'metadata' must be an object of at most 8192 bytes";
const PEER_METADATA: &str = "'peerMetadata' must be an object of at most 4096 bytes";
const ID: &str = "'id' must be a string of 1 to 64 bytes";
const DATA: &str = "'data' is required; it may be any JSON value, null included";
const FROM: &str = "'from' must be a string of 1 to 128 printable ASCII characters";

/// The body of `POST /v1/tokens`.
pub(in crate::shard) struct MintBody<'a> {
    pub peer_id: Cow<'a, str>,
    pub channels: Option<Vec<Pattern>>,
    /// Not yet looked up among the actions.
    pub permissions: Option<Vec<String>>,
    pub expires_in_sec: u64,
    pub metadata: Option<&'a RawValue>,
    pub peer_metadata: Option<&'a RawValue>,
}

impl<'a> MintBody<'a> {
    /// The members that are looked at.
    pub(in crate::shard) const FIELDS: [&'static str; 6] = [
        "peerId",
        "channels",
        "permissions",
        "expiresInSec",
        "metadata",
        "peerMetadata",
    ];

    pub(in crate::shard) fn parse(body: &'a [u8]) -> Result<Self, Refusal> {
        let [
            peer,
            channels,
            permissions,
            expires,
            metadata,
            peer_metadata,
        ] = only_members(body, Self::FIELDS)?;
        Ok(Self {
            peer_id: peer.and_then(peer_id).ok_or(Refusal::invalid(PEER_ID))?,
            channels: optional(channels, patterns, CHANNELS)?,
            permissions: optional(
                permissions,
                |text| strings(text, TOKEN_PERMISSIONS_MAX),
                PERMISSIONS,
            )?,
            expires_in_sec: optional(expires, lifetime_sec, EXPIRES)?
                .unwrap_or(TOKEN_LIFETIME_SEC_DEFAULT),
            metadata: optional(
                metadata,
                |text| object(text, TOKEN_METADATA_BYTES_MAX),
                METADATA,
            )?,
            peer_metadata: optional(
                peer_metadata,
                |text| object(text, PEER_METADATA_BYTES_MAX),
                PEER_METADATA,
            )?,
        })
    }
}

/// The body of `POST /v1/channels/:id/publish`.
pub(in crate::shard) struct PublishBody<'a> {
    pub data: &'a str,
    pub from: Option<Cow<'a, str>>,
    pub peer_metadata: Option<&'a str>,
    pub id: Option<Cow<'a, str>>,
}

impl<'a> PublishBody<'a> {
    /// The members that are looked at.
    pub(in crate::shard) const FIELDS: [&'static str; 4] = ["data", "from", "peerMetadata", "id"];

    pub(in crate::shard) fn parse(body: &'a [u8]) -> Result<Self, Refusal> {
        let [data, from, peer_metadata, id] = members(body, Self::FIELDS)?;
        let object = |text: &'a str| is_object(text, PEER_METADATA_BYTES_MAX).then_some(text);
        Ok(Self {
            data: data.ok_or(Refusal::invalid(DATA))?,
            from: optional(from, peer_id, FROM)?,
            peer_metadata: optional(peer_metadata, object, PEER_METADATA)?,
            id: optional(id, publication_id, ID)?,
        })
    }
}

/// Whether the body's type, where one is given, is JSON (RFC 9110, section 8.3; RFC 6839,
/// section 3.1).
pub(in crate::shard) fn is_json(head: &RequestHead<'_>) -> bool {
    head.header_values("content-type").all(|value| {
        let essence = value.split(|&byte| byte == b';').next().unwrap_or_default();
        let essence = essence.trim_ascii();
        let suffix = essence.len().checked_sub(b"+json".len());
        let suffix = suffix.and_then(|at| essence.get(at..)).unwrap_or_default();
        essence.eq_ignore_ascii_case(b"application/json")
            || essence.contains(&b'/') && suffix.eq_ignore_ascii_case(b"+json")
    })
}

/// Whether the body is sent as it is (RFC 9110, section 8.4).
pub(in crate::shard) fn is_unencoded(head: &RequestHead<'_>) -> bool {
    let codings = head.header_values("content-encoding");
    let mut codings = codings.flat_map(|value| value.split(|&byte| byte == b','));
    codings.all(|coding| {
        let coding = coding.trim_ascii();
        coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
    })
}

/// The raw values of the named members of the object that the body is; no other may be there.
fn only_members<'a, const N: usize>(
    body: &'a [u8],
    names: [&str; N],
) -> Result<[Option<&'a str>; N], Refusal> {
    let mut unknown = None;
    let values = members_and_others(body, names, |name| {
        unknown.get_or_insert_with(|| name.map(Cow::into_owned).unwrap_or_default());
    })?;
    match unknown {
        None => Ok(values),
        Some(name) => Err(unknown_member(&name, &names)),
    }
}

/// The raw values of the named members of the object that the body is; others are ignored.
fn members<'a, const N: usize>(
    body: &'a [u8],
    names: [&str; N],
) -> Result<[Option<&'a str>; N], Refusal> {
    members_and_others(body, names, |_| ())
}

/// The same, and each other member's name goes to `other`; `None` if it is no Unicode.
fn members_and_others<'a, const N: usize>(
    body: &'a [u8],
    names: [&str; N],
    mut other: impl FnMut(Option<Cow<'a, str>>),
) -> Result<[Option<&'a str>; N], Refusal> {
    let text = str::from_utf8(body).map_err(|_| Refusal::invalid("the body is not valid UTF-8"))?;
    let mut values = [None; N];
    let found = for_each_member(text, |name, value| {
        let name = name.decode();
        match names
            .iter()
            .position(|known| name.as_deref() == Some(known))
        {
            Some(at) => values[at] = Some(value),
            None => other(name),
        }
    });
    match found {
        Ok(()) => Ok(values),
        Err(JsonFault::Syntax) => Err(Refusal::invalid("the body is not valid JSON")),
        Err(JsonFault::TooDeep) => Err(Refusal::invalid(
            "the body is nested deeper than 128 levels",
        )),
        Err(JsonFault::NotAnObject) => Err(Refusal::invalid("the body must be a JSON object")),
    }
}

/// Refuses a body for a member that nothing reads, and names those that are read.
fn unknown_member(name: &str, known: &[&str]) -> Refusal {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let shown = (1..=SHOWN_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_word);
    let mut message = match shown {
        true => format!("there is no field '{name}'"),
        false => "the body has a field that is not known".to_owned(),
    };
    match nearest(name, known.iter().copied()) {
        Some(nearest) => message.push_str(&format!("; did you mean '{nearest}'?")),
        None => message.push_str(&format!("; the fields are '{}'", known.join("', '"))),
    }
    Refusal {
        message: Cow::Owned(message),
        ..Refusal::invalid("")
    }
}

fn optional<'a, T>(
    value: Option<&'a str>,
    parse: impl FnOnce(&'a str) -> Option<T>,
    message: &'static str,
) -> Result<Option<T>, Refusal> {
    value
        .map(|value| parse(value).ok_or(Refusal::invalid(message)))
        .transpose()
}

fn peer_id(value: &str) -> Option<Cow<'_, str>> {
    JsonStr::from_value(value)?
        .decode()
        .filter(|id| validate_peer_id(id).is_ok())
}

fn publication_id(value: &str) -> Option<Cow<'_, str>> {
    let id = JsonStr::from_value(value)?.decode();
    id.filter(|id| (1..=PUBLICATION_ID_BYTES_MAX).contains(&id.len()))
}

fn strings(value: &str, count_max: usize) -> Option<Vec<String>> {
    let strings: Vec<String> = serde_json::from_str(value).ok()?;
    (strings.len() <= count_max).then_some(strings)
}

fn patterns(value: &str) -> Option<Vec<Pattern>> {
    let sources = strings(value, TOKEN_PATTERNS_MAX)?;
    let parsed = sources.iter().map(|source| Pattern::parse(source).ok());
    parsed.collect()
}

/// An integer as JSON has them: `60`, but `60.0` and `6e1` too.
fn lifetime_sec(value: &str) -> Option<u64> {
    if !value.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let seconds: f64 = value.parse().ok()?;
    let in_range = (1.0..=TOKEN_LIFETIME_SEC_MAX as f64).contains(&seconds);
    (in_range && seconds.fract() == 0.0).then_some(seconds as u64)
}

fn is_object(value: &str, bytes_max: usize) -> bool {
    value.starts_with('{') && value.len() <= bytes_max
}

fn object(value: &str, bytes_max: usize) -> Option<&RawValue> {
    is_object(value, bytes_max)
        .then(|| serde_json::from_str(value).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::http::head::parse_head;

    #[track_caller]
    fn check_mint(body: &str, expected: Result<(), &str>) {
        let parsed = MintBody::parse(body.as_bytes()).map(|_| ());
        let parsed = parsed.as_ref().map_err(|refusal| &*refusal.message);
        assert_eq!(parsed, expected.as_ref().map_err(|text| *text), "{body}");
    }

    #[track_caller]
    fn check_publish(body: &str, expected: Result<(&str, Option<&str>), &str>) {
        let parsed = PublishBody::parse(body.as_bytes());
        let parsed = parsed.as_ref().map_err(|refusal| &*refusal.message);
        let parsed = parsed.map(|body| (body.data, body.from.as_deref()));
        assert_eq!(parsed, expected, "{body}");
    }

    #[test]
    fn mint_bodies() {
        let ann = |rest: &str| format!(r#"{{"peerId":"ann"{rest}}}"#);
        check_mint(&ann(""), Ok(()));
        check_mint(r#"{"peerId":1,"peerId":"ann"}"#, Ok(()));
        check_mint(r#"{"\u0070eerId":"\u0061nn"}"#, Ok(()));
        for bad in [
            "{}",
            r#"{"peerId":null}"#,
            r#"{"peerId":""}"#,
            r#"{"peerId":"é"}"#,
        ] {
            check_mint(bad, Err(PEER_ID));
        }
        check_mint(&format!(r#"{{"peerId":"{}"}}"#, "x".repeat(128)), Ok(()));
        check_mint(
            &format!(r#"{{"peerId":"{}"}}"#, "x".repeat(129)),
            Err(PEER_ID),
        );
        for (value, expected) in [
            ("1", Ok(())),
            ("86400", Ok(())),
            ("60.0", Ok(())),
            ("0", Err(EXPIRES)),
            ("86401", Err(EXPIRES)),
            ("-1", Err(EXPIRES)),
            ("1.5", Err(EXPIRES)),
            ("1e400", Err(EXPIRES)),
            ("\"60\"", Err(EXPIRES)),
            ("null", Err(EXPIRES)),
        ] {
            check_mint(&ann(&format!(r#","expiresInSec":{value}"#)), expected);
        }
        for (value, expected) in [
            ("[]", Ok(())),
            (r#"["a/*","\\u002a"]"#, Ok(())),
            (r#"[""]"#, Err(CHANNELS)),
            (r#"["\\"]"#, Err(CHANNELS)),
            ("[1]", Err(CHANNELS)),
            (r#""a""#, Err(CHANNELS)),
            ("null", Err(CHANNELS)),
        ] {
            check_mint(&ann(&format!(r#","channels":{value}"#)), expected);
        }
        let list = |count| format!("[{}]", vec![r#""a""#; count].join(","));
        check_mint(&ann(&format!(r#","channels":{}"#, list(100))), Ok(()));
        check_mint(
            &ann(&format!(r#","channels":{}"#, list(101))),
            Err(CHANNELS),
        );
        check_mint(&ann(&format!(r#","permissions":{}"#, list(16))), Ok(()));
        check_mint(
            &ann(&format!(r#","permissions":{}"#, list(17))),
            Err(PERMISSIONS),
        );
    }

    /// What a misspelled field was to take away, a token would have.
    #[test]
    fn a_token_is_not_granted_for_fields_that_nothing_reads() {
        let ann = |rest: &str| format!(r#"{{"peerId":"ann"{rest}}}"#);
        let all = "'peerId', 'channels', 'permissions', 'expiresInSec', 'metadata', \
                   'peerMetadata'";
        for (rest, expected) in [
            (
                r#","chanels":["a"]"#,
                "there is no field 'chanels'; did you mean 'channels'?",
            ),
            (
                r#","Channels":["a"]"#,
                "there is no field 'Channels'; did you mean 'channels'?",
            ),
            (
                r#","expires_in_sec":60"#,
                "there is no field 'expires_in_sec'; did you mean 'expiresInSec'?",
            ),
            (
                r#","permission":[],"chanels":[]"#,
                "there is no field 'permission'; did you mean 'permissions'?",
            ),
            (
                r#","unknown":[{}]"#,
                &format!("there is no field 'unknown'; the fields are {all}"),
            ),
            (
                r#","<script>":1"#,
                &format!("the body has a field that is not known; the fields are {all}"),
            ),
            (
                r#","\ud800":1"#,
                &format!("the body has a field that is not known; the fields are {all}"),
            ),
        ] {
            check_mint(&ann(rest), Err(expected));
        }
        let long = "channels".repeat(9);
        let expected = format!("the body has a field that is not known; the fields are {all}");
        check_mint(&ann(&format!(r#","{long}":1"#)), Err(&expected));
        // The name of a required field, misspelled, is told rather than that it is missing.
        check_mint(
            r#"{"peerid":"ann"}"#,
            Err("there is no field 'peerid'; did you mean 'peerId'?"),
        );
        // A publication grants nothing.
        check_publish(r#"{"data":1,"form":"bot","x":{}}"#, Ok(("1", None)));
    }

    #[test]
    fn metadata_is_an_object_up_to_its_cap() {
        let object = |bytes: usize| {
            let padding = "x".repeat(bytes - r#"{"a":""}"#.len());
            format!(r#"{{"a":"{padding}"}}"#)
        };
        let token = |name: &str, value: &str| format!(r#"{{"peerId":"ann","{name}":{value}}}"#);
        let publication = |value: &str| format!(r#"{{"data":1,"peerMetadata":{value}}}"#);
        check_mint(&token("metadata", &object(8_192)), Ok(()));
        check_mint(&token("metadata", &object(8_193)), Err(METADATA));
        check_mint(&token("peerMetadata", &object(4_096)), Ok(()));
        check_mint(&token("peerMetadata", &object(4_097)), Err(PEER_METADATA));
        check_publish(&publication(&object(4_096)), Ok(("1", None)));
        check_publish(&publication(&object(4_097)), Err(PEER_METADATA));
        for value in ["null", "[]", r#""{}""#, "1"] {
            check_mint(&token("peerMetadata", value), Err(PEER_METADATA));
            check_publish(&publication(value), Err(PEER_METADATA));
        }
    }

    #[test]
    fn data_is_kept_as_it_was_written() {
        for data in ["null", "1e400", r#"{ "a" : [ ] }"#, r#""\ud800""#, "0"] {
            check_publish(&format!(r#"{{ "data" : {data} }}"#), Ok((data, None)));
        }
        check_publish(r#"{"data":1,"from":"b\u006ft"}"#, Ok(("1", Some("bot"))));
        check_publish(r#"{"from":"bot"}"#, Err(DATA));
        check_publish(r#"{"data":1,"from":""}"#, Err(FROM));
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        for body in ["", "[]", "null", "1"] {
            check_publish(body, Err("the body must be a JSON object"));
        }
        for body in [
            r#"{"data":1"#,
            r#"{"data":1}}"#,
            "{data:1}",
            r#"{"data":01}"#,
        ] {
            check_publish(body, Err("the body is not valid JSON"));
        }
        let deep = format!(r#"{{"data":{}{}}}"#, "[".repeat(128), "]".repeat(128));
        check_publish(&deep, Err("the body is nested deeper than 128 levels"));
        let invalid = PublishBody::parse(b"{\"data\":\"\xff\"}").map(|_| ());
        assert_eq!(invalid.unwrap_err().message, "the body is not valid UTF-8");
    }

    #[test]
    fn a_body_is_not_encoded() {
        for (lines, expected) in [
            ("", true),
            ("Content-Encoding: identity\r\n", true),
            ("content-encoding: Identity , \r\n", true),
            ("Content-Encoding: gzip\r\n", false),
            ("Content-Encoding: identity, br\r\n", false),
            (
                "Content-Encoding: identity\r\nContent-Encoding: x-unknown\r\n",
                false,
            ),
        ] {
            let head = format!("POST / HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
            let head = parse_head(head.as_bytes()).unwrap();
            assert_eq!(is_unencoded(&head), expected, "{lines}");
        }
    }

    #[test]
    fn a_given_content_type_must_be_json() {
        let check = |lines: &str, expected: bool| {
            let head = format!("POST / HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
            assert_eq!(
                is_json(&parse_head(head.as_bytes()).unwrap()),
                expected,
                "{lines}"
            );
        };
        check("", true);
        check("Content-Type: application/json\r\n", true);
        check("content-type: Application/JSON ; charset=utf-8\r\n", true);
        check("Content-Type: application/merge-patch+json\r\n", true);
        for value in [
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "json",
            "+json",
        ] {
            check(&format!("Content-Type: {value}\r\n"), false);
        }
        check(
            "Content-Type: application/json\r\nContent-Type: text/plain\r\n",
            false,
        );
    }
}
