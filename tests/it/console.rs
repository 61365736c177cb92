//! The console: who gets its page and its files, and how a link signs in.

use serde_json::json;

use crate::support::raw::{Raw, Response};
use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;

const SESSION: &str = "/api/internal/v1/session";

/// Sends a request to the admin listener as a browser there does.
fn send(server: &Server, method: &str, path: &str, headers: &str, body: &str) -> Response {
    let address = server.admin().address;
    let mut raw = Raw::open(address);
    raw.write(format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\n\
         Sec-Fetch-Site: same-origin\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    raw.response()
}

#[test]
fn the_page_and_its_files_are_served_and_tell_nothing() {
    let server = Setup::new(1).start();
    let page = send(&server, "GET", "/", "", "");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let policy = page.header("content-security-policy").unwrap();
    for part in [
        "default-src 'none'",
        "trusted-types 'none'",
        "script-src 'self'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(
        policy.contains(&format!(" ws://{}", server.public)),
        "{policy}"
    );
    let secrets = [&server.admin().bearer, "app_a", "sk_id_", "pk_live_"];
    assert!(
        !secrets.iter().any(|it| page.body.contains(*it)),
        "{}",
        page.body
    );
    let files = page
        .body
        .split('"')
        .filter(|it| it.starts_with("/console/"));
    let files: Vec<_> = files.collect();
    assert!(files.iter().any(|it| it.ends_with(".js")), "{files:?}");
    for path in files {
        let file = send(&server, "GET", path, "", "");
        assert_eq!(file.status, 200, "{path}");
        let kept = file.header("cache-control").unwrap();
        assert!(kept.contains("immutable"), "{kept}");
    }
    assert_eq!(
        send(&server, "GET", "/console/0000/app.js", "", "").status,
        401
    );
}

#[test]
fn the_public_listener_has_a_page_that_tells_little() {
    let server = Setup::new(2).start();
    let asked = |method: &str| {
        let mut raw = server.raw();
        raw.write(format!("{method} / HTTP/1.1\r\nHost: x\r\n\r\n"));
        raw.response()
    };
    let response = asked("GET");
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(
        response.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = response.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert!(
        response.body.contains("/v1/openapi.json"),
        "{}",
        response.body
    );
    let admin = server.admin().address.to_string();
    assert!(!response.body.contains(&admin), "{}", response.body);
    asked("DELETE").is_error(404, "not_found");
}

#[test]
fn a_server_may_have_no_console() {
    let server = Setup::new(1).set("admin.console", false).start();
    assert_eq!(send(&server, "GET", "/", "", "").status, 401);
}

#[test]
fn a_link_signs_in_once() {
    let server = Setup::new(1).start();
    let admin = server.admin();
    let output = ringmesh()
        .args(["console", "--print", "--admin-url"])
        .arg(admin.address.to_string())
        .env("RINGMESH_ADMIN_TOKEN", &admin.bearer)
        .output()
        .unwrap();
    let link = String::from_utf8(output.stdout).unwrap();
    let begin = format!("http://{}/#login=", admin.address);
    let code = link.trim_end().strip_prefix(&begin).expect(&link);
    let body = json!({ "code": code }).to_string();
    let begun = send(&server, "POST", SESSION, "", &body);
    assert_eq!(begun.status, 201, "{begun:?}");
    let cookie = begun.header("set-cookie").unwrap();
    let cookie = cookie.split(';').next().unwrap();
    let half = begun.json()["half"].as_str().unwrap().to_owned();
    let headers = format!("Cookie: {cookie}\r\nX-Ringmesh-Session: {half}\r\n");
    let apps = "/api/internal/v1/apps";
    assert_eq!(send(&server, "GET", apps, &headers, "").status, 200);
    assert_eq!(send(&server, "GET", apps, "", "").status, 401);
    assert_eq!(send(&server, "POST", SESSION, "", &body).status, 401);
    assert_eq!(send(&server, "DELETE", SESSION, &headers, "").status, 200);
    assert_eq!(send(&server, "GET", apps, &headers, "").status, 401);
}
