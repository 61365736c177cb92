//! How often addresses connect and requests are made: a process that goes on for another counts on
//! where that was, or each deploy would be another burst for everybody.

use crate::domain::connect_rate::{Address, Attempts};
use crate::domain::request_rate::{Spent, SpentBySubject};
use crate::shard::context::Context;
use crate::shard::handover::record::{AddressRecord, RatesRecord};

/// Addresses, and keys, of each kind that are handed over: those with most. What is left begins
/// anew, as it does where a table is full.
const SUBJECTS_MAX: usize = 16_384;

impl AddressRecord {
    fn of(address: Address) -> Self {
        match address {
            Address::V4(bits) => Self::V4(bits),
            Address::V6Network(bits) => Self::V6Network(bits),
        }
    }

    fn address(self) -> Address {
        match self {
            Self::V4(bits) => Address::V4(bits),
            Self::V6Network(bits) => Address::V6Network(bits),
        }
    }
}

/// What all shards of this process have counted.
pub(super) fn rates_record(context: &Context) -> RatesRecord {
    let now_ms = context.now.mono_ms;
    let connects = context.connect_rates.hand_over(now_ms, SUBJECTS_MAX);
    let requests = context.config.request_rates.hand_over(now_ms, SUBJECTS_MAX);
    let of_address = |(address, (spent, as_of_ms)): (Address, Spent)| {
        (AddressRecord::of(address), spent, as_of_ms)
    };
    let SpentBySubject {
        keys,
        addresses,
        strangers,
    } = requests;
    let of_key = |(key, (spent, as_of_ms)): (Box<str>, Spent)| (key.into(), spent, as_of_ms);
    RatesRecord {
        connects: connects
            .into_iter()
            .map(|it: Attempts| (AddressRecord::of(it.0), it.1))
            .collect(),
        keys: keys.into_iter().map(of_key).collect(),
        addresses: addresses.into_iter().map(of_address).collect(),
        strangers: strangers.into_iter().map(of_address).collect(),
    }
}

impl Context {
    /// Counts on where another process was. Nothing that it says is in the future.
    pub(super) fn take_rates_over(&self, rates: &RatesRecord) {
        let RatesRecord {
            connects,
            keys,
            addresses,
            strangers,
        } = rates;
        let now_ms = self.now.mono_ms;
        let connects = connects.iter().map(|(address, times_ms)| {
            let times_ms = times_ms.iter().map(|it| (*it).min(now_ms));
            (address.address(), times_ms.collect())
        });
        self.connect_rates.take_over(connects);
        let of_address = |(address, spent, as_of_ms): &(AddressRecord, i64, u64)| {
            (address.address(), (*spent, (*as_of_ms).min(now_ms)))
        };
        let of_key = |(key, spent, as_of_ms): &(String, i64, u64)| {
            (key.as_str().into(), (*spent, (*as_of_ms).min(now_ms)))
        };
        self.config.request_rates.take_over(SpentBySubject {
            keys: keys.iter().map(of_key).collect(),
            addresses: addresses.iter().map(of_address).collect(),
            strangers: strangers.iter().map(of_address).collect(),
        });
    }
}
