//! The JavaScript client as it is served.

use std::io::Read;

use flate2::read::GzDecoder;

use super::{cluster, request};

const PATHS: [(&str, &str); 2] = [
    ("/v1/client.js", "text/javascript; charset=utf-8"),
    ("/v1/client.d.ts", "application/typescript; charset=utf-8"),
];

/// The value of a header.
fn value<'h>(head: &'h str, name: &str) -> &'h str {
    let mut lines = head.lines();
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name} in {head}"))
}

#[test]
fn any_page_may_load_it_and_is_told_when_it_has_it_already() {
    for (path, media_type) in PATHS {
        let mut cluster = cluster(2);
        let plain = cluster.request(0, &request("GET", path, "", ""));
        assert_eq!(plain.status, 200, "{path}");
        assert_eq!(value(&plain.head, "Content-Type"), media_type);
        assert_eq!(value(&plain.head, "Access-Control-Allow-Origin"), "*");
        assert_eq!(value(&plain.head, "X-Content-Type-Options"), "nosniff");
        assert_eq!(value(&plain.head, "Vary"), "Accept-Encoding");
        let tag = value(&plain.head, "ETag").to_owned();
        assert!(tag.starts_with('"') && tag.len() == 18, "{tag}");
        for (asked, status) in [
            (tag.as_str(), 304),
            ("*", 304),
            (&format!("\"other\", W/{tag}"), 304),
            ("\"other\"", 200),
        ] {
            let lines = format!("If-None-Match: {asked}\r\n");
            let again = cluster.request(1, &request("GET", path, &lines, ""));
            assert_eq!(again.status, status, "{asked}");
            assert_eq!(again.body.is_empty(), status == 304, "{asked}");
            assert_eq!(value(&again.head, "ETag"), tag);
            let has_length = again.head.contains("Content-Length");
            assert_eq!(has_length, status == 200, "{}", again.head);
        }
    }
}

#[test]
fn whoever_takes_gzip_gets_the_same_in_gzip() {
    for (path, _) in PATHS {
        let mut cluster = cluster(1);
        let plain = cluster.request(0, &request("GET", path, "", ""));
        let client = cluster.accept(0);
        cluster.send(
            client,
            &request("GET", path, "Accept-Encoding: gzip\r\n", ""),
        );
        let bytes = cluster.take(client);
        let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        assert_eq!(value(head, "Content-Encoding"), "gzip");
        assert_ne!(value(head, "ETag"), value(&plain.head, "ETag"));
        let mut text = String::new();
        let mut decoder = GzDecoder::new(&bytes[end + 4..]);
        decoder.read_to_string(&mut text).unwrap();
        assert_eq!(text, plain.body);
    }
}

#[test]
fn it_can_be_read_and_nothing_else() {
    for (path, _) in PATHS {
        let mut cluster = cluster(1);
        let client = cluster.accept(0);
        cluster.send(client, &request("HEAD", path, "", ""));
        let head = String::from_utf8(cluster.take(client)).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        let post = cluster.request(0, &request("POST", path, "", ""));
        assert_eq!(post.status, 405);
        assert_eq!(value(&post.head, "Allow"), "GET, HEAD");
    }
    let other = cluster(1).request(0, &request("GET", "/v1/client.css", "", ""));
    assert_eq!(other.status, 404);
}
