//! Files that the server needs: who may read them, and whether they fit each other.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::certificate;
use crate::bounded_file::{self, SECRET_BYTES_MAX};
use crate::cli::Findings;
use crate::config::Config;
use crate::control::{master_key_fault, store_content, store_file};

/// Permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;
/// Bytes of an admin token that is hard to guess.
const TOKEN_BYTES_GOOD: usize = 16;

/// Looks at certificate, data directory, token and secrets. `now_unix` is in seconds since 1970.
pub(super) fn look(config: &Config, now_unix: u64, findings: &mut Findings) {
    if let Some(tls) = &config.tls {
        certificate::look(tls, now_unix, findings);
        certificate::public_url(config, tls, findings);
        private("certificate", &tls.key, findings);
    }
    data_dir(&config.store.data_dir, findings);
    let master_key = &config.store.master_key_file;
    if private("master key", master_key, findings)
        && let Some(fault) = master_key_fault(master_key)
    {
        findings.fail("master key", fault);
    }
    let token_file = &config.admin.token_file;
    if private("admin token", token_file, findings) {
        match bounded_file::read(token_file, SECRET_BYTES_MAX) {
            Ok(token) if token.trim_ascii().is_empty() => findings.fail(
                "admin token",
                format!(
                    "{}: it is empty; remove it to have one made",
                    token_file.display()
                ),
            ),
            Ok(token) if token.trim_ascii().len() < TOKEN_BYTES_GOOD => findings.warn(
                "admin token",
                format!(
                    "{}: it is short, and so easy to guess; remove it to have a better one made",
                    token_file.display()
                ),
            ),
            Ok(_) => {}
            Err(error) => {
                findings.fail("admin token", format!("{}: {error}", token_file.display()));
            }
        }
    }
}

fn data_dir(path: &Path, findings: &mut Findings) {
    let shown = path.display();
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            findings.warn(
                "data directory",
                format!("{shown}: the first start makes it"),
            );
        }
        Err(error) => findings.fail("data directory", format!("{shown}: {error}")),
        Ok(metadata) if !metadata.is_dir() => {
            let text = format!("{shown}: it is no directory; set store.data_dir to another path");
            findings.fail("data directory", text);
        }
        Ok(metadata) if metadata.permissions().mode() & 0o002 != 0 => findings.fail(
            "data directory",
            format!("{shown}: everybody may write there; choose a directory of its own"),
        ),
        Ok(metadata) if metadata.permissions().mode() & OTHERS != 0 => findings.warn(
            "data directory",
            format!("{shown}: it is open to others; run chmod 700 {shown}"),
        ),
        Ok(_) => findings.ok("data directory", format!("{shown}: its owner's only")),
    }
}

/// Whether a file of secrets is there, and its owner's only. One that is not there is made.
fn private(check: &'static str, path: &Path, findings: &mut Findings) -> bool {
    let shown = path.display();
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
        Err(error) => {
            findings.fail(check, format!("{shown}: {error}"));
            return false;
        }
        Ok(metadata) if metadata.permissions().mode() & OTHERS != 0 => {
            let text = format!("{shown}: others may read it; run chmod 600 {shown}");
            findings.warn(check, text);
        }
        Ok(_) => findings.ok(check, format!("{shown}: its owner's only")),
    }
    true
}

/// Looks into a copy of the store, unless a server has it open.
pub(super) fn store(config: &Config, is_open: bool, findings: &mut Findings) {
    let (data_dir, key) = (&config.store.data_dir, &config.store.master_key_file);
    if is_open {
        return findings.ok("store", "a running server has it open");
    }
    if fs::metadata(key).is_ok_and(|it| it.permissions().mode() & OTHERS != 0) {
        // Reading it as a server does would narrow its mode, and nothing is changed here.
        return;
    }
    if !store_file(data_dir).exists() && config.apps.is_empty() {
        let text = "there is no app and no key yet, so nobody can connect; start the server, then \
                    run ringmesh app create and ringmesh key create --type publishable";
        return findings.warn("store", text);
    }
    let scratch = std::env::temp_dir().join(format!("ringmesh-check-{}", std::process::id()));
    let content = store_content(data_dir, key, &scratch);
    // What was copied is nobody's any more.
    let _ = fs::remove_dir_all(&scratch);
    match content {
        Err(error) => findings.fail("store", error.to_string()),
        Ok(None) => {}
        Ok(Some(content)) => {
            // What is no key at all has been told.
            let is_told = key.exists() && master_key_fault(key).is_some();
            if let Some(fault) = content.master_key_fault.filter(|_| !is_told) {
                findings.fail("master key", fault);
            }
            for app in &config.apps {
                if content.apps.contains(&app.record.app_id) {
                    let text = format!(
                        "app {:?} is declared, and in the store too; remove one of them",
                        app.record.app_id
                    );
                    findings.fail("store", text);
                }
            }
            let (apps, keys) = (content.apps.len(), content.keys);
            findings.ok("store", format!("{apps} apps and {keys} keys"));
        }
    }
}
