//! What the running server does not know yet of the file.

use serde_json::Value;

use crate::cli::{Findings, Level, Session, live_settings};
use crate::config::{Config, needs_restart};
use crate::run_file::Live;

/// Compares the configuration with what holds in the server that runs with it.
pub(super) fn compare(config: &Config, live: &Live, session: &Session, findings: &mut Findings) {
    let run = &live.run;
    let own = config.file.as_deref().map(std::path::absolute);
    let own = own.and_then(Result::ok);
    if run.config_file != own {
        let other = run.config_file.as_deref();
        let other = other.map_or("none".to_owned(), |path| path.display().to_string());
        let text = format!(
            "a server with another configuration ({other}) has this data directory, pid {}",
            run.pid
        );
        return findings.warn("server", text);
    }
    let settings = match live_settings(live, session) {
        Ok(settings) => settings,
        Err(failure) => return findings.warn("server", failure.message),
    };
    let mut differs = false;
    for setting in &config.settings {
        let is_it = |other: &&Value| other["key"] == setting.key.as_str();
        let Some(held) = settings.iter().find(is_it) else {
            continue;
        };
        // A default may depend on how the file was named.
        let are_defaults = setting.origin == "default" && held["origin"] == "default";
        if are_defaults || held["value"] == setting.value.as_str() {
            continue;
        }
        differs = true;
        let remedy = match needs_restart(&setting.key) {
            true => "restart it",
            false => "run ringmesh reload",
        };
        let text = format!(
            "{}: the running server has {}; {remedy}",
            setting.key,
            held["value"].as_str().unwrap_or_default()
        );
        let place = Some(setting.origin.clone()).filter(|origin| origin != "default");
        findings.add(Level::Warn, "server", place, text);
    }
    if !differs {
        let text = format!("pid {} runs with these settings", run.pid);
        findings.ok("server", text);
    }
}
