//! One request to the admin listener on a connection of its own, blocking.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::client::http;
use crate::failure::Failure;

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// An HTTP answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: String,
}

/// Sends `request` and waits at most `wait` for each part of the answer.
///
/// # Errors
/// [`Failure::Unreachable`], [`Failure::Timeout`], [`Failure::Protocol`].
pub(super) fn ask(address: SocketAddr, request: &[u8], wait: Duration) -> Result<Answer, Failure> {
    let unreachable = |error: std::io::Error| Failure::Unreachable {
        address: address.to_string(),
        cause: error.to_string(),
    };
    let mut stream = TcpStream::connect_timeout(&address, wait).map_err(unreachable)?;
    stream.set_read_timeout(Some(wait)).map_err(unreachable)?;
    stream.write_all(request).map_err(unreachable)?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        if let Some(response) = http::read_response(&bytes)? {
            return Ok(Answer {
                status: response.status,
                body: String::from_utf8_lossy(response.body).into_owned(),
            });
        }
        match stream.read(&mut chunk) {
            Ok(0) => return Err(Failure::Protocol(format!("{address}: half an answer"))),
            Ok(read) if bytes.len() < ANSWER_BYTES_MAX => bytes.extend_from_slice(&chunk[..read]),
            Ok(_) => return Err(Failure::Protocol(format!("{address}: an endless answer"))),
            Err(error) => {
                let what = format!("no answer from {address} within {wait:?}: {error}");
                return Err(Failure::Timeout(what));
            }
        }
    }
}

/// Adds up a metric over its labels.
///
/// # Errors
/// As [`ask`], and [`Failure::Protocol`] when there is no such metric.
pub(super) fn metric(address: SocketAddr, token: Option<&str>, name: &str) -> Result<f64, Failure> {
    sum_of(&metrics(address, token)?, name)
        .ok_or_else(|| Failure::Protocol(format!("{address} has no metric {name}")))
}

/// The page of all metrics.
///
/// # Errors
/// As [`ask`].
pub(super) fn metrics(address: SocketAddr, token: Option<&str>) -> Result<String, Failure> {
    let credential = token.map(|it| format!("Authorization: Bearer {it}\r\n"));
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{}\r\n",
        credential.unwrap_or_default()
    );
    Ok(ask(address, request.as_bytes(), Duration::from_secs(10))?.body)
}

/// A quantile of how long something takes on all shards together, in ms.
pub(super) fn quantile_ms(page: &str, what: &str, quantile: &str) -> Option<f64> {
    let name = format!("ringmesh_node_{what}_seconds{{quantile=\"{quantile}\"}} ");
    let value = page.lines().find_map(|line| line.strip_prefix(&name))?;
    Some(value.parse::<f64>().ok()? * 1e3)
}

fn sum_of(text: &str, name: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let is_it = labels.is_empty() || labels.starts_with('{');
        is_it.then(|| value.parse::<f64>().ok())?
    });
    values.reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_the_sum_over_its_labels() {
        let text = "# TYPE a counter\na{shard=\"0\"} 3\na{shard=\"1\"} 4\nab 9\nb 2.5\n";
        assert_eq!(sum_of(text, "a"), Some(7.0));
        assert_eq!(sum_of(text, "b"), Some(2.5));
        assert_eq!(sum_of(text, "c"), None);
    }

    #[test]
    fn a_quantile_is_of_all_shards_together() {
        let text = "ringmesh_a_seconds{shard=\"0\",quantile=\"0.99\"} 3\n\
                    ringmesh_node_a_seconds{quantile=\"0.99\"} 0.002\n";
        assert_eq!(quantile_ms(text, "a", "0.99"), Some(2.0));
        assert_eq!(quantile_ms(text, "a", "1"), None);
    }
}
