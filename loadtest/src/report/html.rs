//! TMP
use crate::report::result::ResultFile;
pub fn page(_: &ResultFile) -> String {
    String::new()
}
