//! Who is in which channels, and what everybody must know of them in the end.
//!
//! A client is in [`CHANNELS`] channels of about [`MEMBERS`] members. One who stays is in one of
//! these, and in a channel of its own pair.

use crate::abuse::rosters::{Digest, Rosters};
use crate::abuse::rows::{subscribe, text_frame};

/// Channels of a client.
pub(in crate::abuse) const CHANNELS: usize = 10;
/// Clients of a channel.
const MEMBERS: usize = 90;
/// Bytes of a presence frame of one peer, at most: whoever comes back hears of each member at most
/// so often that all of these frames are enough.
const PRESENCE_BYTES: usize = 96;

/// See the top of this file.
pub(in crate::abuse) struct Town {
    /// Clients that drop and come back.
    pub clients: usize,
    /// Those that stay.
    pub stayers: usize,
    channels: usize,
    /// All members of each channel.
    members: Vec<Digest>,
}

impl Town {
    /// So many of both.
    pub(in crate::abuse) fn new(clients: usize, stayers: usize) -> Town {
        let channels = (clients * CHANNELS / MEMBERS).max(CHANNELS);
        let mut town = Town {
            clients,
            stayers,
            channels,
            members: vec![Digest::default(); channels],
        };
        for client in 0..clients {
            for channel in town.channels_of(client) {
                town.members[channel].add(client_id(client).as_bytes());
            }
        }
        for stayer in 0..stayers {
            let channel = town.channel_of_stayer(stayer);
            town.members[channel].add(stayer_id(stayer).as_bytes());
        }
        town
    }

    fn channels_of(&self, client: usize) -> impl Iterator<Item = usize> + use<> {
        let channels = self.channels;
        (0..CHANNELS).map(move |part| (client * CHANNELS + part) % channels)
    }

    fn channel_of_stayer(&self, stayer: usize) -> usize {
        stayer % self.channels
    }

    /// The subscribes of a client.
    pub(in crate::abuse) fn subscribes(&self, client: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for channel in self.channels_of(client) {
            text_frame(&mut bytes, &subscribe(&name(channel), "s"));
        }
        bytes
    }

    /// Those of one who stays.
    pub(in crate::abuse) fn subscribes_of_stayer(&self, stayer: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let channel = name(self.channel_of_stayer(stayer));
        for channel in [pair(stayer / 2), channel] {
            text_frame(&mut bytes, &subscribe(&channel, "s"));
        }
        bytes
    }

    /// Whether a client knows exactly who is in its channels.
    pub(in crate::abuse) fn is_known_to(&self, client: usize, rosters: &Rosters) -> bool {
        let id = client_id(client);
        let mut channels = self.channels_of(client);
        channels.all(|channel| rosters.is(&name(channel), self.others(channel, &id)))
    }

    /// The same of one who stays.
    pub(in crate::abuse) fn is_known_to_stayer(&self, stayer: usize, rosters: &Rosters) -> bool {
        let id = stayer_id(stayer);
        let channel = self.channel_of_stayer(stayer);
        let mut other = Digest::default();
        other.add(stayer_id(stayer ^ 1).as_bytes());
        rosters.is(&name(channel), self.others(channel, &id))
            && rosters.is(&pair(stayer / 2), other)
    }

    fn others(&self, channel: usize, id: &str) -> Digest {
        let mut others = self.members[channel];
        others.remove(id.as_bytes());
        others
    }

    /// Bytes that a client hears at most when it comes back: of each member once that it has come,
    /// each in a frame of its own; and in a storm once more, because what it was before had not
    /// ended when it came.
    pub(in crate::abuse) fn bytes_max(&self) -> f64 {
        let largest = self.members.iter().map(|it| it.count).max();
        let members = largest.unwrap_or_default() as usize * CHANNELS;
        (2 * members * PRESENCE_BYTES) as f64
    }
}

/// Peer id of a client.
pub(in crate::abuse) fn client_id(client: usize) -> String {
    format!("p{client}")
}

/// Peer id of one who stays.
pub(in crate::abuse) fn stayer_id(stayer: usize) -> String {
    format!("s{stayer}")
}

/// The channel of a pair.
pub(in crate::abuse) fn pair(number: usize) -> String {
    format!("pair{number}")
}

fn name(channel: usize) -> String {
    format!("r{channel}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_told_of_all_others_knows_them() {
        let town = Town::new(20, 4);
        let mut rosters = Rosters::default();
        for channel in 0..CHANNELS {
            let clients = (0..20).filter(|it| *it != 3).map(client_id);
            let stayers = (0..4).filter(|it| it % CHANNELS == channel).map(stayer_id);
            let joined: Vec<_> = clients
                .chain(stayers)
                .map(|id| format!(r#"{{"peerId":"{id}"}}"#))
                .collect();
            let frame = format!(
                r#"{{"type":"presence","channel":"r{channel}","joined":[{}],"left":[]}}"#,
                joined.join(",")
            );
            assert!(!town.is_known_to(3, &rosters));
            rosters.take(frame.as_bytes());
        }
        assert!(town.is_known_to(3, &rosters) && !town.is_known_to(4, &rosters));
    }
}
