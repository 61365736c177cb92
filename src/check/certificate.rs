//! The certificate: whether it belongs to its key, and how long it is good.

use crate::cli::{Findings, Level};
use crate::config::{Config, TlsConfig};
use crate::tls::{CertificateFiles, Validity, covers};

/// Days before its end at which somebody should look: whatever renews it should have by then.
const DAYS_LEFT_GOOD: i64 = 14;
const DAY_SECONDS: i64 = 86_400;

/// Looks at certificate and key. `now_unix` is in seconds since 1970.
pub(crate) fn look(tls: &TlsConfig, now_unix: u64, findings: &mut Findings) {
    let (cert, key) = (tls.cert.display(), tls.key.display());
    match CertificateFiles::open(&tls.cert, &tls.key) {
        Ok(_) => findings.ok("certificate", format!("{cert} and {key} belong together")),
        Err(error) => return findings.fail("certificate", error.to_string()),
    }
    let Ok(validity) = Validity::of_file(&tls.cert) else {
        return;
    };
    let now = i64::try_from(now_unix).unwrap_or(i64::MAX);
    let days = (validity.not_after_unix - now).div_euclid(DAY_SECONDS);
    let (level, measured) = if now >= validity.not_after_unix {
        (Level::Fail, format!("it ended {} days ago", -days - 1))
    } else if now < validity.not_before_unix {
        (Level::Fail, "it is not good yet".to_owned())
    } else if days < DAYS_LEFT_GOOD {
        (Level::Warn, format!("it ends in {days} days"))
    } else {
        (Level::Ok, format!("it is good for {days} days"))
    };
    let names = match validity.names.len() {
        0 => "it names nobody".to_owned(),
        _ => format!("it is for {}", validity.names.join(", ")),
    };
    let remedy = "renew it: the server takes it up by itself (certificates in tuning/README.md)";
    findings.measured(level, "certificate-time", measured, names, remedy);
}

/// Whether clients that connect to where they are told find the certificate of that name.
pub(super) fn public_url(config: &Config, tls: &TlsConfig, findings: &mut Findings) {
    let Some(url) = &config.server.public_url else {
        return;
    };
    if !url.is_tls() {
        // Beside listeners with TLS there are others.
        if tls.listen.is_none() {
            let text = format!(
                "server.public_url: {} is without TLS, and the listeners speak it; write wss://",
                url.clients()
            );
            findings.fail("certificate", text);
        }
        return;
    }
    let (cert, host) = (tls.cert.display(), url.host());
    match covers(&tls.cert, host) {
        Ok(true) => findings.ok(
            "certificate",
            format!("it is for {host}, where clients connect"),
        ),
        Ok(false) => findings.fail(
            "certificate",
            format!(
                "{cert}: it is not for {host}, the host of server.public_url; get one that is, or \
                 correct the URL"
            ),
        ),
        // A file that cannot be read has been told.
        Err(_) => {}
    }
}
