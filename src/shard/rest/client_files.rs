//! The JavaScript client, for whoever asks: `/v1/client.js` and the types beside it.
//!
//! The sources are modules of their own in `src/client`; what is served is one module without
//! imports, so that one file can be copied. It is put together when the first one asks, and kept.
//! How the client works is not known here.

use std::io::Write;
use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::proto::http::encoding::{GZIP, takes_gzip};
use crate::proto::http::error::ApiError;
use crate::proto::http::head::RequestHead;
use crate::proto::http::response::{ResponseContext, ResponseHeader, Status};
use crate::shard::connection::http::{Answer, Body};
use crate::shard::connection::refusal::Refusal;

/// The parts of the client, each behind those that it imports.
const PARTS: [&str; 4] = [
    include_str!("../../client/basics.js"),
    include_str!("../../client/subscription.js"),
    include_str!("../../client/connection.js"),
    include_str!("../../client/client.js"),
];
const BANNER: &str = "// The JavaScript client of ringmesh. License: Apache-2.0\n";
/// What the one module exports.
const EXPORTS: &str =
    "\nexport { OversizedPayloadError, SignallingClient, SignallingConnectError };\n";
const TYPES_PATH: &str = "/v1/client.d.ts";
const TYPES: &str = include_str!("../../client/client.d.ts");

/// A page may use what it has for so long without asking.
const KEPT: ResponseHeader = ResponseHeader::Fixed("Cache-Control", "public, max-age=300");
const VARIES: ResponseHeader = ResponseHeader::Fixed("Vary", "Accept-Encoding");
/// Pages that isolate themselves may load it.
const FOR_ALL: ResponseHeader =
    ResponseHeader::Fixed("Cross-Origin-Resource-Policy", "cross-origin");

/// Deno looks for types where this says.
const TYPED: ResponseHeader = ResponseHeader::Fixed("X-TypeScript-Types", TYPES_PATH);

static FILES: LazyLock<[File; 2]> = LazyLock::new(|| {
    let script = "text/javascript; charset=utf-8";
    let types = "application/typescript; charset=utf-8";
    [
        File::new("/v1/client.js", script, joined(), &[TYPED]),
        File::new(TYPES_PATH, types, TYPES.to_owned(), &[]),
    ]
});

/// A file in both forms.
struct File {
    path: &'static str,
    plain: Form,
    compressed: Form,
}

/// One form of a file, and the headers that go with it.
struct Form {
    body: Vec<u8>,
    tag: &'static str,
    headers: Vec<ResponseHeader>,
}

/// What is asked for of which file.
pub(in crate::shard) struct Wanted {
    form: &'static Form,
    /// Whether whoever asks has it already.
    is_there: bool,
}

impl File {
    fn new(
        path: &'static str,
        media_type: &'static str,
        text: String,
        more: &[ResponseHeader],
    ) -> Self {
        let body = text.into_bytes();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        // A vector takes every byte.
        let small = encoder.write_all(&body).and_then(|()| encoder.finish());
        let coding = ResponseHeader::Fixed("Content-Encoding", GZIP);
        Self {
            path,
            compressed: match small {
                Ok(small) => Form::new(media_type, small, &[more, &[coding]].concat()),
                Err(_) => Form::new(media_type, body.clone(), more),
            },
            plain: Form::new(media_type, body, more),
        }
    }
}

impl Form {
    /// Is called once for each form: its tag is kept for good.
    fn new(media_type: &'static str, body: Vec<u8>, more: &[ResponseHeader]) -> Self {
        let hash = digest(&SHA256, &body);
        let hash: String = hash.as_ref()[..8]
            .iter()
            .map(|it| format!("{it:02x}"))
            .collect();
        let tag: &'static str = format!("\"{hash}\"").leak();
        let mut headers = vec![
            ResponseHeader::MediaType(media_type),
            ResponseHeader::Fixed("ETag", tag),
            KEPT,
            VARIES,
            FOR_ALL,
            ResponseHeader::AllowAnyOrigin,
        ];
        headers.extend_from_slice(more);
        Self { body, tag, headers }
    }
}

impl Wanted {
    /// The answer to whoever wants it.
    pub(in crate::shard) fn answer(
        &self,
        response_context: ResponseContext<'static>,
    ) -> Answer<'static> {
        let (status, body) = match self.is_there {
            true => (Status::NotModified, &b""[..]),
            false => (Status::Ok, &self.form.body[..]),
        };
        Answer {
            response_context,
            status: Ok(status),
            headers: &self.form.headers,
            body: Body::Bytes(body),
        }
    }
}

/// Finds what a request wants, if it is one of these files.
///
/// # Errors
///
/// 405 for methods other than GET and HEAD.
pub(in crate::shard) fn find(
    head: &RequestHead<'_>,
    path: &str,
) -> Result<Option<Wanted>, Refusal> {
    if !path.starts_with("/v1/client.") {
        return Ok(None);
    }
    let Some(file) = FILES.iter().find(|file| file.path == path) else {
        return Ok(None);
    };
    if !matches!(head.method, "GET" | "HEAD") {
        return Err(Refusal {
            header: Some(ResponseHeader::Allow("GET, HEAD")),
            ..Refusal::new(ApiError::MethodNotAllowed, "this path answers GET and HEAD")
        });
    }
    let form = match takes_gzip(values(head, "accept-encoding")) {
        true => &file.compressed,
        false => &file.plain,
    };
    let mut tags = values(head, "if-none-match").flat_map(|value| value.split(','));
    let is_there = tags.any(|tag| {
        let tag = tag.trim();
        // RFC 9110, section 13.1.2: compared weakly.
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == form.tag
    });
    Ok(Some(Wanted { form, is_there }))
}

/// The values of a header, as far as they are text.
fn values<'h>(head: &RequestHead<'h>, name: &str) -> impl Iterator<Item = &'h str> {
    head.header_values(name)
        .filter_map(|value| str::from_utf8(value).ok())
}

/// All parts as one module: without what they import from each other, and with one list of what
/// is exported.
fn joined() -> String {
    let mut module = String::from(BANNER);
    for part in PARTS {
        module.push('\n');
        for line in part.lines().filter(|line| !line.contains(" from \"./")) {
            module.push_str(line.strip_prefix("export ").unwrap_or(line));
            module.push('\n');
        }
    }
    module.push_str(EXPORTS);
    module
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a first view of a page may spend on its client, in gzip.
    const BYTES_MAX: usize = 12 * 1_024;

    #[test]
    fn the_client_is_small_and_whole() {
        let [script, types] = &*FILES;
        let bytes = script.compressed.body.len();
        assert!(bytes <= BYTES_MAX, "{bytes} bytes in gzip");
        assert!(types.compressed.body.len() < types.plain.body.len());
        let text = std::str::from_utf8(&script.plain.body).unwrap();
        assert!(!text.contains(" from \""), "{text}");
        assert_eq!(text.matches("\nexport ").count(), 1);
        for name in [
            "SignallingClient",
            "OversizedPayloadError",
            "Connection",
            "Subscription",
        ] {
            assert_eq!(
                text.matches(&format!("\nclass {name} ")).count(),
                1,
                "{name}"
            );
        }
    }

    #[test]
    fn every_form_has_a_tag_of_its_own() {
        let forms = FILES
            .iter()
            .flat_map(|file| [&file.plain, &file.compressed]);
        let tags: std::collections::BTreeSet<_> = forms.map(|form| form.tag).collect();
        assert_eq!(tags.len(), 4);
    }
}
