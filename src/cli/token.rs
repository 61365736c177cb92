//! `ringmesh token mint`: from arguments to a signed connect token, without a server.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::duration::duration_sec;
use super::failure::Failure;
use crate::bounded_file::{self, SECRET_BYTES_MAX};
use crate::config::Environment;
use crate::limits::{
    HEAD_BYTES_DEFAULT, SIGNING_SECRET_BYTES_MIN, TOKEN_LIFETIME_SEC_MAX, TOKEN_PERMISSIONS_MAX,
    token_bytes_max,
};
use crate::proto::actions::Actions;
use crate::proto::claims::{MintRequest, Secret, mint};
use crate::proto::pattern::Pattern;

/// Holds the signing secret when no argument names it.
const SECRET_VARIABLE: &str = "RINGMESH_SECRET";
/// Ids of keys that can sign begin so.
const SECRET_KEY_PREFIX: &str = "sk_id_";

/// Overrides `limits.head_bytes` of a server, here as there.
const HEAD_BYTES_VARIABLE: &str = "RINGMESH_LIMITS__HEAD_BYTES";
/// What is given instead of a signing secret by mistake.
const OTHER_CREDENTIALS: [(&str, &str); 3] = [
    ("sk_live_", "an API secret"),
    ("pk_live_", "a publishable key"),
    (SECRET_KEY_PREFIX, "the id of a key"),
];

/// Connect tokens.
#[derive(Subcommand)]
pub enum TokenCommand {
    /// Sign a connect token: the server does, or with --key-id the command itself.
    #[command(
        after_help = "Examples:\n  ringmesh token mint alice --app shop --channels 'room-*'\n  \
                      ringmesh token mint alice --key-id sk_id_… --secret-file signing.secret"
    )]
    Mint(MintArgs),
    /// Say whether a connect token is good, and for what.
    #[command(
        after_help = "Examples:\n  ringmesh token check - < token\n  ringmesh token check - \
                      --channel room-42 --action publish < token"
    )]
    Check(CheckArgs),
}

/// Arguments of `ringmesh token check`.
#[derive(Args)]
pub struct CheckArgs {
    /// The token; - reads it from standard input, where other users cannot see it
    #[arg(value_name = "TOKEN", default_value = "-")]
    pub token: String,
    /// File with the signing secret of its key; no server is asked then
    #[arg(long, value_name = "FILE", conflicts_with_all = ["channel", "action"])]
    pub secret_file: Option<PathBuf>,
    /// Whether it opens this channel
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Option<String>,
    /// Whether it allows this
    #[arg(long, value_parser = ["publish", "subscribe", "presence", "send"])]
    pub action: Option<String>,
}

/// Arguments of `ringmesh token mint`. Not `Debug`: one of them is a secret.
#[derive(Args)]
pub struct MintArgs {
    /// The secret key with which the server signs [default: the only one there is]
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub key: Option<String>,
    /// The app whose secret key signs, by its id or name [default: the only one there is]
    #[arg(
        long, value_name = "APP", conflicts_with_all = ["key", "key_id"],
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub app: Option<String>,
    /// The secret key, sk_id_…, with which the command itself signs, without a server
    #[arg(
        long, value_name = "ID", conflicts_with = "key",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub key_id: Option<String>,
    /// Its signing secret; other users see arguments, so rather set RINGMESH_SECRET
    #[arg(
        long, value_name = "SECRET", hide = true, conflicts_with_all = ["secret_file", "key"],
        requires = "key_id"
    )]
    pub secret: Option<String>,
    /// File with its signing secret [default: RINGMESH_SECRET]
    #[arg(long, value_name = "FILE", conflicts_with = "key", requires = "key_id")]
    pub secret_file: Option<PathBuf>,
    /// The peer id
    #[arg(
        value_name = "PEER", required_unless_present = "sub",
        value_parser = NonEmptyStringValueParser::new()
    )]
    peer: Option<String>,
    /// The same as an option
    #[arg(
        long, value_name = "PEER", hide = true, conflicts_with = "peer",
        value_parser = NonEmptyStringValueParser::new()
    )]
    sub: Option<String>,
    /// Channel patterns, by commas or repeated [default: those of the key]
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',')]
    pub channels: Option<Vec<String>>,
    /// publish, subscribe, presence, send [default: those of the key]
    #[arg(long, value_name = "ACTIONS", value_delimiter = ',')]
    pub permissions: Option<Vec<String>>,
    /// How long it is good for: 12h, 30m, 45s or seconds; the server signs for 1h at most
    #[arg(
        long, value_name = "DURATION", default_value = "1h", value_parser = duration_sec,
        allow_hyphen_values = true
    )]
    pub expires: u64,
    /// JSON object that the peer gets in its own welcome
    #[arg(long, value_name = "JSON")]
    pub metadata: Option<String>,
    /// JSON object that other peers see
    #[arg(long, value_name = "JSON")]
    pub peer_metadata: Option<String>,
}

impl MintArgs {
    /// Signs the token.
    ///
    /// # Errors
    /// An argument that would make the token bad, or a secret that is missing or unreadable.
    pub fn mint(&self, now_unix: u64, environment: &Environment) -> Result<String, Failure> {
        let key_id = self.key_id.as_deref().unwrap_or_default();
        if !key_id.starts_with(SECRET_KEY_PREFIX) {
            let text =
                "only secret keys, whose ids begin with sk_id_, sign tokens; give such an id";
            return Err(bad("key-id", text));
        }
        if !(1..=TOKEN_LIFETIME_SEC_MAX).contains(&self.expires) {
            return Err(bad(
                "expires",
                "a token is good for 1s to 24h; give such a duration",
            ));
        }
        let channels = self.channels()?;
        let metadata = raw_json("metadata", self.metadata.as_deref())?;
        let peer_metadata = raw_json("peer-metadata", self.peer_metadata.as_deref())?;
        let request = MintRequest {
            key_id,
            sub: self.peer(),
            issued_at_unix: now_unix,
            expires_at_unix: now_unix.saturating_add(self.expires),
            channels: channels.as_deref(),
            permissions: self.permissions()?,
            metadata: metadata.as_deref(),
            peer_metadata: peer_metadata.as_deref(),
        };
        let secret = Secret::new(&signing_secret(
            self.secret.as_deref(),
            self.secret_file.as_deref(),
            environment,
        )?);
        let token = mint(&request, &secret).map_err(|error| {
            Failure::usage(format_args!(
                "the server would refuse such a token: {error}"
            ))
        })?;
        let head_bytes_max = environment.get(HEAD_BYTES_VARIABLE);
        let head_bytes_max = head_bytes_max.and_then(|text| text.to_str()?.parse().ok());
        let bytes_max = token_bytes_max(head_bytes_max.unwrap_or(HEAD_BYTES_DEFAULT));
        if token.len() > bytes_max {
            return Err(Failure::usage(format_args!(
                "the token would have {} bytes, and no more than {bytes_max} can connect; give \
                 it fewer or shorter channels, or less metadata, or set {HEAD_BYTES_VARIABLE} \
                 if the server's limits.head_bytes is larger",
                token.len()
            )));
        }
        Ok(token)
    }

    /// The peer id. One of the two arguments is required.
    pub(super) fn peer(&self) -> &str {
        let given = self.peer.as_deref().or(self.sub.as_deref());
        given.unwrap_or_default()
    }

    fn channels(&self) -> Result<Option<Vec<Pattern>>, Failure> {
        let parse = |text: &String| {
            Pattern::parse(text).map_err(|error| bad("channels", format_args!("{text:?}: {error}")))
        };
        self.channels
            .as_ref()
            .map(|texts| texts.iter().map(parse).collect())
            .transpose()
    }

    pub(super) fn permissions(&self) -> Result<Option<Actions>, Failure> {
        let Some(names) = &self.permissions else {
            return Ok(None);
        };
        if names.len() > TOKEN_PERMISSIONS_MAX {
            return Err(bad("permissions", "name each action once"));
        }
        Actions::parse(names)
            .map(Some)
            .map_err(|error| bad("permissions", error))
    }
}

/// The signing secret: an argument's, a file's, or that of the environment.
///
/// # Errors
/// There is none, it cannot be read, or no key has such a one.
pub(super) fn signing_secret(
    argument: Option<&str>,
    file: Option<&Path>,
    environment: &Environment,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut secret = if let Some(secret) = argument {
        Zeroizing::new(secret.as_bytes().to_vec())
    } else if let Some(path) = file {
        bounded_file::read(path, SECRET_BYTES_MAX).map_err(|cause| {
            let path = path.display();
            Failure::usage(format_args!(
                "--secret-file: {path} cannot be read: {cause}; name a readable file"
            ))
        })?
    } else if let Some(secret) = environment.get(SECRET_VARIABLE) {
        Zeroizing::new(secret.as_encoded_bytes().to_vec())
    } else {
        return Err(Failure::usage(format_args!(
            "the signing secret is missing; set {SECRET_VARIABLE}, or give --secret-file"
        )));
    };
    while matches!(secret.last(), Some(b'\n' | b'\r')) {
        secret.pop();
    }
    if secret.is_empty() {
        return Err(Failure::usage(
            "the signing secret is empty; give the one of the key",
        ));
    }
    let other = OTHER_CREDENTIALS.iter();
    let other = other.filter(|(prefix, _)| secret.starts_with(prefix.as_bytes()));
    if let Some((prefix, what)) = other.copied().next() {
        return Err(Failure::usage(format_args!(
            "the secret that was given is {what} ({prefix}…), which signs nothing; give the \
             signing secret of the key, sk_secret_…"
        )));
    }
    match fault_of(&secret) {
        Some(fault) => Err(Failure::usage(fault)),
        None => Ok(secret),
    }
}

/// Why no server takes what this secret signs. Shows nothing of it.
fn fault_of(secret: &[u8]) -> Option<String> {
    if secret.trim_ascii().len() < secret.len() {
        return Some("the signing secret begins or ends with a blank; remove it".to_owned());
    }
    (secret.len() < SIGNING_SECRET_BYTES_MIN).then(|| {
        format!(
            "the signing secret that was given has {} bytes, and those of keys have at least \
             {SIGNING_SECRET_BYTES_MIN}; give the one of the key, sk_secret_…",
            secret.len()
        )
    })
}

/// A value that is JSON; that it is an object, and not too long, is a rule of tokens.
pub(super) fn raw_json(
    argument: &str,
    text: Option<&str>,
) -> Result<Option<Box<RawValue>>, Failure> {
    let parse = |text: &str| {
        RawValue::from_string(text.trim().to_owned())
            .map_err(|error| bad(argument, format_args!("not JSON: {error}")))
    };
    text.map(parse).transpose()
}

/// Bad usage of one argument.
fn bad(argument: &str, cause_and_remedy: impl fmt::Display) -> Failure {
    Failure::usage(format_args!("--{argument}: {cause_and_remedy}"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs;

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::{Cli, CliCommand, NoCommand, parse};

    const NOW_UNIX: u64 = 1_700_000_000;
    const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";
    const OTHER: &str = "another one of thirty-two bytes.";

    /// `ringmesh token mint` with these arguments behind the required ones.
    fn minted(arguments: &[&str], variable: Option<&str>) -> Result<String, String> {
        let start = [
            "ringmesh", "token", "mint", "--key-id", "sk_id_a", "--sub", "alice",
        ];
        run(&[&start, arguments].concat(), variable)
    }

    fn run(line: &[&str], variable: Option<&str>) -> Result<String, String> {
        let environment = variable
            .map(|secret| (SECRET_VARIABLE, secret))
            .into_iter()
            .collect();
        match parse(line.iter().map(OsString::from)) {
            Ok(Cli {
                command: CliCommand::Token(TokenCommand::Mint(args)),
                ..
            }) => args
                .mint(NOW_UNIX, &environment)
                .map_err(|error| error.to_string()),
            Ok(_) => panic!("another command"),
            Err(NoCommand::BadUsage(failure)) => Err(failure.to_string()),
            Err(NoCommand::Shown(text)) => panic!("{text}"),
        }
    }

    #[test]
    fn a_life_is_positive() {
        for expires in [["--expires", "-5"], ["--expires", "-1h"]] {
            let refused = minted(&expires, Some(SECRET)).unwrap_err();
            assert!(refused.contains("a duration is positive"), "{refused}");
            assert!(!refused.contains("'-- "), "{refused}");
        }
    }

    #[test]
    fn a_credential_that_signs_nothing_is_named() {
        for (given, what) in [
            ("sk_live_0123456789abcdef", "an API secret (sk_live_…)"),
            ("pk_live_a\n", "a publishable key (pk_live_…)"),
            ("sk_id_a", "the id of a key (sk_id_…)"),
            ("sk_id_a:sk_secret_b", "the id of a key (sk_id_…)"),
        ] {
            let expected = format!(
                "the secret that was given is {what}, which signs nothing; give the signing \
                 secret of the key, sk_secret_…"
            );
            assert_eq!(minted(&[], Some(given)).unwrap_err(), expected);
            assert_eq!(minted(&["--secret", given], None).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_token_that_no_connect_takes_is_not_made() {
        let channels = vec!["c".repeat(203); 100].join(",");
        let error = minted(&["--channels", &channels], Some(SECRET)).unwrap_err();
        assert!(error.starts_with("the token would have 2"), "{error}");
        assert!(error.contains("no more than 22528 can connect"), "{error}");
        let fewer = vec!["c".repeat(203); 70].join(",");
        minted(&["--channels", &fewer], Some(SECRET)).unwrap();
    }

    /// Header and payload, after the signature has been checked against `secret`.
    fn opened(token: &str, secret: &[u8]) -> [Value; 2] {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        aws_lc_rs::hmac::verify(&key, signed.as_bytes(), &signature).unwrap();
        let part = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
        let (header, payload) = signed.split_once('.').unwrap();
        [header, payload].map(|text| serde_json::from_slice(&part(text)).unwrap())
    }

    #[test]
    fn a_short_token_has_what_is_required() {
        let token = minted(&["--secret", SECRET], None).unwrap();
        let [header, payload] = opened(&token, SECRET.as_bytes());
        assert_eq!(
            header,
            json!({"typ": "JWT", "alg": "HS256", "kid": "sk_id_a"})
        );
        let expected = json!({
            "sub": "alice", "iat": NOW_UNIX, "exp": NOW_UNIX + 3_600, "iss": "ringmesh",
        });
        assert_eq!(payload, expected);
    }

    #[test]
    fn a_long_token_has_everything() {
        let arguments = [
            "--channels",
            "room-*,a/**",
            "--channels",
            "b",
            "--permissions",
            "publish,send",
            "--expires",
            "30m",
            "--metadata",
            r#" {"z":1,"a":2} "#,
            "--peer-metadata",
            r#"{"n":"A"}"#,
        ];
        let token = minted(&arguments, Some(&format!("{SECRET}\n"))).unwrap();
        let [_, payload] = opened(&token, SECRET.as_bytes());
        assert_eq!(payload["channels"], json!(["room-*", "a/**", "b"]));
        assert_eq!(payload["permissions"], json!(["publish", "send"]));
        assert_eq!(payload["exp"], NOW_UNIX + 1_800);
        assert_eq!(payload["metadata"], json!({"z": 1, "a": 2}));
        assert_eq!(payload["peerMetadata"], json!({"n": "A"}));
    }

    #[test]
    fn an_argument_goes_before_the_environment() {
        let token = minted(&["--secret", SECRET], Some(OTHER)).unwrap();
        opened(&token, SECRET.as_bytes());

        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        fs::write(&file, format!("{SECRET}\r\n")).unwrap();
        let path = file.to_str().unwrap();
        let token = minted(&["--secret-file", path], Some(OTHER)).unwrap();
        opened(&token, SECRET.as_bytes());

        let error = minted(&["--secret-file", path, "--secret", "hush"], None).unwrap_err();
        assert!(
            error.contains("cannot be used with") && !error.contains("hush"),
            "{error}"
        );
    }

    #[test]
    fn arguments_that_make_a_bad_token_are_refused() {
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(8_192));
        let channels = vec!["a"; 101].join(",");
        let permissions = vec!["send"; 17].join(",");
        let expires = "--expires: a token is good for 1s to 24h";
        let rule = "the server would refuse such a token: ";
        for (arguments, expected) in [
            (&["--expires", "25h"], expires),
            (&["--expires", "0"], expires),
            (
                &["--expires", "soon"],
                "invalid value 'soon' for '--expires <DURATION>': expected",
            ),
            (&["--channels", "a,,b"], "--channels: \"\": "),
            (&["--channels", &channels], rule),
            (
                &["--permissions", "read"],
                "--permissions: an action is one of",
            ),
            (
                &["--permissions", &permissions],
                "--permissions: name each action once",
            ),
            (&["--metadata", "{"], "--metadata: not JSON: "),
            (&["--metadata", "[]"], rule),
            (&["--metadata", &long], rule),
            (&["--peer-metadata", "7"], rule),
        ] {
            let error = minted(arguments, Some(SECRET)).unwrap_err();
            assert!(error.starts_with(expected), "{arguments:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let line = [
            "ringmesh",
            "token",
            "mint",
            "--key-id",
            "pk_live_a",
            "--sub",
            "alice",
        ];
        let error = run(&line, Some(SECRET)).unwrap_err();
        assert!(error.starts_with("--key-id: only secret keys"), "{error}");
        let line = [
            "ringmesh", "token", "mint", "--key-id", "sk_id_a", "--sub", "é",
        ];
        let error = run(&line, Some(SECRET)).unwrap_err();
        assert!(error.starts_with(rule) && error.contains("sub"), "{error}");
    }

    #[test]
    fn a_missing_secret_is_told_with_the_ways_to_give_it() {
        let error = minted(&[], None).unwrap_err();
        assert!(
            error.contains("RINGMESH_SECRET") && error.contains("--secret-file"),
            "{error}"
        );
        let error = minted(&["--secret-file", "/nonexistent"], None).unwrap_err();
        assert!(
            error.starts_with("--secret-file: /nonexistent cannot be read: "),
            "{error}"
        );
        assert!(minted(&[], Some("\n")).unwrap_err().contains("empty"));
    }

    #[test]
    fn a_secret_that_no_key_has_signs_nothing() {
        let error = minted(&[], Some("12345\n")).unwrap_err();
        let expected = "the signing secret that was given has 5 bytes, and those of keys have at \
                        least 32; give the one of the key, sk_secret_…";
        assert_eq!(error, expected);
        assert!(minted(&["--secret", &SECRET[1..]], None).is_err());
        let blank = format!("{SECRET} ");
        let error = minted(&["--secret", &blank], None).unwrap_err();
        assert_eq!(
            error,
            "the signing secret begins or ends with a blank; remove it"
        );
    }
}
