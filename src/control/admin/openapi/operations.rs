//! What the manual does not say of an operation in a way for machines: a row for each.

use serde_json::{Value, json};

/// Method and path without the base, id, summary, the schema of the body, and of the good answer
/// with its status. `-`: no body.
const OPERATIONS: &str = "
GET apps | listApps | List apps | - | 200 Apps
POST apps | createApp | Create an app | AppFields | 201 App
GET apps/{appId} | showApp | Show an app | - | 200 App
PATCH apps/{appId} | changeApp | Change an app | AppFields | 200 App
DELETE apps/{appId} | deleteApp | Delete an app | - | 200 App
GET apps/{appId}/keys | listKeys | List keys of an app | - | 200 Keys
POST apps/{appId}/keys | createKey | Create a key | NewKey | 201 Key
GET apps/{appId}/channels | listChannels | List channels | - | 200 Channels
GET apps/{appId}/channel | showChannel | Show a channel | - | 200 Channel
GET apps/{appId}/channel/members | listMembers | List members of a channel | - | 200 Members
GET apps/{appId}/connections | listConnections | List or count connections | - | 200 Connections
GET apps/{appId}/peers | listPeers | List peers | - | 200 Peers
GET apps/{appId}/peer | showPeer | Show a peer | - | 200 Peer
GET apps/{appId}/feed | followFeed | Who came and went | - | 200 Feed
GET apps/{appId}/usage | readUsage | Usage of an app | - | 200 Usage
DELETE apps/{appId}/peer | kickPeer | Disconnect a peer | - | 200 Closed
DELETE apps/{appId}/connection | kickConnection | Disconnect one connection | - | 200 Closed
GET apps/{appId}/channel/history | readHistory | What a channel keeps | - | 200 History
DELETE apps/{appId}/channel/history | forgetHistory | Forget what it keeps | - | 200 Forgotten
GET signalling/keys/{keyId} | showKey | Show a key | - | 200 Key
PATCH signalling/keys/{keyId} | changeKey | Change a key | KeyFields | 200 Key
DELETE signalling/keys/{keyId} | revokeKey | Revoke a key | - | 200 Key
POST signalling/keys/{keyId}/rotate | rotateKey | New secrets for a key | Rotation | 200 Key
POST signalling/keys/{keyId}/tokens | mintToken | Sign a connect token | MintToken | 200 Token
POST tokens/inspect | inspectToken | Judge a connect token | Inspection | 200 Verdict
GET config | showConfig | The configuration, with origins | - | 200 Settings
POST reload | reload | Read the configuration again | - | 200 Reloaded
POST upgrade | upgrade | Hand over to a new process | - | 200 Upgraded
POST trace | trace | Record somebody's messages | Trace | 200 Traced
GET events | listEvents | Events, or a stream of them | - | 200 Events
GET why | tellWhy | Why a peer is not there | - | 200 Stories
POST session | beginSession | Begin a session of a browser | SignIn | 201 Session
GET session | showSession | Who is asking | - | 200 Caller
DELETE session | endSession | End the session, or all | - | 200 Ended
POST session/code | makeCode | Make a code that signs in once | - | 201 Code
GET backup | takeBackup | A copy of the store | - | 200 Backup
GET warnings | listWarnings | What somebody should look at | - | 200 Warnings
GET node | showNode | Which build this is, and where | - | 200 Node
GET stats | readStats | This process, live | - | 200 Stats
GET stats/history | readSamples | The last 15 minutes of the same | - | 200 Samples
GET /healthz | health | Whether the process runs | - | 200 Text
GET /readyz | readiness | Whether it serves | - | 200 Text
GET /metrics | metrics | Metrics for Prometheus | - | 200 Text
";

/// Parameters of the query, and what they mean.
const PARAMETERS: &str = "
include | `usage` adds what each app uses.
match | A channel pattern: `*` is any run of characters without `/`, `**` with it.
sort | What comes first. Sorted by a number a list has no second page.
limit | So many rows at most.
after | What comes behind this one: the `next` or `cursor` of the answer before.
before | What comes before this cursor or event.
name | The channel.
id | The peer, or the connection.
app | The app; without it all are looked at.
peer | The peer; of events also a pattern.
connection | The connection, as `2.1041.7`.
channel | The channel, or a pattern.
key | The id of a key.
address | An address, or a block such as `10.0.0.0/8`.
group | `address` counts by where connections come from.
kind | Kinds of events, by commas; a leading `-` excludes.
cause | Causes, by commas; a leading `-` excludes.
code | Close codes, HTTP statuses or error codes, by commas; a leading `-` excludes.
since | `10m` ago, RFC 3339, or Unix seconds.
until | The same, for the end.
order | Whether the oldest or the newest come first.
waitMs | For how long the answer waits while there is nothing to tell.
seconds | How far back.
all | Every session, not only the caller's.
";

/// Which parameters an operation has; with `!` it needs one.
const QUERIES: &str = "
GET apps: include limit after
GET apps/{appId}/channels: match sort limit after
GET apps/{appId}/channel: name!
GET apps/{appId}/channel/members: name! match limit after
GET apps/{appId}/channel/history: name! since limit order
DELETE apps/{appId}/channel/history: name!
GET apps/{appId}/connections: match address key sort group limit
GET apps/{appId}/peers: match limit after
GET apps/{appId}/peer: id!
GET apps/{appId}/feed: after limit waitMs
DELETE apps/{appId}/peer: id!
DELETE apps/{appId}/connection: id! peer
GET events: app peer connection channel key address kind cause code since until limit after before
GET why: app peer! since
GET stats/history: seconds
DELETE session: all
";

/// An operation, for machines.
pub(super) struct Detail {
    /// Method and path, without the base where that begins it.
    pub at: &'static str,
    pub id: &'static str,
    pub summary: &'static str,
    /// The schema of its body.
    pub body: Option<&'static str>,
    /// Its good answer: status and schema.
    pub answer: (&'static str, &'static str),
}

/// All operations that have a row.
pub(super) fn details() -> impl Iterator<Item = Detail> {
    rows(OPERATIONS).filter_map(|row| {
        let mut cells = row.split('|').map(str::trim);
        let mut next = || cells.next();
        let (at, id, summary, body) = (next()?, next()?, next()?, next()?);
        Some(Detail {
            at,
            id,
            summary,
            body: Some(body).filter(|it| *it != "-"),
            answer: next()?.split_once(' ')?,
        })
    })
}

/// The operations that have parameters, each with these.
pub(super) fn queries() -> impl Iterator<Item = (&'static str, &'static str)> {
    rows(QUERIES).filter_map(|row| row.split_once(": "))
}

/// The parameters of the query of an operation.
pub(super) fn query(at: &str) -> Vec<Value> {
    let names = queries().find(|(it, _)| *it == at);
    let names = names.into_iter().flat_map(|(_, names)| names.split(' '));
    names.map(|name| parameter(at, name)).collect()
}

fn parameter(at: &str, name: &str) -> Value {
    let (name, is_required) = match name.strip_suffix('!') {
        Some(name) => (name, true),
        None => (name, false),
    };
    let mut described = rows(PARAMETERS).filter_map(|row| row.split_once('|'));
    let described = described.find(|(it, _)| it.trim() == name);
    json!({
        "name": name, "in": "query", "required": is_required, "schema": schema_of(at, name),
        "description": described.map_or("", |(_, text)| text.trim()),
    })
}

fn schema_of(at: &str, name: &str) -> Value {
    let number = |minimum: u32, maximum: u32, default: u32| {
        json!({
            "type": "integer", "minimum": minimum, "maximum": maximum, "default": default,
        })
    };
    match name {
        "limit" if at == "GET events" || at.ends_with("/history") => number(1, 1_000, 100),
        "limit" if at.ends_with("/feed") => number(1, 1_000, 500),
        // Without it there are no pages.
        "limit" if at == "GET apps" => json!({"type": "integer", "minimum": 1, "maximum": 200}),
        "limit" => number(1, 200, 50),
        "seconds" => number(1, 900, 900),
        "waitMs" => number(0, 25_000, 25_000),
        "order" => one_of(&["asc", "desc"]),
        "sort" if at.ends_with("/channels") => one_of(&["name", "connections", "rate"]),
        "sort" => one_of(&["newest", "oldest", "queue", "bytesOut", "messagesIn"]),
        "group" => one_of(&["address"]),
        "include" => one_of(&["usage"]),
        "all" => one_of(&["true"]),
        _ => json!({"type": "string"}),
    }
}

fn one_of(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

fn rows(table: &'static str) -> impl Iterator<Item = &'static str> {
    table.lines().filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_read_and_every_parameter_is_described() {
        assert_eq!(details().count(), rows(OPERATIONS).count());
        assert_eq!(queries().count(), rows(QUERIES).count());
        for (at, _) in queries() {
            for parameter in query(at) {
                assert_ne!(parameter["description"], "", "{at}: {parameter}");
            }
        }
        assert_eq!(query("GET why")[1]["required"], true);
    }
}
