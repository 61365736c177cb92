//! `ringmesh version`: which build this is.

use serde_json::json;

use super::terminal::Terminal;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit; a build that is no release does not know it, as it would have to be built again
/// with each commit.
const COMMIT: Option<&str> = option_env!("RINGMESH_BUILD_COMMIT");
/// The day of the commit.
const DATE: Option<&str> = option_env!("RINGMESH_BUILD_DATE");
const TARGET: &str = env!("RINGMESH_BUILD_TARGET");

/// Returns what to print.
pub(crate) fn text(terminal: &Terminal) -> String {
    if terminal.json {
        let version = json!({
            "version": VERSION, "commit": COMMIT, "date": DATE, "target": TARGET,
        });
        return format!("{version:#}\n");
    }
    let commit = match (COMMIT, DATE) {
        (Some(commit), Some(date)) => format!("{commit} of {date}"),
        (Some(commit), None) => commit.to_owned(),
        (None, _) => "not known to this build".to_owned(),
    };
    format!("ringmesh {VERSION}\ncommit {commit}\ntarget {TARGET}\n")
}
