//! What each claim must look like, and how the times and the key's rights decide.

use serde_json::json;

use super::*;

#[test]
fn sub_is_printable_ascii() {
    for sub in ["a", " ~", &"x".repeat(128)] {
        assert_eq!(
            &*verify_claims(&with(json!({"sub": sub}))).unwrap().sub,
            sub
        );
    }
    let escaped = format!(r#"{{"sub":"\u0061\"","exp":{}}}"#, NOW_SEC + 1);
    assert_eq!(&*verify_claims(&escaped).unwrap().sub, "a\"");
    for sub in [
        json!(""),
        json!("x".repeat(129)),
        json!("é"),
        json!("\u{7f}"),
        json!("\n"),
    ] {
        check(
            &with(json!({"sub": sub})),
            Err(TokenError::Invalid(Claim::Sub)),
        );
    }
    for sub in ["5", "null", "true", "[\"a\"]", "{}", r#""\ud800""#] {
        let payload = format!(r#"{{"sub":{sub},"exp":{}}}"#, NOW_SEC + 1);
        check(&payload, Err(TokenError::Invalid(Claim::Sub)));
    }
    check(
        &with(json!({"sub": null})),
        Err(TokenError::Missing(Claim::Sub)),
    );
}

#[test]
fn times_are_numbers() {
    check(
        &with(json!({"exp": null})),
        Err(TokenError::Missing(Claim::Exp)),
    );
    let claims = [
        ("exp", Claim::Exp),
        ("nbf", Claim::Nbf),
        ("iat", Claim::Iat),
    ];
    for (name, claim) in claims {
        for value in ["null", "\"1800000060\"", "true", "[]", "{}", "[1800000060]"] {
            let rest = if name == "exp" {
                ""
            } else {
                ",\"exp\":1800000060"
            };
            let payload = format!(r#"{{"sub":"a"{rest},"{name}":{value}}}"#);
            check(&payload, Err(TokenError::Invalid(claim)));
        }
    }
    for no_json in ["NaN", "Infinity", "01", "+1", "1.", ".5", "0x10", "1_000"] {
        check(
            &format!(r#"{{"sub":"a","exp":{no_json}}}"#),
            Err(TokenError::Malformed),
        );
    }
}

#[track_caller]
fn check_expiry(times: &str, expires_at_unix_ms: Result<u64, TokenError>) {
    let payload = format!(r#"{{"sub":"a",{times}}}"#);
    let expiry = verify_claims(&payload).map(|claims| claims.expires_at_unix_ms);
    assert_eq!(expiry, expires_at_unix_ms, "{times}");
}

#[test]
fn expiry_is_exact_and_has_no_leeway() {
    check_expiry(&format!(r#""exp":{}"#, NOW_SEC + 1), Ok(NOW_MS + 1_000));
    check_expiry(&format!(r#""exp":{NOW_SEC}"#), Err(TokenError::Expired));
    check_expiry(
        &format!(r#""exp":{}"#, NOW_SEC - 1),
        Err(TokenError::Expired),
    );
    check_expiry(r#""exp":1800000000.001"#, Ok(NOW_MS + 1));
    check_expiry(r#""exp":1800000000.123"#, Ok(NOW_MS + 123));
    check_expiry(r#""exp":1800000000.9996"#, Ok(NOW_MS + 1_000));
    check_expiry(r#""exp":1800000000.0004"#, Err(TokenError::Expired));
    check_expiry(r#""exp":1.8000000005e9"#, Ok(NOW_MS + 500));
    for long_ago in ["0", "-0", "-1", "-1e300", "0.5", "1e-300"] {
        check_expiry(&format!(r#""exp":{long_ago}"#), Err(TokenError::Expired));
    }
}

#[test]
fn no_token_lives_longer_than_a_day() {
    let capped_ms = NOW_MS + DAY_SEC * 1_000;
    check_expiry(&format!(r#""exp":{}"#, NOW_SEC + DAY_SEC), Ok(capped_ms));
    check_expiry(
        &format!(r#""exp":{}"#, NOW_SEC + DAY_SEC + 1),
        Ok(capped_ms),
    );
    for huge in [
        "9007199254740993",
        "18446744073709551615",
        "18446744073709551616",
        "1e300",
        "1e999",
    ] {
        check_expiry(&format!(r#""exp":{huge}"#), Ok(capped_ms));
    }
    // Counted from `iat` where there is one.
    let iat = NOW_SEC - DAY_SEC + 10;
    check_expiry(&format!(r#""exp":1e300,"iat":{iat}"#), Ok(NOW_MS + 10_000));
    check_expiry(
        &format!(r#""exp":1e300,"iat":{}"#, iat - 10),
        Err(TokenError::Expired),
    );
    check_expiry(r#""exp":1e300,"iat":-1"#, Err(TokenError::Expired));
    check_expiry(
        &format!(r#""exp":1e300,"iat":{}"#, NOW_SEC + 5),
        Ok(capped_ms + 5_000),
    );
    let claims = verify_claims(&with(json!({"exp": 1_800_000_010.9}))).unwrap();
    assert_eq!(claims.expires_at_unix_sec(), NOW_SEC + 10);
}

#[test]
fn iat_and_nbf_have_five_seconds_of_leeway() {
    for (name, error) in [
        ("iat", TokenError::IssuedInFuture),
        ("nbf", TokenError::NotYetValid),
    ] {
        for good in [
            "-1e9",
            "0",
            "1799999999",
            "1800000000",
            "1800000005",
            "1800000005.0001",
        ] {
            let payload = format!(r#"{{"sub":"a","exp":1800000060,"{name}":{good}}}"#);
            let expired = name == "iat" && good.len() < 5;
            check(
                &payload,
                if expired {
                    Err(TokenError::Expired)
                } else {
                    Ok(())
                },
            );
        }
        for bad in [
            "1800000005.001",
            "1800000006",
            "18446744073709551615",
            "1e999",
        ] {
            let payload = format!(r#"{{"sub":"a","exp":1800000060,"{name}":{bad}}}"#);
            check(&payload, Err(error));
        }
    }
}

#[test]
fn channels_are_patterns() {
    assert_eq!(verify_claims(&with(json!({}))).unwrap().channels, None);
    for list in [vec![], vec!["room-*"], vec!["a"; 100]] {
        let claims = verify_claims(&with(json!({"channels": list}))).unwrap();
        let channels = claims.channels.unwrap();
        assert_eq!(
            channels.iter().map(Pattern::as_str).collect::<Vec<_>>(),
            list
        );
    }
    check(&with(json!({"channels": ["x".repeat(256)]})), Ok(()));
    for bad in [
        json!(vec!["a"; 101]),
        json!(["x".repeat(257)]),
        json!([""]),
        json!(["a\\"]),
        json!([1]),
        json!([null]),
        json!(["a", ["b"]]),
        json!("a"),
        json!({"a": "a"}),
        json!(false),
    ] {
        check(
            &with(json!({"channels": bad})),
            Err(TokenError::Invalid(Claim::Channels)),
        );
    }
    let null = format!(r#"{{"sub":"a","exp":{},"channels":null}}"#, NOW_SEC + 1);
    check(&null, Err(TokenError::Invalid(Claim::Channels)));
}

#[test]
fn permissions_are_actions() {
    assert_eq!(verify_claims(&with(json!({}))).unwrap().permissions, None);
    for list in [
        vec![],
        vec!["send"],
        vec!["publish"; 16],
        vec!["subscribe", "presence"],
    ] {
        let claims = verify_claims(&with(json!({"permissions": list}))).unwrap();
        assert_eq!(claims.permissions, Some(Actions::parse(list).unwrap()));
    }
    for bad in [
        json!(vec!["publish"; 17]),
        json!(["Publish"]),
        json!(["publish", "kick"]),
        json!([1]),
        json!("publish"),
        json!({}),
    ] {
        check(
            &with(json!({"permissions": bad})),
            Err(TokenError::Invalid(Claim::Permissions)),
        );
    }
    let null = format!(r#"{{"sub":"a","exp":{},"permissions":null}}"#, NOW_SEC + 1);
    check(&null, Err(TokenError::Invalid(Claim::Permissions)));
}

#[test]
fn metadata_is_passed_on_as_written_and_measured_so() {
    let payload = |name: &str, value: &str| {
        format!(r#"{{"sub":"a","{name}" : {value} ,"exp":{}}}"#, NOW_SEC + 1)
    };
    let of_bytes = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
    let get = |name: &str, value: &str| {
        verify_claims(&payload(name, value)).map(|claims| match name {
            "metadata" => (claims.metadata, claims.peer_metadata),
            _ => (claims.peer_metadata, claims.metadata),
        })
    };
    let rules = [
        ("metadata", Claim::Metadata, 8_192),
        ("peerMetadata", Claim::PeerMetadata, 4_096),
    ];
    for (name, claim, bytes_max) in rules {
        let odd = "{ \"a\" :1.0,\n\"a\":\"\\ud800\", \"é\": 1e999 }";
        for good in ["{}", odd, &of_bytes(bytes_max)] {
            assert_eq!(get(name, good), Ok((Some(good.into()), None)));
        }
        let too_long = of_bytes(bytes_max + 1);
        // Spaces count, where a compact form would fit.
        let spaced = of_bytes(bytes_max).replace("\":", "\": ");
        for bad in ["null", "[]", "\"{}\"", "5", "[{}]", &too_long, &spaced] {
            assert_eq!(
                get(name, bad),
                Err(TokenError::Invalid(claim)),
                "{name} {bad}"
            );
        }
    }
}

#[test]
fn a_payload_is_one_object_without_repetition() {
    let times = format!(r#""exp":{}"#, NOW_SEC + 1);
    check(&format!("\t\r\n {{\"sub\":\"a\",{times}}} "), Ok(()));
    check(
        &format!(r#"{{"sub":"a","iss":5,"aud":[1],"x":1,"x":2,{times}}}"#),
        Ok(()),
    );
    for bad in [
        format!(r#"{{"sub":"a","sub":"a",{times}}}"#),
        format!(r#"{{"sub":"a","\u0073ub":"b",{times}}}"#),
        format!(r#"{{"sub":"a",{times}}}{{}}"#),
        format!(r#"{{"sub":"a",{times},}}"#),
        format!("[\"a\",{}]", NOW_SEC + 1),
        "null".into(),
        String::new(),
        "\u{feff}{}".into(),
    ] {
        check(&bad, Err(TokenError::Malformed));
    }
    // Deep nesting is skipped without recursion.
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    check(&format!(r#"{{"sub":"a","x":{deep},{times}}}"#), Ok(()));
}

#[test]
fn a_token_stays_within_its_key() {
    let patterns = ["room-*", "app/**"].map(|pattern| Pattern::parse(pattern).unwrap());
    let patterns: CompiledPatterns = patterns.into_iter().collect();
    let actions = Actions::parse(["publish", "subscribe"]).unwrap();
    let secret = Secret::new(SECRET);
    let verify = |changes: Value| {
        let token = signed(HEADER, &with(changes), SECRET);
        let token = UnverifiedToken::parse(&token)?;
        token
            .verify([&secret], &patterns, actions, NOW_MS)
            .map(|_| ())
    };
    assert_eq!(verify(json!({})), Ok(()));
    assert_eq!(verify(json!({"channels": ["room-1", "app/*"]})), Ok(()));
    assert_eq!(verify(json!({"channels": [], "permissions": []})), Ok(()));
    assert_eq!(
        verify(json!({"permissions": ["publish", "subscribe"]})),
        Ok(())
    );
    let channels = Err(TokenError::ChannelsNotGranted);
    assert_eq!(verify(json!({"channels": ["room-1", "**"]})), channels);
    assert_eq!(
        verify(json!({"permissions": ["send"]})),
        Err(TokenError::PermissionsNotGranted)
    );
    // Expired is said of good tokens only.
    let long_ago = NOW_SEC - 99;
    assert_eq!(verify(json!({"exp": long_ago})), Err(TokenError::Expired));
    assert_eq!(
        verify(json!({"exp": long_ago, "channels": ["**"]})),
        channels
    );
    let invalid = Err(TokenError::Invalid(Claim::Sub));
    assert_eq!(verify(json!({"exp": long_ago, "sub": ""})), invalid);
}

#[test]
fn refusals_name_the_claim_and_the_rule() {
    let text = |error: TokenError| error.to_string();
    assert_eq!(
        text(TokenError::Invalid(Claim::Metadata)),
        "the token's claim metadata must be a JSON object of at most 8192 bytes"
    );
    assert_eq!(
        text(TokenError::Missing(Claim::Exp)),
        "the token must have the claim exp"
    );
    for claim in [Claim::Sub, Claim::Nbf, Claim::Channels, Claim::Permissions] {
        assert!(text(TokenError::Invalid(claim)).contains(claim.name()));
    }
}
