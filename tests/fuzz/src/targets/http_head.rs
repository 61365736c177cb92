//! Request heads: whatever is accepted is sound by RFC 9112, line by line, and what a head says
//! does not depend on how it was cut.

use ringmesh::proto::http::body::BodyFraming;
use ringmesh::proto::http::head::{Version, find_head_end, parse_head};
use ringmesh::proto::http::target::Target;

const HEAD_BYTES_MAX: usize = 512;

pub(crate) fn run(bytes: &[u8]) {
    let whole = find_head_end(bytes, 0, HEAD_BYTES_MAX);
    for cut in 0..bytes.len() {
        let found = match find_head_end(&bytes[..cut], 0, HEAD_BYTES_MAX) {
            Ok(None) => find_head_end(bytes, cut, HEAD_BYTES_MAX),
            found => found,
        };
        match (&whole, &found) {
            (Ok(_), _) => assert_eq!(found, whole, "cut at {cut}"),
            // What begins as no request can is refused at once, or when its head has come.
            (Err(_), Ok(Some(end))) => assert!(parse_head(&bytes[..*end]).is_err()),
            (Err(_), _) => {}
        }
    }
    let Ok(Some(end)) = whole else {
        return;
    };
    let head = &bytes[..end];
    let Ok(parsed) = parse_head(head) else {
        return;
    };
    let sound = lines(head).expect("what is accepted is sound");
    assert_eq!(parsed.method, sound.method);
    assert_eq!(parsed.target, sound.target);
    assert_eq!(parsed.version == Version::Http11, sound.is_http_11);
    for (name, _) in &sound.fields {
        let ours: Vec<_> = parsed.header_values(name).collect();
        let same = sound.fields.iter();
        let same = same.filter(|(other, _)| other.eq_ignore_ascii_case(name));
        assert_eq!(ours, same.map(|(_, value)| *value).collect::<Vec<_>>());
    }
    let hosts = sound.fields.iter();
    let hosts = hosts.filter(|(name, _)| name.eq_ignore_ascii_case("host"));
    let hosts = hosts.count();
    assert!(hosts <= 1 && (hosts == 1 || !sound.is_http_11), "one Host");
    framing(&sound, BodyFraming::of(&parsed, 1_000).is_ok());
    let _ = parsed.keep_alive();
    let _ = parsed.authorization();
    if let Ok(target) = Target::parse(parsed.target) {
        assert!(target.path.starts_with('/'));
        let _ = target.query_value("token");
    }
}

/// Whoever could read two lengths is refused.
fn framing(sound: &Sound<'_>, is_accepted: bool) {
    let named = |wanted: &str| {
        let fields = sound.fields.iter();
        let fields = fields.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        fields.map(|(_, value)| *value).collect::<Vec<_>>()
    };
    let (lengths, codings) = (named("content-length"), named("transfer-encoding"));
    if !is_accepted {
        return;
    }
    assert!(lengths.len() + codings.len() <= 1, "one framing");
    for length in lengths {
        assert!(!length.is_empty() && length.iter().all(u8::is_ascii_digit));
    }
    for coding in codings {
        assert!(coding.eq_ignore_ascii_case(b"chunked") && sound.is_http_11);
    }
}

struct Sound<'b> {
    method: &'b str,
    target: &'b str,
    is_http_11: bool,
    fields: Vec<(&'b str, &'b [u8])>,
}

/// A head by RFC 9112, sections 3 and 5, with empty lines in front; `None` where it is none.
fn lines(head: &[u8]) -> Option<Sound<'_>> {
    let mut head = head;
    while let Some(rest) = head.strip_prefix(b"\r\n") {
        head = rest;
    }
    let head = head.strip_suffix(b"\r\n\r\n")?;
    let mut lines = Vec::new();
    let mut rest = head;
    while let Some(at) = rest.windows(2).position(|it| it == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    let (first, fields) = lines.split_first()?;
    let mut words = first.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_sound = words.next().is_none()
        && is_token(method)
        && !target.is_empty()
        && target.iter().all(|byte| *byte > 0x20 && *byte != 0x7f)
        && (version == b"HTTP/1.1" || version == b"HTTP/1.0");
    if !is_sound {
        return None;
    }
    Some(Sound {
        method: str::from_utf8(method).ok()?,
        target: str::from_utf8(target).ok()?,
        is_http_11: version == b"HTTP/1.1",
        fields: fields
            .iter()
            .map(|line| field(line))
            .collect::<Option<_>>()?,
    })
}

fn field(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let begin = value.iter().position(|it| !is_blank(it));
    let begin = begin.unwrap_or(value.len());
    let end = value.iter().rposition(|it| !is_blank(it));
    let value = &value[begin..end.map_or(begin, |end| end + 1)];
    let is_value = |byte: &u8| (*byte >= 0x20 && *byte != 0x7f) || *byte == b'\t';
    let is_sound = is_token(name) && value.iter().all(is_value);
    is_sound.then_some((str::from_utf8(name).ok()?, value))
}

fn is_token(bytes: &[u8]) -> bool {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_token)
}
