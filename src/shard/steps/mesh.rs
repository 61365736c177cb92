//! What another shard says, handed to the part that it is for.

use crate::shard::mesh_message::{Published, RestValue};
use crate::shard::questions::Question;
use crate::shard::state::Shard;

impl Shard {
    /// A publication has its place at the channel's owner.
    pub(in crate::shard) fn published(&mut self, published: Published) {
        match self.context.questions.take(published.waiter) {
            Some(Question::Publish(command)) => {
                self.connections
                    .answer_command(&command, Ok(()), &mut self.context)
            }
            Some(Question::Rest(waiting)) => {
                self.rest.answer_waiting(
                    &waiting,
                    &RestValue::Published(published.delivered),
                    &mut self.connections,
                    &mut self.context,
                );
            }
            _ => {}
        }
    }
}
