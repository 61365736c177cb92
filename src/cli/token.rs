//! `ringmesh token mint`: from arguments to a signed connect token, without a server.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::duration::duration_sec;
use super::failure::Failure;
use crate::config::Environment;
use crate::limits::{
    HEAD_BYTES_DEFAULT, TOKEN_LIFETIME_SEC_MAX, TOKEN_PERMISSIONS_MAX, token_bytes_max,
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
    /// Sign a connect token, without asking a server.
    #[command(
        after_help = "Example:\n  RINGMESH_SECRET=sk_secret_… ringmesh token mint \
                            --key-id sk_id_… --sub alice --channels 'room-*' --expires 1h"
    )]
    Mint(MintArgs),
}

/// Arguments of `ringmesh token mint`. Not `Debug`: one of them is a secret.
#[derive(Args)]
pub struct MintArgs {
    /// Id of the secret key that signs, sk_id_…
    #[arg(long, value_name = "ID")]
    pub key_id: String,
    /// Its signing secret; other users see arguments, so rather set RINGMESH_SECRET
    #[arg(long, value_name = "SECRET", conflicts_with = "secret_file")]
    pub secret: Option<String>,
    /// File with its signing secret
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// The peer id
    #[arg(long, value_name = "PEER")]
    pub sub: String,
    /// Channel patterns, by commas or repeated [default: those of the key]
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',')]
    pub channels: Option<Vec<String>>,
    /// publish, subscribe, presence, send [default: those of the key]
    #[arg(long, value_name = "ACTIONS", value_delimiter = ',')]
    pub permissions: Option<Vec<String>>,
    /// How long it is good for: 1h, 30m, 45s or seconds, at most 24h
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration_sec)]
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
        if !self.key_id.starts_with(SECRET_KEY_PREFIX) {
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
            key_id: &self.key_id,
            sub: &self.sub,
            issued_at_unix: now_unix,
            expires_at_unix: now_unix.saturating_add(self.expires),
            channels: channels.as_deref(),
            permissions: self.permissions()?,
            metadata: metadata.as_deref(),
            peer_metadata: peer_metadata.as_deref(),
        };
        let secret = Secret::new(&self.secret(environment)?);
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

    fn channels(&self) -> Result<Option<Vec<Pattern>>, Failure> {
        let parse = |text: &String| {
            Pattern::parse(text).map_err(|error| bad("channels", format_args!("{text:?}: {error}")))
        };
        self.channels
            .as_ref()
            .map(|texts| texts.iter().map(parse).collect())
            .transpose()
    }

    fn permissions(&self) -> Result<Option<Actions>, Failure> {
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

    fn secret(&self, environment: &Environment) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let secret = if let Some(secret) = &self.secret {
            secret.clone().into_bytes()
        } else if let Some(path) = &self.secret_file {
            fs::read(path).map_err(|cause| {
                let path = path.display();
                Failure::failed(format_args!(
                    "--secret-file: {path} cannot be read: {cause}"
                ))
            })?
        } else if let Some(secret) = environment.get(SECRET_VARIABLE) {
            secret.as_encoded_bytes().to_vec()
        } else {
            let text = format_args!(
                "the signing secret is missing; set {SECRET_VARIABLE}, or give \
                                     --secret-file or --secret"
            );
            return Err(Failure::usage(text));
        };
        let mut secret = Zeroizing::new(secret);
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
        Ok(secret)
    }
}

/// A value that is JSON; that it is an object, and not too long, is a rule of tokens.
fn raw_json(argument: &str, text: Option<&str>) -> Result<Option<Box<RawValue>>, Failure> {
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

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::{Cli, CliCommand, NoCommand, parse};

    const NOW_UNIX: u64 = 1_700_000_000;

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
            }) => args
                .mint(NOW_UNIX, &environment)
                .map_err(|error| error.to_string()),
            Ok(_) => panic!("another command"),
            Err(NoCommand::BadUsage(failure)) => Err(failure.to_string()),
            Err(NoCommand::Shown(text)) => panic!("{text}"),
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
        let error = minted(&["--channels", &channels], Some("secret")).unwrap_err();
        assert!(error.starts_with("the token would have 2"), "{error}");
        assert!(error.contains("no more than 22528 can connect"), "{error}");
        let fewer = vec!["c".repeat(203); 70].join(",");
        minted(&["--channels", &fewer], Some("secret")).unwrap();
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
        let token = minted(&["--secret", "s"], None).unwrap();
        let [header, payload] = opened(&token, b"s");
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
        let token = minted(&arguments, Some("from the environment\n")).unwrap();
        let [_, payload] = opened(&token, b"from the environment");
        assert_eq!(payload["channels"], json!(["room-*", "a/**", "b"]));
        assert_eq!(payload["permissions"], json!(["publish", "send"]));
        assert_eq!(payload["exp"], NOW_UNIX + 1_800);
        assert_eq!(payload["metadata"], json!({"z": 1, "a": 2}));
        assert_eq!(payload["peerMetadata"], json!({"n": "A"}));
    }

    #[test]
    fn an_argument_goes_before_the_environment() {
        let token = minted(&["--secret", "s"], Some("other")).unwrap();
        opened(&token, b"s");

        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        fs::write(&file, "in the file\r\n").unwrap();
        let path = file.to_str().unwrap();
        let token = minted(&["--secret-file", path], Some("other")).unwrap();
        opened(&token, b"in the file");

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
            let error = minted(arguments, Some("s")).unwrap_err();
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
        let error = run(&line, Some("s")).unwrap_err();
        assert!(error.starts_with("--key-id: only secret keys"), "{error}");
        let line = [
            "ringmesh", "token", "mint", "--key-id", "sk_id_a", "--sub", "é",
        ];
        let error = run(&line, Some("s")).unwrap_err();
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
}
