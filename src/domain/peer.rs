//! A peer and a channel as they are named on the wire: each name kept once, in the form in
//! which it is written most often (JSON), and shared by everything that mentions it.

use std::sync::Arc;

use crate::domain::app_id::AppTag;

/// A string together with its JSON form; the second copy exists only where escaping changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonName {
    /// With quotes and escapes, ready to be copied into a message.
    json: Box<str>,
    /// The string itself where it is not `json` without its quotes.
    plain: Option<Box<str>>,
}

impl JsonName {
    /// Keeps a string together with its JSON form.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let needs_escape = name
            .bytes()
            .any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\');
        if needs_escape {
            let json = serde_json::Value::from(name).to_string();
            Self {
                json: json.into(),
                plain: Some(name.into()),
            }
        } else {
            let mut json = String::with_capacity(name.len() + 2);
            json.push('"');
            json.push_str(name);
            json.push('"');
            Self {
                json: json.into(),
                plain: None,
            }
        }
    }

    /// Returns the string, without quotes and escapes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.plain {
            Some(plain) => plain,
            None => self.json.get(1..self.json.len() - 1).unwrap_or_default(),
        }
    }

    /// Returns the string as JSON, with its quotes.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }
}

/// What others see of a connection: its peer's id and public metadata.
#[derive(Debug)]
pub struct PeerInfo {
    /// The id, which is unique within the app.
    pub id: JsonName,
    /// `peerMetadata` as it stood in the token: a JSON object.
    pub metadata: Option<Box<str>>,
}

/// A channel of an app, with the hash that decides its owner shard and its place in tables.
#[derive(Debug)]
pub struct ChannelKey {
    /// The app whose channel it is: the same name in two apps is two channels.
    pub app: AppTag,
    /// Hash of app and name, the same wherever the placement has the same keys.
    pub hash: u64,
    /// The name, as it is told to members.
    pub name: JsonName,
}

/// A shared [`PeerInfo`]: names travel between shards by reference.
pub type SharedPeer = Arc<PeerInfo>;
/// A shared [`ChannelKey`].
pub type SharedChannel = Arc<ChannelKey>;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str) {
        let both = JsonName::new(name);
        assert_eq!(both.as_str(), name);
        assert_eq!(
            serde_json::from_str::<String>(both.json()).ok().as_deref(),
            Some(name)
        );
    }

    #[test]
    fn both_forms_of_a_name_agree() {
        check("room-42");
        check("a\"b\\c");
        check("tab\tand\u{1}");
        check("größe/✓");
        check("");
    }
}
