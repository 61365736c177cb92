//! A file for `serve` in which only what differs from the defaults is set: the example, with the
//! rest as comments.

/// Every key at its default, with what it means.
const EXAMPLE: &str = include_str!("example.toml");
/// What such a file begins with.
const HEAD: &str = "\
# The configuration of ringmesh, made by `ringmesh init`. What has no # is set; the rest shows the
# defaults. `ringmesh check` says what is wrong with it, and `ringmesh reload` has a running server
# read it again. Paths are relative to this file, sizes are in bytes. A variable of the environment
# goes first: RINGMESH_SERVER__LISTEN for `listen` in [server].

";

/// Returns the file with these values, each a section, a key of it and a TOML value.
pub(crate) fn template(values: &[(&str, &str, String)]) -> String {
    let mut text = HEAD.to_owned();
    let mut section = "";
    for line in EXAMPLE.lines().skip_while(|line| !line.starts_with('[')) {
        let bare = line.strip_prefix('#').unwrap_or(line);
        if let Some(name) = bare.strip_prefix('[') {
            section = name.trim_matches(['[', ']']);
            let is_set = values.iter().any(|(of, ..)| *of == section);
            text += if is_set { bare } else { line };
        } else {
            text += &key_line(line, bare, section, values);
        }
        text.push('\n');
    }
    text
}

/// A line that may have a key in it: set, or as a comment.
fn key_line(line: &str, bare: &str, section: &str, values: &[(&str, &str, String)]) -> String {
    let key = bare.split(" = ").next().unwrap_or_default();
    let is_key =
        bare.contains(" = ") && key.bytes().all(|it| it.is_ascii_lowercase() || it == b'_');
    if !is_key {
        return line.to_owned();
    }
    let mut values = values.iter();
    match values.find(|(of, name, _)| *of == section && *name == key) {
        Some((_, _, value)) => format!("{key} = {value}"),
        None => format!("#{bare}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Environment};

    fn origins(values: &[(&str, &str, String)]) -> Vec<(String, String)> {
        let text = template(values);
        let path = Path::new("r.toml");
        let config = Config::from_text(path, &text, &Environment::default());
        let config = config.unwrap_or_else(|error| panic!("{error}\n{text}"));
        let set = config.settings.into_iter();
        let set = set.filter(|setting| setting.origin != "default");
        set.map(|setting| (setting.key, setting.value)).collect()
    }

    #[test]
    fn nothing_is_set_but_what_was_asked_for() {
        assert_eq!(origins(&[]), []);
        let values = [
            ("store", "data_dir", "\"d\"".to_owned()),
            ("server", "listen", "[\"127.0.0.1:1\"]".to_owned()),
        ];
        let expected = [
            ("server.listen", "[\"127.0.0.1:1\"]"),
            ("store.data_dir", "\"d\""),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(origins(&values), expected);
        let values = ["cert", "key"].map(|key| ("tls", key, format!("\"{key}.pem\"")));
        assert_eq!(origins(&values).len(), 2);
    }
}
