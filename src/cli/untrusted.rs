//! A server's certificate that is not trusted: what is wrong with it, and what to do, in place of
//! the TLS library's names.

use std::path::Path;

/// Returns why the certificate of the server at `base` is not trusted, and what to do. `error` is
/// the library's; `ca` is the file with whom is trusted, if it is not the system that says so, and
/// `naming` how another name is given.
pub(super) fn untrusted(base: &str, error: &str, (ca, naming): (Option<&Path>, &str)) -> String {
    let has = |name: &str| error.contains(name);
    let signer = match ca {
        Some(file) => format!(
            "none of the certificates in {} has signed it; name the file with the one that did \
             with --ca",
            file.display()
        ),
        None => "nobody whom this system trusts has signed it; name the file with the one that \
                 signed it with --ca"
            .to_owned(),
    };
    let why = if has("CaUsedAsEndEntity") {
        "it is marked as that of a CA, as self-signed ones mostly are, and no server may show such \
         a one as its own; make another one with basicConstraints=CA:FALSE (openssl req -x509 … \
         -addext basicConstraints=critical,CA:FALSE), or have a CA of yours sign one, and name its \
         file with --ca"
            .to_owned()
    } else if has("UnknownIssuer")
        || has("BadSignature")
        || has("UnsupportedSignatureAlgorithmForPublicKey")
    {
        // The last two: somebody of that name is known, and has another key.
        signer
    } else if has("not valid for name") || has("NotValidForName") {
        format!(
            "{}; give a name that it is for with {naming}",
            of_library(error)
        )
    } else if has("expired") || has("not valid yet") {
        format!(
            "{}; renew it, or set this machine's clock",
            of_library(error)
        )
    } else if has("extended key usage") {
        "it is not for servers; make another one with extendedKeyUsage=serverAuth, or without any"
            .to_owned()
    } else if has("UnsupportedCertVersion") {
        "it is of an old version of X.509; make one of version 3, with subjectAltName".to_owned()
    } else {
        format!(
            "{}; make another one, or name the file with the one that signed it with --ca",
            of_library(error)
        )
    };
    format!("the certificate of {base} is not trusted: {why}")
}

/// What the library says, without where it says so.
fn of_library(error: &str) -> &str {
    const LEAD: &str = "invalid peer certificate: ";
    error.split_once(LEAD).map_or(error, |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_in_words_and_what_to_do() {
        let file = Some(Path::new("ca.pem"));
        for (error, ca, parts) in [
            (
                "Other(OtherError(CaUsedAsEndEntity))",
                file,
                [
                    "marked as that of a CA",
                    "basicConstraints=critical,CA:FALSE",
                ],
            ),
            (
                "UnknownIssuer",
                file,
                ["certificates in ca.pem has signed", "with --ca"],
            ),
            (
                "BadSignature",
                file,
                ["certificates in ca.pem has signed", "with --ca"],
            ),
            (
                "UnknownIssuer",
                None,
                ["whom this system trusts", "with --ca"],
            ),
            (
                "certificate not valid for name \"a\"; certificate is only valid for b",
                file,
                ["only valid for b", "it is for with --url"],
            ),
            (
                "certificate expired: at 3",
                None,
                ["expired: at 3", "renew it"],
            ),
            (
                "certificate does not allow extended key usage for server authentication",
                None,
                ["not for servers", "extendedKeyUsage=serverAuth"],
            ),
            ("BadEncoding", None, [": BadEncoding; ", "make another one"]),
        ] {
            let error = format!("IO error: invalid peer certificate: {error}");
            let text = untrusted("wss://a", &error, (ca, "--url"));
            let start = "the certificate of wss://a is not trusted: ";
            assert!(text.starts_with(start), "{text}");
            for part in parts {
                assert!(text.contains(part), "{part:?} is not in {text}");
            }
            assert!(!text.contains("invalid peer certificate"), "{text}");
        }
    }
}
