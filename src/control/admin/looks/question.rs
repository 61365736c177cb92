//! The parameters of what operators ask to see.

use std::net::IpAddr;

use crate::domain::look::{ChannelOrder, ConnectionOrder, Filter, Look, ROWS_MAX, Rows};
use crate::domain::rights::App;
use crate::proto::cidr::Cidr;
use crate::proto::pattern::Pattern;
use crate::proto::wire::name::{validate_channel_name, validate_peer_id};

/// Rows that are shown if nothing is said.
const LIMIT: usize = 50;

const CHANNEL_ORDERS: [(&str, ChannelOrder); 3] = [
    ("name", ChannelOrder::Name),
    ("connections", ChannelOrder::Connections),
    ("rate", ChannelOrder::Rate),
];
const CONNECTION_ORDERS: [(&str, ConnectionOrder); 5] = [
    ("newest", ConnectionOrder::Newest),
    ("oldest", ConnectionOrder::Oldest),
    ("queue", ConnectionOrder::Queue),
    ("bytesOut", ConnectionOrder::BytesOut),
    ("messagesIn", ConnectionOrder::MessagesIn),
];

/// Parameters that were given and have not been looked at.
pub(super) struct Given(Vec<(String, String)>);

impl Given {
    /// Begins with all of them.
    pub(super) fn new(given: Vec<(String, String)>) -> Self {
        Self(given)
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(it, _)| it == name)?;
        Some(self.0.remove(at).1)
    }

    fn need(&mut self, name: &str) -> Result<String, String> {
        self.take(name)
            .ok_or_else(|| format!("{name}: it must be given"))
    }

    /// # Errors
    /// There is one that has no meaning here.
    fn end(&self) -> Result<(), String> {
        match self.0.first() {
            Some((name, _)) => Err(format!("{name}: there is no such parameter")),
            None => Ok(()),
        }
    }

    fn limit(&mut self) -> Result<usize, String> {
        let Some(text) = self.take("limit") else {
            return Ok(LIMIT);
        };
        let number = text.parse().ok().filter(|it| (1..=ROWS_MAX).contains(it));
        number.ok_or_else(|| format!("limit: must be a number from 1 to {ROWS_MAX}"))
    }

    fn matching(&mut self) -> Result<Option<Pattern>, String> {
        let text = self.take("match");
        let pattern = text.as_deref().map(Pattern::parse).transpose();
        pattern.map_err(|error| format!("match: {error}"))
    }

    fn order<T: Copy>(&mut self, orders: &[(&str, T)]) -> Result<T, String> {
        let Some(text) = self.take("sort") else {
            return Ok(orders[0].1);
        };
        let found = orders.iter().find(|(name, _)| *name == text);
        let names: Vec<_> = orders.iter().map(|(name, _)| *name).collect();
        let refused = || format!("sort: must be one of {}", names.join(", "));
        found.map(|(_, order)| *order).ok_or_else(refused)
    }

    fn rows(&mut self, app: &App) -> Result<Rows, String> {
        Ok(Rows {
            app: app.id.tag(),
            matching: self.matching()?,
            after: None,
            limit: self.limit()?,
        })
    }
}

/// Whether what follows a page can be asked for.
pub(super) fn is_by_name(order: ChannelOrder) -> bool {
    order == ChannelOrder::Name
}

/// A list of channels.
pub(super) fn channels(app: &App, given: &mut Given) -> Result<(Look, Rows), String> {
    let order = given.order(&CHANNEL_ORDERS)?;
    let mut rows = given.rows(app)?;
    if let Some(after) = given.take("after") {
        if !is_by_name(order) {
            return Err("after: only lists by name go on; narrow the pattern".to_owned());
        }
        validate_channel_name(&after)
            .map_err(|_| "after: must be the name of a channel".to_owned())?;
        rows.after = Some(after.into());
    }
    given.end()?;
    Ok((Look::Channels(rows.clone(), order), rows))
}

/// The name of a channel, and nothing else.
pub(super) fn channel(given: &mut Given) -> Result<String, String> {
    let name = named_channel(given)?;
    given.end()?;
    Ok(name)
}

/// The name of a channel.
pub(super) fn named_channel(given: &mut Given) -> Result<String, String> {
    let name = given.need("name")?;
    validate_channel_name(&name).map_err(|_| "name: must be the name of a channel".to_owned())?;
    Ok(name)
}

/// The id of a peer, and nothing else.
pub(super) fn peer(given: &mut Given) -> Result<String, String> {
    let id = given.need("id")?;
    let rule = "id: must be 1 to 128 printable ASCII characters";
    validate_peer_id(&id).map_err(|_| rule.to_owned())?;
    given.end()?;
    Ok(id)
}

/// Peers by name.
pub(super) fn rows_of_peers(app: &App, given: &mut Given) -> Result<Rows, String> {
    let mut rows = given.rows(app)?;
    if let Some(after) = given.take("after") {
        validate_peer_id(&after).map_err(|_| "after: must be the id of a peer".to_owned())?;
        rows.after = Some(after.into());
    }
    given.end()?;
    Ok(rows)
}

/// A list of connections or, grouped, of where they come from; and how many rows may be shown.
pub(super) fn connections(app: &App, given: &mut Given) -> Result<(Look, usize), String> {
    let is_grouped = match given.take("group").as_deref() {
        None => false,
        Some("address") => true,
        Some(_) => return Err("group: must be address".to_owned()),
    };
    // Groups have one order: sort is refused with them.
    let order = match is_grouped {
        true => ConnectionOrder::Newest,
        false => given.order(&CONNECTION_ORDERS)?,
    };
    let rows = given.rows(app)?;
    let address = given.take("address");
    let address = address.map(|text| block(&text)).transpose()?;
    let filter = Filter {
        address,
        key: given.take("key").map(Into::into),
    };
    given.end()?;
    let limit = rows.limit;
    let look = match is_grouped {
        true => Look::Networks(rows, filter),
        false => Look::Connections(rows, filter, order),
    };
    Ok((look, limit))
}

/// A block of addresses, or a single one.
fn block(text: &str) -> Result<Cidr, String> {
    let single = || {
        let address: IpAddr = text.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        format!("{address}/{bits}").parse().ok()
    };
    let fault = "address: must be one, or a block such as 10.0.0.0/8";
    text.parse()
        .ok()
        .or_else(single)
        .ok_or_else(|| fault.to_owned())
}
