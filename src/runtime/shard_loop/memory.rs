//! The process's memory, as the shard hears of it.

use super::ShardLoop;
use crate::domain::time::Now;
use crate::runtime::allocator;
use crate::runtime::memory::Pressure;
use crate::shard::input::{Input, MemoryLevel};

impl ShardLoop {
    /// Tells the shard what the last reading of the process's memory says, where that asks for
    /// anything.
    pub(super) fn look_at_memory(&mut self, now: Now) {
        self.memory.look(now.mono_ms);
        let Pressure {
            reading,
            level,
            excess_bytes,
        } = self.memory.pressure();
        let is_news = reading != self.memory_reading;
        self.memory_reading = reading;
        if is_news && (level != self.memory_level || level == MemoryLevel::AtCeiling) {
            self.memory_level = level;
            let excess_bytes = excess_bytes as usize / self.shard.effects_mut().mesh.len();
            let memory = Input::Memory {
                level,
                excess_bytes,
            };
            self.handle(memory, now);
            if level == MemoryLevel::AtCeiling {
                // What the allocator keeps would be taken for memory in use, and cost others
                // their connections at the next reading.
                allocator::give_back();
            }
        }
    }
}
