//! Messages that were put off, and what a driver asks of back pressure.

use crate::domain::time::Now;
use crate::shard::channel::back_pressure::sender_of;
use crate::shard::channel::pressure::{Turn, Waiting, is_before};
use crate::shard::connection::connections::Held;
use crate::shard::mesh_message::MeshMessage;
use crate::shard::state::Shard;

impl Shard {
    /// The present turn: what is queued now has been offered when [`offered`](Self::offered) is
    /// told of a later one.
    #[must_use]
    pub fn turn(&self) -> u32 {
        self.channels.pressure.turn
    }

    /// Sends what was put off on its way, unless what went before it has to be offered first:
    /// half as much as for what comes later, which can therefore not keep it from its turn.
    fn send_what_was_put_off(&mut self, message: MeshMessage) {
        let unoffered_max = self.context.unoffered_max() / 2;
        let is_pressed = self.channels.is_pressed(&self.context);
        let waits = match &message {
            MeshMessage::Publish(publish)
                if self.channels.is_held(publish.channel.hash, &self.context) =>
            {
                true
            }
            MeshMessage::Publish(publish) if is_pressed => {
                let slot = self.channels.find_key(&publish.channel);
                slot.is_some_and(|slot| {
                    self.channels
                        .has_much_to_offer(slot, unoffered_max, &self.context)
                })
            }
            MeshMessage::Send(send) if is_pressed => {
                self.peers
                    .has_much_to_hear(send, unoffered_max, &self.connections, &self.context)
            }
            _ => false,
        };
        if waits {
            return self
                .channels
                .put_off(message, &mut self.connections, &mut self.context);
        }
        self.channels.pressure.watch();
        let sender = sender_of(&message, self.context.id());
        self.context.loopback.push_back(message);
        self.settle();
        if let Some(id) = sender {
            self.connections.release_input(id, Held::FAN_OUT);
            self.channels.hold_if_pressed(id, &mut self.connections);
        }
    }

    /// Whether messages of other shards are to be handled now. While a channel that they feed has
    /// much to be offered, they wait in their links.
    #[must_use]
    pub fn takes_mesh(&self) -> bool {
        !(self.channels.pressure.is_overfed()
            && self
                .channels
                .pressure
                .is_open(self.channels.pressure.choked))
    }

    /// Every connection that something was queued to in turns before that one has been offered
    /// it: its socket has taken it, or has no room.
    pub fn offered(&mut self, turn: u32, now: Now) {
        self.context.now = now;
        self.channels.pressure.offered = turn;
        if self.channels.pressure.overfed.is_some() && !self.channels.pressure.is_overfed() {
            self.channels.pressure.overfed = None;
            self.channels.tell_throttle(&mut self.context);
        }
        let is_over = |(since, _): &mut (Turn, Waiting)| is_before(*since, turn);
        while let Some((_, waiting)) = self.channels.pressure.waiting.pop_front_if(is_over) {
            match waiting {
                Waiting::Input(id) => self.connections.release_input(id, Held::FAN_OUT),
                Waiting::Message(message) => self.send_what_was_put_off(message),
            }
        }
    }

    /// Panics if more deliveries wait for a connection than may: its own and what it is lent.
    pub fn check_queued(&self) {
        let limit = self.context.delivery_bytes_max();
        for connection in self.connections.iter() {
            let queued = connection.queued_bytes();
            let is_bounded = !connection.exceeds(limit, queued);
            assert!(is_bounded, "{queued} bytes of deliveries are queued");
        }
    }
}
