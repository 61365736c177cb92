//! Options of `fanout`, and the groups of channels they describe.

use clap::Args;

/// Options of `fanout`.
#[derive(Debug, Clone, Args)]
pub(crate) struct FanoutOptions {
    /// Channels
    #[arg(long, default_value_t = 1)]
    pub channels: u32,
    /// Subscribers of each channel; 0 measures the way in alone
    #[arg(long, default_value_t = 1000)]
    pub subscribers: u32,
    /// Publishing connections of each channel
    #[arg(long, default_value_t = 1)]
    pub publishers: u32,
    /// Bytes of each publication's data
    #[arg(long, default_value_t = 128)]
    pub payload: usize,
    /// Publications per second, over all channels
    #[arg(long, default_value_t = 80.0)]
    pub rate: f64,
    /// Send as fast as deliveries complete, instead of at --rate
    #[arg(long)]
    pub saturate: bool,
    /// With --saturate: publications on their way at any time, over all channels
    #[arg(long, default_value_t = 1)]
    pub in_flight: u32,
    /// Ask for an ack of every publication, and measure it too
    #[arg(long)]
    pub acks: bool,
    /// A second group of channels beside the first: CHANNELSxSUBSCRIBERS@RATE-PER-CHANNEL
    #[arg(long, value_name = "CxS@R", value_parser = parse_beside)]
    pub beside: Option<Beside>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Beside {
    /// Channels.
    pub channels: u32,
    /// Subscribers of each.
    pub subscribers: u32,
    /// Publications per second and channel.
    pub rate_per_channel: f64,
}

fn parse_beside(text: &str) -> Result<Beside, String> {
    let parse = || {
        let (channels, rest) = text.split_once('x')?;
        let (subscribers, rate) = rest.split_once('@')?;
        Some(Beside {
            channels: channels.parse().ok().filter(|n| *n > 0)?,
            subscribers: subscribers.parse().ok().filter(|n| *n > 0)?,
            rate_per_channel: rate.parse().ok().filter(|n| *n > 0.0)?,
        })
    };
    parse().ok_or_else(|| "write it like 100x2@1".to_owned())
}

/// One group of equal channels, with its places in the numbering of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    /// Channels.
    pub channels: u32,
    /// Subscribers of each.
    pub subscribers: u32,
    /// Publishers of each.
    pub publishers: u32,
    /// Number of its first channel in the run.
    pub first_channel: u32,
    /// Number of its first stream in the run.
    pub first_stream: u32,
    /// Publications per second over the whole group, when paced.
    pub rate: f64,
    /// Publications in flight per stream; 0: open loop.
    pub in_flight: u32,
    /// Series its deliveries are recorded in.
    pub series: usize,
    /// Whether publications ask for an ack.
    pub has_acks: bool,
}

impl Group {
    /// The channel a stream of this group publishes to.
    pub(crate) fn channel_of(&self, stream: u32) -> u32 {
        self.first_channel + (stream - self.first_stream) / self.publishers
    }

    /// All streams of the group.
    pub(crate) fn streams(&self) -> std::ops::Range<u32> {
        self.first_stream..self.first_stream + self.channels * self.publishers
    }

    /// Whether `channel` belongs to it.
    pub(crate) fn has_channel(&self, channel: u32) -> bool {
        (self.first_channel..self.first_channel + self.channels).contains(&channel)
    }

    /// The streams that publish to `channel`.
    pub(crate) fn streams_of(&self, channel: u32) -> std::ops::Range<u32> {
        let first = self.first_stream + (channel - self.first_channel) * self.publishers;
        first..first + self.publishers
    }
}

impl FanoutOptions {
    /// Publishers of the first group, in all of its channels.
    pub(crate) fn streams(&self) -> u32 {
        self.channels.saturating_mul(self.publishers)
    }

    /// The groups of channels asked for: the first, and the one beside it.
    pub(crate) fn groups(&self) -> Vec<Group> {
        let streams = self.streams();
        let main = Group {
            channels: self.channels,
            subscribers: self.subscribers,
            publishers: self.publishers,
            first_channel: 0,
            first_stream: 0,
            rate: self.rate,
            in_flight: if self.saturate {
                self.in_flight.div_ceil(streams)
            } else {
                0
            },
            series: 0,
            has_acks: self.acks || self.subscribers == 0,
        };
        let beside = self.beside.map(|beside| Group {
            channels: beside.channels,
            subscribers: beside.subscribers,
            publishers: 1,
            first_channel: self.channels,
            first_stream: streams,
            rate: beside.rate_per_channel * f64::from(beside.channels),
            in_flight: 0,
            series: 2,
            has_acks: false,
        });
        std::iter::once(main).chain(beside).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_group_is_written_briefly() {
        let expected = Beside {
            channels: 100,
            subscribers: 2,
            rate_per_channel: 1.5,
        };
        assert_eq!(parse_beside("100x2@1.5"), Ok(expected));
        for wrong in ["", "100", "100x2", "0x2@1", "100x2@0", "x@"] {
            assert!(parse_beside(wrong).is_err(), "{wrong}");
        }
    }
}
