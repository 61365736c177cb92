//! What `ringmesh version` tells of a build: the target and, of a release, the commit.
//!
//! A build for development does not ask for the commit: everything would be compiled again with
//! each one. Whoever builds from an archive without a repository sets `RINGMESH_BUILD_COMMIT` and
//! `RINGMESH_BUILD_DATE`.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/build.rs");
    println!("cargo::rerun-if-env-changed=RINGMESH_BUILD_COMMIT");
    println!("cargo::rerun-if-env-changed=RINGMESH_BUILD_DATE");
    let target = env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=RINGMESH_BUILD_TARGET={target}");
    if env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    // The file that each commit and each switch of branches appends to.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    for (name, format) in [
        ("RINGMESH_BUILD_COMMIT", "--format=%h"),
        ("RINGMESH_BUILD_DATE", "--format=%cs"),
    ] {
        if env::var_os(name).is_none()
            && let Some(value) = git(&["log", "-1", format])
        {
            println!("cargo::rustc-env={name}={value}");
        }
    }
}

/// What a git command prints on one line, if there is a repository and a git.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
