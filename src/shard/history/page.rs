//! A page of a channel's history as the REST API shows it.

use crate::domain::history_page::Page;
use crate::limits::PEERS_BYTES_MAX;
use crate::shard::history::history::{History, Shown};

/// What was before a position has gone, or the numbering is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) struct Lost;

/// Bytes of an entry, beside its sender, its data and the sender's metadata: its numbers have 20
/// digits at most.
const ENTRY_BYTES: usize = r#",{"seq":,"timeMs":,"from":,"data":,"fromMetadata":}"#.len() + 40;

/// The body of an answer: as many publications as the limit and a megabyte allow. `channel` is
/// its name as JSON.
pub(in crate::shard) fn render(
    history: Option<&History>,
    channel: &str,
    page: &Page,
) -> Result<Vec<u8>, Lost> {
    let position = history.map(History::position);
    let (first, last) = history.map_or((0, 0), |it| (it.first(), it.position().seq));
    if !is_kept(page, history, first) {
        return Err(Lost);
    }
    let from = page.since.map_or(first, |(_, seq)| seq + 1);
    let mut json = br#"{"channel":"#.to_vec();
    json.extend_from_slice(channel.as_bytes());
    match &position {
        None => json.extend_from_slice(br#","epoch":null"#),
        Some(position) => {
            let epoch = position.epoch.as_str();
            json.extend_from_slice(format!(r#","epoch":"{epoch}""#).as_bytes());
        }
    }
    json.extend_from_slice(format!(r#","first":{first},"last":{last}"#).as_bytes());
    if page.tells_size {
        let (count, bytes) = history.map_or((0, 0), |it| (it.len(), it.frame_bytes()));
        json.extend_from_slice(format!(r#","count":{count},"bytes":{bytes}"#).as_bytes());
    }
    json.extend_from_slice(br#","messages":["#);
    let mut is_more = false;
    for at in 0..last + 1 - from.min(last + 1) {
        let seq = match page.is_newest_first {
            true => last - at,
            false => from + at,
        };
        let Some(shown) = history.and_then(|it| it.shown(seq)) else {
            break;
        };
        let metadata = shown.metadata.map_or(0, str::len);
        let bytes = ENTRY_BYTES + shown.from.len() + shown.message.len() + metadata;
        if at >= u64::from(page.limit) || at > 0 && json.len() + bytes > PEERS_BYTES_MAX {
            is_more = true;
            break;
        }
        if at > 0 {
            json.push(b',');
        }
        append(&mut json, &shown, channel);
    }
    json.extend_from_slice(match is_more {
        true => br#"],"more":true}"#,
        false => br#"],"more":false}"#.as_slice(),
    });
    Ok(json)
}

fn is_kept(page: &Page, history: Option<&History>, first: u64) -> bool {
    let Some((epoch, seq)) = page.since else {
        return true;
    };
    history.is_some_and(|it| it.is_position(epoch, seq) && seq + 1 >= first)
}

fn append(json: &mut Vec<u8>, shown: &Shown<'_>, channel: &str) {
    let Shown {
        seq,
        unix_ms,
        message,
        from,
        metadata,
    } = shown;
    let head = format!(r#"{{"seq":{seq},"timeMs":{unix_ms},"from":"#);
    json.extend_from_slice(head.as_bytes());
    json.extend_from_slice(from.as_bytes());
    json.extend_from_slice(br#","data":"#);
    let before = r#"{"type":"message","channel":,"from":,"data":"#.len();
    let before = before + channel.len() + from.len();
    json.extend_from_slice(message.get(before..).unwrap_or_default());
    if let Some(metadata) = metadata {
        json.extend_from_slice(br#","fromMetadata":"#);
        json.extend_from_slice(metadata.as_bytes());
    }
    json.push(b'}');
}
