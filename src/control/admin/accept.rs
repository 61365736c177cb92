//! Whether whoever sent a request takes a stream of events.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

use crate::proto::http::encoding::takes;

/// The type of a stream of server-sent events.
const EVENT_STREAM: &str = "text/event-stream";

/// Whether whoever sent these headers asks for a stream of events. A range that it is in, such as
/// `*/*`, does not: every client sends that.
pub(super) fn takes_stream(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).into_iter();
    takes(values.filter_map(|value| value.to_str().ok()), EVENT_STREAM)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_stream_is_for_those_who_name_it() {
        for (given, expected) in [
            ("text/event-stream", true),
            ("Text/Event-Stream", true),
            ("application/json, text/event-stream;q=0.5", true),
            ("text/event-stream; charset=utf-8", true),
            ("text/event-stream;q=0", false),
            ("text/event-stream;q=0.000, */*", false),
            ("text/event-stream-not", false),
            ("application/x-text/event-stream", false),
            ("application/json; note=text/event-stream", false),
            ("text/*", false),
            ("*/*", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(given));
            assert_eq!(takes_stream(&headers), expected, "{given}");
        }
        assert!(!takes_stream(&HeaderMap::new()));
        let mut two = HeaderMap::new();
        two.append(ACCEPT, HeaderValue::from_static("application/json"));
        two.append(ACCEPT, HeaderValue::from_static(EVENT_STREAM));
        assert!(takes_stream(&two));
    }
}
