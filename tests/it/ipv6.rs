//! IPv6 throughout: every listener, the addresses that proxies name, and rates by the /64 that a
//! client has to itself. (TLS: `tests/it_tls/listeners.rs`.)

use std::net::Ipv6Addr;

use serde_json::json;

use crate::support::admin::Api;
use crate::support::raw::{Raw, handshake};
use crate::support::server::Server;
use crate::support::setup::Setup;

/// The three of one network, and one of another.
const NEIGHBOURS: [&str; 3] = ["2001:db8:0:7::1", "2001:db8:0:7:ffff::2", "2001:db8:0:7::3"];
const STRANGER: &str = "2001:db8:0:8::1";
const API_SECRET: &str = "sk_live_declared_0123456789";

fn setup() -> Setup {
    let key = "[[apps.keys]]\nid = \"sk_id_c\"\nchannel_patterns = [\"**\"]\n\
               actions = [\"publish\", \"subscribe\"]\nsigning_secret_file = \"signing.secret\"\n\
               api_secret_file = \"api.secret\"\n";
    Setup::new(2)
        .set("server.listen", r#"["[::1]:0"]"#)
        .set("admin.listen", r#""[::1]:0""#)
        .set("server.trusted_proxies", r#"["::1/128"]"#)
        .app("app_c", &[key.to_owned()])
}

/// Header of version 2 of the PROXY protocol: TCP over IPv6 from this client.
fn proxied(client: &str) -> Vec<u8> {
    let address = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    header.extend(address(client));
    header.extend(address("::1"));
    header.extend([0x12, 0x34, 0x01, 0xbb]);
    header
}

#[test]
fn clients_backends_and_operators_are_served() {
    let server = setup().start();
    assert!(server.public.is_ipv6() && server.admin_address().is_ipv6());
    let (mut ada, mut bob) = (server.peer("ada"), server.peer("bob"));
    assert_eq!(ada.subscribe_for_presence("room"), Vec::<String>::new());
    assert_eq!(bob.subscribe_for_presence("room"), ["ada"]);
    assert_eq!(ada.presence("room").0, ["bob"]);
    bob.publish("room", json!("hello"));
    assert!(ada.next().contains(r#""data":"hello""#));

    let mut member = server.connect(&format!(
        "?token={}",
        crate::support::token::token("sk_id_c", json!({"sub": "c"}))
    ));
    member.subscribe("room");
    let rest = Api {
        address: server.public,
        bearer: API_SECRET.into(),
    };
    let publish = json!({"data": 1});
    let done = rest.done(200, "POST", "/v1/channels/room/publish", Some(&publish));
    assert_eq!(done["delivered"], 1);
    assert!(member.next().contains(r#""data":1"#));
    server
        .admin()
        .create("/api/internal/v1/apps", &json!({"appId": "app_x"}));
    // As a browser or curl names such a host.
    let mut raw = Raw::open(server.admin_address());
    let port = server.admin_address().port();
    raw.write(format!(
        "GET /readyz HTTP/1.1\r\nHost: [::1]:{port}\r\n\r\n"
    ));
    assert_eq!(raw.response().status, 200);
}

/// Connects as this client. Returns the status.
type Connect = fn(&Server, &str) -> u16;

fn over_proxy_protocol(server: &Server, client: &str) -> u16 {
    let mut raw = server.raw();
    raw.write([proxied(client), handshake("/v1?key=pk_live_a", "").into()].concat());
    raw.response().status
}

fn over_http(server: &Server, client: &str) -> u16 {
    let headers = format!("X-Forwarded-For: {client}\r\n");
    server.attempt("/v1?key=pk_live_a", &headers).status
}

/// As some load balancers write it.
fn over_http_in_brackets(server: &Server, client: &str) -> u16 {
    let headers = format!("X-Forwarded-For: [{client}]:4660\r\n");
    server.attempt("/v1?key=pk_live_a", &headers).status
}

#[test]
fn connects_are_counted_by_network_whoever_names_the_client() {
    let ways: [(bool, Connect); 3] = [
        (true, over_proxy_protocol),
        (false, over_http),
        (false, over_http_in_brackets),
    ];
    for (at, (proxy_protocol, connect)) in ways.into_iter().enumerate() {
        let setup = setup().set("server.proxy_protocol", proxy_protocol);
        let server = setup.set("limits.connects_per_address", 2).start();
        let statuses = NEIGHBOURS.map(|client| connect(&server, client));
        assert_eq!(statuses, [101, 101, 429], "way {at}");
        assert_eq!(connect(&server, STRANGER), 101, "way {at}");
        // A client that is no neighbour of theirs only because of how it is written.
        assert_eq!(connect(&server, "::ffff:203.0.113.1"), 101, "way {at}");
    }
}

#[test]
fn requests_are_counted_by_network() {
    let setup = setup().set("rest.rate_per_address", 1);
    let server = setup.set("rest.burst_per_address", 2).start();
    let ask = |client: &str| {
        let mut raw = server.raw();
        raw.write(format!(
            "GET /v1/usage HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_SECRET}\r\n\
             X-Forwarded-For: {client}\r\n\r\n"
        ));
        raw.response().status
    };
    // A second or two may pass on a busy machine, and let as many more through.
    let refused = (0..50).map(|at| ask(NEIGHBOURS[at % 3]));
    assert!(refused.filter(|status| *status == 429).count() > 20);
    assert_eq!(ask(STRANGER), 200);
}
