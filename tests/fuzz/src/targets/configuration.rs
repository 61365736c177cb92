//! Configuration files: any text is a configuration, or is refused in one line that names the file.

use ringmesh::fuzzing::read_configuration;

pub(crate) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // A secret may stand in a file of its own. Devices never end, and pipes may wait.
    if text.contains("/dev") || text.contains("/proc") {
        return;
    }
    match read_configuration(&text) {
        Ok(config) => {
            assert_eq!(read_configuration(&text), Ok(config), "another one");
            // A comment behind it changes nothing. Before it may stand a mark of byte order only.
            let commented = format!("{text}\n# last\n");
            assert!(
                read_configuration(&commented).is_ok(),
                "refused with a comment"
            );
        }
        Err(line) => {
            assert!(!line.contains('\n'), "more than a line: {line}");
            assert!(line.starts_with("ringmesh.toml"), "names no file: {line}");
            assert!(line.len() < 2_000, "too long to read: {} bytes", line.len());
        }
    }
}
