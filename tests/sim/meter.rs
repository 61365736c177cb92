//! What has occurred: a simulation in which something never happens says nothing about it.

use std::collections::BTreeMap;

use ringmesh::shard::input::Input;
use ringmesh::shard::mesh_message::MeshMessage;

/// What must occur at least once over the seeds of a run.
pub(crate) const EXPECTED: &[(&str, &[&str])] = &[
    (
        "input",
        &[
            "Accepted",
            "MakeRoom",
            "Proxied",
            "Handshake",
            "Received",
            "Ask",
            "Ended",
            "Unreachable",
            "Closed",
            "Mesh",
            "Link",
            "Lost",
            "Memory",
            "Quiet",
            "Rights",
            "Settings",
            "ShutdownAnnounced",
            "Drain",
            "EndIdle",
            "Freeze",
            "Thaw",
            "Usage",
            "Time",
            "EndOfTurn",
        ],
    ),
    (
        "mesh",
        &[
            "Join",
            "Leave",
            "Publish",
            "Joined",
            "Left",
            "Published",
            "Deliver",
            "Announce",
            "Announced",
            "Register",
            "Registered",
            "Unregister",
            "Send",
            "Direct",
            "DirectResult",
            "Scope",
            "ScopeResult",
            "ListPeers",
            "Kick",
            "KickHere",
            "Kicked",
            "Reach",
            "Reached",
            "RestResult",
            "Throttle",
            "Lag",
            "Hold",
        ],
    ),
    (
        "deadline",
        &[
            "Usage",
            "Snapshots",
            "Announcements",
            "Barriers",
            "Lags",
            "Events",
            "Walks",
            "Questions",
            "Connections",
            "Unread",
            "Drain",
            "Expiry",
            "Request",
            "End",
            "Ping",
            "Pong",
        ],
    ),
    (
        "look",
        &[
            "Channels",
            "Channel",
            "Members",
            "Connections",
            "Networks",
            "Peers",
            "Peer",
            "Busy",
        ],
    ),
    (
        "close",
        &[
            "1000", "1001", "1002", "1003", "1007", "1009", "1013", "4001", "4002", "4010", "4011",
            "4012", "4020",
        ],
    ),
    (
        "error",
        &[
            "malformed_message",
            "unknown_type",
            "invalid_channel",
            "invalid_peer_id",
            "channel_reserved",
            "missing_data",
            "action_not_permitted",
            "invalid_token",
            "peer_mismatch",
            "channel_not_authorized",
            "channel_limit_exceeded",
            "over_message_quota",
            "peer_not_found",
            "backend_error",
        ],
    ),
    ("frozen", &["thawed", "given up", "swapped"]),
    ("refresh", &["taken", "ended", "shown"]),
    (
        "status",
        &[
            "101", "200", "400", "401", "403", "404", "405", "408", "413", "415", "417", "426",
            "429", "431", "503",
        ],
    ),
    (
        "rest",
        &[
            "unauthorized",
            "not_found",
            "invalid_request",
            "channel_reserved",
            "channel_not_authorized",
            "action_not_permitted",
            "rate_limited",
            "over_message_quota",
            "internal_error",
        ],
    ),
];

/// What no run can show, and why.
pub(crate) const ABSENT: &[(&str, &str)] = &[(
    "error internal_error",
    "it stands for a session that is gone while its own message is handled",
)];

/// How often each thing has occurred, by kind and name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(BTreeMap<&'static str, BTreeMap<String, u64>>);

impl Meter {
    pub(crate) fn note(&mut self, kind: &'static str, name: &str) {
        self.add(kind, name, 1);
    }

    pub(crate) fn add(&mut self, kind: &'static str, name: &str, count: u64) {
        let names = self.0.entry(kind).or_default();
        match names.get_mut(name) {
            Some(known) => *known += count,
            None => {
                names.insert(name.to_owned(), count);
            }
        }
    }

    pub(crate) fn join(&mut self, other: &Self) {
        for (kind, names) in &other.0 {
            for (name, count) in names {
                self.add(kind, name, *count);
            }
        }
    }

    pub(crate) fn count(&self, kind: &str, name: &str) -> u64 {
        let names = self.0.get(kind);
        names
            .and_then(|names| names.get(name))
            .copied()
            .unwrap_or(0)
    }

    /// The table, and what is missing in it.
    pub(crate) fn table(&self) -> (String, Vec<String>) {
        let (mut table, mut missing) = (String::new(), Vec::new());
        for (kind, names) in EXPECTED {
            for name in *names {
                let count = self.count(kind, name);
                table += &format!("{kind:<9} {name:<24} {count:>12}\n");
                if count == 0 {
                    missing.push(format!("{kind} {name}"));
                }
            }
        }
        for (kind, names) in &self.0 {
            let expected = EXPECTED.iter().find(|(known, _)| known == kind);
            for (name, count) in names.iter().filter(|(_, count)| **count > 0) {
                let known = expected.is_some_and(|(_, it)| it.contains(&name.as_str()));
                let absent = ABSENT.iter().any(|(it, _)| *it == format!("{kind} {name}"));
                if !known {
                    table += &format!("{kind:<9} {name:<24} {count:>12} not expected\n");
                    assert!(!absent, "it occurs: {kind} {name}");
                }
            }
        }
        for (name, why) in ABSENT {
            table += &format!("{name:<34} {:>12} {why}\n", "-");
        }
        (table, missing)
    }
}

pub(crate) fn input_name(input: &Input<'_>) -> &'static str {
    match input {
        Input::Accepted { .. } => "Accepted",
        Input::MakeRoom => "MakeRoom",
        Input::Proxied { .. } => "Proxied",
        Input::Handshake { .. } => "Handshake",
        Input::Received { .. } => "Received",
        Input::Ended { .. } => "Ended",
        Input::Unreachable { .. } => "Unreachable",
        Input::Closed { .. } => "Closed",
        Input::Mesh { .. } => "Mesh",
        Input::Link { .. } => "Link",
        Input::Lost { .. } => "Lost",
        Input::Memory { .. } => "Memory",
        Input::Quiet => "Quiet",
        Input::Rights(_) => "Rights",
        Input::Settings(_) => "Settings",
        Input::ShutdownAnnounced => "ShutdownAnnounced",
        Input::Drain { .. } => "Drain",
        Input::Ask { .. } => "Ask",
        Input::EndIdle => "EndIdle",
        Input::Freeze => "Freeze",
        Input::Thaw => "Thaw",
        Input::Usage => "Usage",
        Input::Time => "Time",
        Input::Stored { .. } => "Stored",
        Input::EndOfTurn => "EndOfTurn",
    }
}

pub(crate) fn mesh_name(message: &MeshMessage) -> &'static str {
    match message {
        MeshMessage::Join(_) => "Join",
        MeshMessage::Leave(_) => "Leave",
        MeshMessage::Publish(_) => "Publish",
        MeshMessage::Joined(_) => "Joined",
        MeshMessage::Left(_) => "Left",
        MeshMessage::Published(_) => "Published",
        MeshMessage::Placed(_) => "Placed",
        MeshMessage::Unstored { .. } => "Unstored",
        MeshMessage::Deliver(_) => "Deliver",
        MeshMessage::Announce(_) => "Announce",
        MeshMessage::Announced(_) => "Announced",
        MeshMessage::Register(_) => "Register",
        MeshMessage::Registered { .. } => "Registered",
        MeshMessage::Unregister(_) => "Unregister",
        MeshMessage::Send(_) => "Send",
        MeshMessage::Direct(_) => "Direct",
        MeshMessage::DirectResult(_) => "DirectResult",
        MeshMessage::Scope(_) => "Scope",
        MeshMessage::ScopeResult(_) => "ScopeResult",
        MeshMessage::ListPeers(_) => "ListPeers",
        MeshMessage::HistoryPage(_) => "HistoryPage",
        MeshMessage::ForgetHistory(_) => "ForgetHistory",
        MeshMessage::Kick(_) => "Kick",
        MeshMessage::KickHere(_) => "KickHere",
        MeshMessage::Kicked(_) => "Kicked",
        MeshMessage::Reach { .. } => "Reach",
        MeshMessage::Reached { .. } => "Reached",
        MeshMessage::RestResult(_) => "RestResult",
        MeshMessage::Lag(_) => "Lag",
        MeshMessage::Hold(_) => "Hold",
        MeshMessage::Throttle { .. } => "Throttle",
    }
}
