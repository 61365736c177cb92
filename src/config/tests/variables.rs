//! Variables of the environment: what they are refused for, and those that nothing reads.

use super::*;

#[test]
fn an_error_in_a_variable_names_it() {
    let text = "[limits]\nping_after_ms = 200\n[[apps]]\nid = \"app_shop\"";
    for (name, value, expected) in [
        (
            "RINGMESH_LIMITS__MESSAGE_RATE",
            "x",
            "expected an integer from 0 to 1000000, found \"x\"",
        ),
        (
            "RINGMESH_SERVER__PROXY_PROTOCOL",
            "yes",
            "expected true or false, found \"yes\"",
        ),
        (
            "RINGMESH_SERVER__LISTEN",
            "[::]:80,x",
            "expected an address such as",
        ),
        (
            "RINGMESH_TLS__LISTEN",
            "[::]:8443,0.0.0.0:8080",
            "beside server.listen, 0.0.0.0:8080 is there twice",
        ),
        (
            "RINGMESH_LIMITS__DROP_AFTER_MS",
            "150",
            "a silent connection would be dropped after 150 ms",
        ),
        (
            "RINGMESH_LIMITS__MESAGE_RATE",
            "1",
            "unknown key; did you mean RINGMESH_LIMITS__MESSAGE_RATE?",
        ),
        (
            "RINGMESH_LIMIT__MESSAGE_RATE",
            "1",
            "unknown key; did you mean RINGMESH_LIMITS__MESSAGE_RATE?",
        ),
        ("RINGMESH_APPS__ID", "1", "unknown key"),
        (
            "RINGMESH_SERVER_LISTEN",
            "[::]:80",
            "unknown key; did you mean RINGMESH_SERVER__LISTEN?",
        ),
        (
            "RINGMESH__SERVER__LISTEN",
            "[::]:80",
            "unknown key; did you mean RINGMESH_SERVER__LISTEN?",
        ),
        (
            "RINGMESH_TLS_CERT",
            "cert.pem",
            "unknown key; did you mean RINGMESH_TLS__CERT?",
        ),
        (
            "ringmesh_limits__message_rate",
            "1",
            "unknown key; did you mean RINGMESH_LIMITS__MESSAGE_RATE?",
        ),
        (
            "RINGMESH_LIMITS_MESSAGERATE",
            "1",
            "unknown key; did you mean RINGMESH_LIMITS__MESSAGE_RATE?",
        ),
    ] {
        let error = parse(text, &[(name, value)]).unwrap_err();
        assert!(error.starts_with(&format!("{name}: {expected}")), "{error}");
    }
    assert!(parse(text, &[("RINGMESH_ADMIN_TOKEN", "t"), ("OTHER__KEY", "1")]).is_ok());
}

#[test]
fn variables_that_nothing_reads_are_told() {
    let variables = [
        ("RINGMESH_ADMIN_TOKEN", "t"),
        ("RINGMESH_BUILD_COMMIT", "0123456"),
        ("RINGMESH_IMAGE", "ringmesh:2"),
        ("RINGMESH_LIMITS_MESAGE_RATE", "5"),
        ("RINGMESH_SERVICE_HOST", "10.0.0.1"),
        ("RINGMESH_SERVICE_PORT", "8080"),
        ("OTHER_KEY", "1"),
    ];
    let unread = parse("", &variables).unwrap().unread_variables;
    let nearest = Some("RINGMESH_LIMITS__MESSAGE_RATE".to_owned());
    let unread: Vec<_> = unread.into_iter().map(|it| (it.name, it.nearest)).collect();
    let expected = [
        ("RINGMESH_IMAGE", None),
        ("RINGMESH_LIMITS_MESAGE_RATE", nearest),
    ];
    assert_eq!(
        unread,
        expected.map(|(name, nearest)| (name.to_owned(), nearest))
    );
}
