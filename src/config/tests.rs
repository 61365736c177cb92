//! The configuration from its outside: text and variables in, a `Config` or one line out.

use std::path::{Path, PathBuf};

use super::model::{EventsAddresses, EventsPeers, LogEvents};
use super::*;
use crate::domain::history::{HistoryAck, HistoryFsync};

mod declared;
mod dev;
mod history;
mod mutated;
mod variables;

const EXAMPLE: &str = include_str!("example.toml");

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().copied().collect()
}

fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    Config::from_text(Path::new("/etc/rm/r.toml"), text, &environment(variables))
        .map_err(|error| error.to_string())
}

/// The text is refused with exactly this line, after the path.
fn check_refused(text: &str, expected: &str) {
    assert_eq!(
        parse(text, &[]).unwrap_err(),
        format!("/etc/rm/r.toml:{expected}"),
        "{text}"
    );
}

/// What stands in the configuration, in one comparable text.
fn shown(config: &Config) -> String {
    // Where values come from is another matter.
    let config = Config {
        settings: Vec::new(),
        ..config.clone()
    };
    format!("{config:#?}")
}

#[test]
fn the_example_is_the_defaults() {
    assert_eq!(
        shown(&parse(EXAMPLE, &[]).unwrap()),
        shown(&parse("", &[]).unwrap())
    );
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let config = parse("", &[]).unwrap();
    assert_eq!(config.server.listen, ["0.0.0.0:8080".parse().unwrap()]);
    assert_eq!((config.server.shards, config.server.cores), (None, None));
    assert_eq!(config.admin.listen, Some("127.0.0.1:7464".parse().unwrap()));
    assert_eq!(
        config.admin.token_file,
        Path::new("/var/lib/ringmesh/admin.token")
    );
    assert_eq!(config.store.data_dir, Path::new("/var/lib/ringmesh"));
    assert_eq!(
        config.store.master_key_file,
        Path::new("/var/lib/ringmesh/master.key")
    );
    assert_eq!(config.limits.connects_per_address, 60);
    assert_eq!(config.limits.ping_after_ms, 25_000);
    assert_eq!(config.limits.drop_after_ms, 75_000);
    assert_eq!(config.limits.memory_bytes, 0);
    assert_eq!(config.limits.unauthenticated_connections, 0);
    assert_eq!(config.rest.keep_alive_ms, 130_000);
    assert_eq!(config.tls, None);
    assert!(config.apps.is_empty());
    assert_eq!(config.file.as_deref(), Some(Path::new("/etc/rm/r.toml")));
}

/// A key, a value that is not its default as the file and as a variable has it, and whether the
/// configuration says so.
type Sample = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Config) -> bool,
);

#[rustfmt::skip] // One line per key.
const SAMPLES: &[Sample] = &[
    ("server.listen", r#"["[::1]:1", "127.0.0.1:0"]"#, "[::1]:1, 127.0.0.1:0", |c| {
        c.server.listen == ["[::1]:1".parse().unwrap(), "127.0.0.1:0".parse().unwrap()]
    }),
    ("server.public_url", r#""ws://a:1""#, "ws://a:1", |c| c.server.public_url.is_some()),
    ("server.shards", "3", "3", |c| c.server.shards == Some(3)),
    ("server.cores", "[0, 2]", "0,2", |c| c.server.cores == Some(vec![0, 2])),
    ("server.follow_queues", "true", "true", |c| c.server.follow_queues),
    ("server.trusted_proxies", r#"["10.0.0.0/8"]"#, "10.0.0.0/8", |c| {
        c.server.trusted_proxies == ["10.0.0.0/8".parse().unwrap()]
    }),
    ("server.proxy_protocol", "true", "true", |c| c.server.proxy_protocol),
    ("server.pid_file", r#""/run/r.pid""#, "/run/r.pid", |c| {
        c.server.pid_file == Some("/run/r.pid".into())
    }),
    ("tls.cert", r#""c.pem""#, "c.pem", |c| tls_path(c, |t| &t.cert) == "/etc/rm/c.pem"),
    ("tls.listen", r#"["[::]:8443", "127.0.0.1:0"]"#, "[::]:8443,127.0.0.1:0", |c| {
        let listen = ["[::]:8443".parse().unwrap(), "127.0.0.1:0".parse().unwrap()];
        c.tls.as_ref().and_then(|tls| tls.listen.as_deref()) == Some(&listen[..])
    }),
    ("tls.key", r#""/k.pem""#, "/k.pem", |c| tls_path(c, |t| &t.key) == "/k.pem"),
    ("admin.listen", r#""""#, "", |c| c.admin.listen.is_none()),
    ("admin.token_file", r#""t""#, "t", |c| c.admin.token_file == Path::new("/etc/rm/t")),
    ("admin.hosts", r#"["Rm.Example."]"#, "Rm.Example.", |c| c.admin.hosts == ["rm.example"]),
    ("admin.read_token_file", r#""r""#, "r", |c| {
        c.admin.read_token_file.as_deref() == Some(Path::new("/etc/rm/r"))
    }),
    ("admin.console", "false", "false", |c| !c.admin.console),
    ("admin.protect_metrics", "true", "true", |c| c.admin.protect_metrics),
    ("store.data_dir", r#""d""#, "d", |c| c.store.data_dir == Path::new("/etc/rm/d")),
    ("store.master_key_file", r#""m""#, "m", |c| c.store.master_key_file == Path::new("/etc/rm/m")),
    ("auth.reject_with", r#""close""#, "close", |c| c.auth.reject_with == RejectWith::Close),
    ("auth.explain", "true", "true", |c| c.auth.explain),
    ("events.memory_per_shard", "0", "0", |c| c.events.memory_per_shard == 0),
    ("events.addresses", r#""masked""#, "masked", |c| {
        c.events.addresses == EventsAddresses::Masked
    }),
    ("events.peers", r#""hashed""#, "hashed", |c| c.events.peers == EventsPeers::Hashed),
    ("feed.memory_per_shard", "0", "0", |c| c.feed.memory_per_shard == 0),
    ("history.memory_bytes", "2_000_000", "2000000", |c| c.history.memory_bytes == 2_000_000),
    ("history.dedupe_sec", "7", "7", |c| c.history.dedupe_sec == 7),
    ("history.replay_messages", "8", "8", |c| c.history.replay_messages == 8),
    ("history.replay_bytes", "90000", "90000", |c| c.history.replay_bytes == 90_000),
    ("history.fsync", r#""turn""#, "turn", |c| c.history.fsync == HistoryFsync::Turn),
    ("history.ack", r#""stored""#, "stored", |c| c.history.ack == HistoryAck::Stored),
    ("log.events", r#""all""#, "all", |c| c.log.events == LogEvents::All),
    ("rest.accept_bare_key_id", "true", "true", |c| c.rest.accept_bare_key_id),
    ("rest.rate_per_key", "0", "0", |c| c.rest.rate_per_key == 0),
    ("rest.burst_per_key", "12", "12", |c| c.rest.burst_per_key == 12),
    ("rest.rate_per_address", "13", "13", |c| c.rest.rate_per_address == 13),
    ("rest.burst_per_address", "0x0e", "14", |c| c.rest.burst_per_address == 14),
    ("rest.unauthenticated_rate_per_address", "15", "15", |c| {
        c.rest.unauthenticated_rate_per_address == 15
    }),
    ("rest.unauthenticated_burst_per_address", "16", "16", |c| {
        c.rest.unauthenticated_burst_per_address == 16
    }),
    ("rest.keep_alive_ms", "1_500", "1500", |c| c.rest.keep_alive_ms == 1500),
    ("limits.message_bytes", "1000", "1000", |c| c.limits.message_bytes == 1000),
    ("limits.channels_per_connection", "17", "17", |c| c.limits.channels_per_connection == 17),
    ("limits.message_rate", "0", "0", |c| c.limits.message_rate == 0),
    ("limits.message_burst", "19", "19", |c| c.limits.message_burst == 19),
    ("limits.connects_per_address", "0", "0", |c| c.limits.connects_per_address == 0),
    ("limits.connects_window_sec", "21", "21", |c| c.limits.connects_window_sec == 21),
    ("limits.outbound_queue_bytes", "80000", "80000", |c| c.limits.outbound_queue_bytes == 80_000),
    ("limits.rest_body_bytes", "2300", "2300", |c| c.limits.rest_body_bytes == 2300),
    ("limits.head_bytes", "2400", "2400", |c| c.limits.head_bytes == 2400),
    ("limits.head_timeout_ms", "250", "250", |c| c.limits.head_timeout_ms == 250),
    ("limits.ping_after_ms", "260", "260", |c| c.limits.ping_after_ms == 260),
    ("limits.drop_after_ms", "31000", "31000", |c| c.limits.drop_after_ms == 31_000),
    ("limits.memory_bytes", "67108864", "67108864", |c| c.limits.memory_bytes == 67_108_864),
    ("limits.unauthenticated_connections", "9", "9", |c| c.limits.unauthenticated_connections == 9),
    ("shutdown.delay_ms", "27", "27", |c| c.shutdown.delay_ms == 27),
    ("shutdown.drain_ms", "0", "0", |c| c.shutdown.drain_ms == 0),
    ("shutdown.retry_after_ms", "28", "28", |c| c.shutdown.retry_after_ms == 28),
    ("handover.binary", r#""/opt/ringmesh""#, "/opt/ringmesh", |c| {
        c.handover.binary == Some("/opt/ringmesh".into())
    }),
    ("handover.prepare_ms", "290", "290", |c| c.handover.prepare_ms == 290),
    ("handover.pause_max_ms", "300", "300", |c| c.handover.pause_max_ms == 300),
    ("handover.state_max_bytes", "3100000", "3100000", |c| {
        c.handover.state_max_bytes == 3_100_000
    }),
    ("log.level", r#""debug""#, "debug", |c| c.log.level == tracing::Level::DEBUG),
    ("log.format", r#""json""#, "json", |c| c.log.format == LogFormat::Json),
];

fn tls_path(config: &Config, path: impl Fn(&TlsConfig) -> &PathBuf) -> String {
    config
        .tls
        .as_ref()
        .map(|tls| path(tls).display().to_string())
        .unwrap_or_default()
}

/// What must be set beside a sample, because the key makes no sense alone.
fn companion(key: &str) -> &'static [(&'static str, &'static str)] {
    match key {
        "server.proxy_protocol" => &[("RINGMESH_SERVER__TRUSTED_PROXIES", "::1")],
        "tls.cert" => &[("RINGMESH_TLS__KEY", "k.pem")],
        "tls.key" => &[("RINGMESH_TLS__CERT", "c.pem")],
        _ => &[],
    }
}

#[test]
fn every_key_takes_a_value_from_the_file_and_from_its_variable() {
    for (key, toml, text, holds) in SAMPLES {
        let from_file = parse(&format!("{key} = {toml}"), companion(key)).unwrap();
        assert!(holds(&from_file), "{key} = {toml}: {from_file:#?}");

        let variable = format!("RINGMESH_{}", key.replace('.', "__").to_uppercase());
        let variables = [companion(key), &[(&variable, text)]].concat();
        let from_variable = parse("", &variables).unwrap();
        assert_eq!(
            shown(&from_variable),
            shown(&from_file),
            "{variable}={text}"
        );

        // The variable goes before the file, whatever that says.
        let over_file = parse(&format!("{key} = 1.5"), &variables).unwrap();
        assert_eq!(shown(&over_file), shown(&from_file), "{variable}={text}");
    }
}

#[test]
fn the_samples_are_all_keys_of_the_example() {
    let example: toml::Table = toml::from_str(&uncommented(EXAMPLE)).unwrap();
    let of_section = |(name, value): (&String, &toml::Value)| {
        let keys = value.as_table().into_iter().flat_map(toml::Table::keys);
        keys.map(|key| format!("{name}.{key}")).collect::<Vec<_>>()
    };
    let keys: Vec<_> = example
        .iter()
        .filter(|(name, _)| *name != "apps")
        .flat_map(of_section)
        .collect();
    let mut sampled: Vec<_> = SAMPLES.iter().map(|sample| sample.0.to_owned()).collect();
    sampled.sort_unstable();
    assert_eq!(keys, sampled);
    // And each is known to whoever translates keys.
    let mut translated: Vec<_> = difference::keys().collect();
    translated.sort_unstable();
    assert_eq!(keys, translated);
}

#[test]
fn a_certificate_without_its_key_is_told_what_is_missing() {
    check_refused(
        "[tls]\ncert = \"c.pem\"",
        "2: tls.cert: tls.key is not set, and there is no /etc/rm/privkey.pem, its default; set \
         tls.key too",
    );
    check_refused(
        "[tls]\nkey = \"k.pem\"",
        "2: tls.key: tls.cert is not set, and there is no /etc/rm/fullchain.pem, its default; \
         set tls.cert too",
    );
    parse("[tls]", &[]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("privkey.pem"), "").unwrap();
    let path = directory.path().join("r.toml");
    Config::from_text(&path, "[tls]\ncert = \"c.pem\"", &Environment::default()).unwrap();
}

/// The example with everything in it that is off by default.
fn uncommented(example: &str) -> String {
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    example.lines().map(uncomment).collect()
}

#[test]
fn a_wrong_type_or_value_is_refused_with_line_key_and_default() {
    check_refused(
        "[limits]\n\nmessage_rate = \"x\"\n",
        "3: limits.message_rate: expected an integer from 0 to 1000000, found string \"x\"; \
         leave it out for the default, 100",
    );
    check_refused(
        "limits.message_rate = -1",
        "1: limits.message_rate: expected an integer from 0 to 1000000, found integer -1; \
         leave it out for the default, 100",
    );
    check_refused(
        "[rest]\naccept_bare_key_id = 1",
        "2: rest.accept_bare_key_id: expected true or false, found integer 1; \
         leave it out for the default, false",
    );
    check_refused(
        "[auth]\nreject_with = \"ws\"",
        "2: auth.reject_with: expected \"http\" or \"close\", found string \"ws\"; \
         leave it out for the default, \"http\"",
    );
    check_refused(
        "[server]\nlisten = [\n  \"0.0.0.0:80\",\n  \"localhost\",\n]",
        "4: server.listen: expected an address such as 0.0.0.0:8080 or [::]:8080, found string \
         \"localhost\"; leave it out for the default, [\"0.0.0.0:8080\"]",
    );
    check_refused(
        "[server]\nlisten = \"0.0.0.0:80\"",
        "2: server.listen: expected a list, each item an address such as 0.0.0.0:8080 or \
         [::]:8080, found string \"0.0.0.0:80\"; leave it out for the default, \
         [\"0.0.0.0:8080\"]",
    );
    check_refused(
        "[tls]\nlisten = [8443]",
        "2: tls.listen: expected an address such as 0.0.0.0:8443 or [::]:8443, found integer \
         8443; leave it out for the default, the addresses of server.listen",
    );
    check_refused("server = 5", "1: server: expected a table, found integer 5");
    check_refused(
        "[apps]",
        "1: apps: expected tables, each begun by [[apps]], found a table",
    );
}

#[test]
fn every_number_is_refused_just_outside_its_range() {
    for (key, below, above) in [
        ("server.shards", "0", "1025"),
        ("rest.rate_per_key", "-1", "1000001"),
        ("rest.keep_alive_ms", "99", "86400001"),
        ("limits.message_bytes", "255", "993857"),
        ("limits.channels_per_connection", "0", "100001"),
        ("limits.connects_window_sec", "0", "86401"),
        ("limits.outbound_queue_bytes", "8191", "1073741825"),
        ("limits.rest_body_bytes", "1023", "994881"),
        ("limits.head_bytes", "1023", "1048577"),
        ("limits.ping_after_ms", "99", "99999999999999999999"),
        ("limits.memory_bytes", "-1", "1125899906842625"),
        ("limits.unauthenticated_connections", "-1", "1000000001"),
        ("history.memory_bytes", "1048575", "1099511627777"),
        ("history.dedupe_sec", "0", "3601"),
        ("history.replay_messages", "0", "100001"),
        ("history.replay_bytes", "1023", "67108865"),
        ("shutdown.delay_ms", "-1", "3600001"),
        ("shutdown.drain_ms", "-1", "3600001"),
        ("handover.prepare_ms", "99", "3600001"),
        ("handover.pause_max_ms", "9", "60001"),
        ("handover.state_max_bytes", "1048575", "68719476737"),
    ] {
        for value in [below, above] {
            let error = parse(&format!("{key} = {value}"), &[]).unwrap_err();
            assert!(
                error.starts_with(&format!("/etc/rm/r.toml:1: {key}: expected")),
                "{error}"
            );
        }
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    let unknown = "unknown key; ";
    for (text, expected) in [
        (
            "[limits]\nmesage_rate = 1",
            "2: limits.mesage_rate: {}did you mean limits.message_rate?",
        ),
        (
            "[limit]\nmessage_rate = 1",
            "1: limit: {}did you mean limits?",
        ),
        (
            "[server]\nmessage_rate = 1",
            "2: server.message_rate: {}did you mean limits.message_rate?",
        ),
        ("colour = 1", "1: colour: {}remove it"),
        ("\"a\\nb\" = 1", "1: \"a\\nb\": {}remove it"),
        (
            "[[apps]]\nid = \"a\"\nstatuss = 1",
            "3: apps.statuss: {}did you mean apps.status?",
        ),
        (
            "[log]\nlevle = 1\n[auth]\nxyz = 1",
            "2: log.levle: {}did you mean log.level?",
        ),
    ] {
        check_refused(text, &expected.replace("{}", unknown));
    }
}

#[test]
fn what_is_not_toml_is_refused_with_its_line() {
    for (text, line) in [
        ("[server]\nlisten 5\n", 2),
        ("a = \"", 1),
        ("a = 1\n\na = 2", 3),
    ] {
        let error = parse(text, &[]).unwrap_err();
        assert!(
            error.starts_with(&format!("/etc/rm/r.toml:{line}: not TOML: ")),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_file_that_is_no_text_is_told_with_the_byte() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r.toml");
    for (bytes, expected) in [
        (
            &b"[server]\n# caf\xe9\nshards = 1"[..],
            ":2: not UTF-8: byte 0xe9 at offset 14;",
        ),
        (b"\xff\xfe[\0s\0", ":1: not UTF-8: byte 0xff at offset 0;"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = Config::load(&path, &environment(&[]))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error
                .strip_prefix(path.to_str().unwrap())
                .unwrap()
                .split_inclusive(';')
                .next(),
            Some(expected)
        );
    }
}

/// Each key that is changed is named, and no other.
#[test]
fn a_change_of_any_key_is_noticed() {
    let before = parse("", &[]).unwrap();
    assert_eq!(differences(&before, &before), []);
    for (key, toml, _, _) in SAMPLES {
        let after = parse(&format!("{key} = {toml}"), companion(key)).unwrap();
        let found = differences(&before, &after);
        let expected = if key.starts_with("tls.") { "tls" } else { key };
        assert!(
            found.iter().any(|it| it.key == expected),
            "{key}: {found:?}"
        );
        // Beside it only what goes along: a companion, or a path or burst that follows.
        let others = [
            "server.trusted_proxies",
            "store.master_key_file",
            "admin.token_file",
            "rest.burst_per_address",
        ];
        let is_expected = |it: &Difference| it.key == expected || others.contains(&it.key);
        assert!(found.iter().all(is_expected), "{key}: {found:?}");
    }
    let tls = |text: &str| parse(&format!("[tls]\n{text}"), &[]).unwrap();
    let before = tls("cert = \"c\"\nkey = \"k\"");
    for (text, key, needs_restart) in [
        ("cert = \"d\"\nkey = \"k\"", "tls.cert", false),
        ("cert = \"c\"\nkey = \"d\"", "tls.key", false),
        (
            "cert = \"c\"\nkey = \"k\"\nlisten = [\"[::1]:1\"]",
            "tls.listen",
            true,
        ),
    ] {
        let difference = Difference { key, needs_restart };
        assert_eq!(differences(&before, &tls(text)), [difference]);
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nonexistent/r.toml"), &environment(&[])).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("/nonexistent/r.toml: cannot be read: "),
        "{text}"
    );
}

#[test]
fn contradictions_are_refused_at_the_key_that_was_given() {
    for (text, place) in [
        (
            "[limits]\ndrop_after_ms = 25999",
            "2: limits.drop_after_ms: a silent connection would be dropped after 25999 ms, and \
             pinged after 25000 ms; make limits.drop_after_ms at least 1000 more",
        ),
        (
            "[limits]\nping_after_ms = 75000",
            "2: limits.ping_after_ms: a silent",
        ),
        (
            "[limits]\nmemory_bytes = 67108863",
            "2: limits.memory_bytes: 67108863 bytes are less than the server needs",
        ),
        (
            "[limits]\noutbound_queue_bytes = 70000",
            "2: limits.outbound_queue_bytes: a single",
        ),
        (
            "[server]\nproxy_protocol = true",
            "2: server.proxy_protocol: no proxy",
        ),
        (
            "[server]\nlisten = []",
            "2: server.listen: there must be 1 to 64 addresses",
        ),
        (
            "[server]\nlisten = [\"[::]:1\", \"[::]:1\"]",
            "2: server.listen: [::]:1 is there twice",
        ),
        (
            "[server]\ncores = []",
            "2: server.cores: there must be at least one core",
        ),
        (
            "[server]\ncores = [1, 1]",
            "2: server.cores: core 1 is there twice",
        ),
        (
            "[admin]\nlisten = \"0.0.0.0:8080\"",
            "2: admin.listen: beside the public listeners, 0.0.0.0:8080 is there twice; give one \
             another port",
        ),
        (
            "[admin]\nlisten = \"127.0.0.1:8080\"",
            "2: admin.listen: beside the public listeners, 0.0.0.0:8080 takes every address that \
             127.0.0.1:8080 would; give one another port",
        ),
        (
            "[server]\nlisten = [\"127.0.0.1:1\", \"[::]:1\"]",
            "2: server.listen: [::]:1 takes every address that 127.0.0.1:1 would; remove one",
        ),
        (
            "[tls]\nlisten = [\"[::]:1\"]\n[admin]\nlisten = \"[::]:1\"",
            "4: admin.listen: beside the public listeners, [::]:1 is there twice",
        ),
        (
            "[tls]\nlisten = []",
            "2: tls.listen: there must be 1 to 64 addresses; leave it out for the default, the \
             addresses of server.listen",
        ),
        (
            "[tls]\nlisten = [\"[::]:1\", \"[::]:1\"]",
            "2: tls.listen: [::]:1 is there twice",
        ),
        (
            "[tls]\nkey = \"k\"\nlisten = [\"[::]:1\", \"0.0.0.0:8080\"]",
            "3: tls.listen: beside server.listen, 0.0.0.0:8080 is there twice; remove one",
        ),
    ] {
        let error = parse(text, &[]).unwrap_err();
        assert!(
            error.starts_with(&format!("/etc/rm/r.toml:{place}")),
            "{error}"
        );
    }
}

#[test]
fn both_kinds_of_addresses_may_have_one_port() {
    for text in [
        "[server]\nlisten = [\"0.0.0.0:8080\", \"[::]:8080\"]",
        "[tls]\nlisten = [\"[::]:8080\"]",
    ] {
        assert_eq!(parse(text, &[]).map(drop), Ok(()), "{text}");
    }
}

#[test]
fn a_burst_of_nothing_is_as_many_as_the_rate() {
    let limits = parse("[limits]\nmessage_rate = 7\nmessage_burst = 0", &[])
        .unwrap()
        .limits;
    assert_eq!((limits.message_rate, limits.message_burst), (7, 7));
    let rest = parse("[rest]\nrate_per_address = 5", &[]).unwrap().rest;
    assert_eq!((rest.rate_per_address, rest.burst_per_address), (5, 5));
    assert_eq!((rest.rate_per_key, rest.burst_per_key), (100, 200));
}

#[test]
fn a_long_value_is_shown_in_part() {
    let error = parse(&format!("log.level = \"{}\"", "é".repeat(500)), &[]).unwrap_err();
    assert!(
        error.contains(&format!("found string \"{}\"…;", "é".repeat(60))),
        "{error}"
    );
}
