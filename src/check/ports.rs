//! Whether the ports are free. Nothing is bound to find out: the kernel lists who listens.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::cli::Findings;
use crate::config::Config;
use crate::run_file::RunFile;

/// State of a socket that listens, in proc(5)'s tables.
const LISTEN: &str = "0A";

/// Looks at each address of the configuration. `root` is where `proc` is.
pub(crate) fn look(
    config: &Config,
    running: Option<&RunFile>,
    root: &Path,
    findings: &mut Findings,
) {
    let taken = listening(root);
    let of_unit = of_socket_unit(root);
    let tls = config
        .tls
        .iter()
        .flat_map(|tls| tls.listen.iter().flatten());
    let public = config.server.listen.iter().chain(tls);
    for address in public.chain(&config.admin.listen) {
        if address.port() == 0 {
            continue;
        }
        if !taken.iter().any(|other| excludes(*other, *address)) {
            findings.ok("port", format!("{address} is free"));
            continue;
        }
        match running.filter(|run| has(run, address.port())) {
            Some(run) => {
                let text = format!("{address} is this server's, which runs as pid {}", run.pid);
                findings.ok("port", text);
            }
            None if of_unit.contains(address) => {
                let text = format!("{address} is kept for this server by ringmesh.socket");
                findings.ok("port", text);
            }
            None => findings.fail(
                "port",
                format!("{address}: another program listens there; stop it, or choose another"),
            ),
        }
    }
}

fn has(run: &RunFile, port: u16) -> bool {
    let end = format!(":{port}");
    let mut urls = run.public_urls.iter().chain(&run.admin_url);
    urls.any(|url| url.ends_with(&end))
}

/// Where systemd listens for this server, if its socket unit is enabled.
fn of_socket_unit(root: &Path) -> Vec<SocketAddr> {
    let units = root.join("etc/systemd/system");
    let enabled = units.join("sockets.target.wants/ringmesh.socket");
    let Ok(mut text) = fs::read_to_string(enabled) else {
        return Vec::new();
    };
    let drop_ins = fs::read_dir(units.join("ringmesh.socket.d"));
    let mut drop_ins: Vec<_> = drop_ins.into_iter().flatten().flatten().collect();
    drop_ins.sort_by_key(fs::DirEntry::file_name);
    for drop_in in drop_ins {
        text.push('\n');
        text.push_str(&fs::read_to_string(drop_in.path()).unwrap_or_default());
    }
    let mut addresses = Vec::new();
    let values = text
        .lines()
        .filter_map(|it| it.trim().strip_prefix("ListenStream="));
    for value in values.map(str::trim) {
        match (value.parse::<u16>(), value.parse()) {
            _ if value.is_empty() => addresses.clear(),
            (Ok(port), _) => addresses.push((Ipv6Addr::UNSPECIFIED, port).into()),
            (_, Ok(address)) => addresses.push(address),
            _ => {}
        }
    }
    addresses
}

fn excludes(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && (a == b || a.is_unspecified() || b.is_unspecified())
}

/// Every address that somebody listens on, as far as the kernel tells.
fn listening(root: &Path) -> Vec<SocketAddr> {
    let tables = ["proc/net/tcp", "proc/net/tcp6"].map(|it| fs::read_to_string(root.join(it)));
    let tables = tables.into_iter().flatten();
    tables
        .flat_map(|table| table.lines().filter_map(listener).collect::<Vec<_>>())
        .collect()
}

/// The address in a line of such a table: hexadecimal, words in the order of the machine.
fn listener(line: &str) -> Option<SocketAddr> {
    let mut fields = line.split_whitespace().skip(1);
    let (ip, port) = fields.next()?.split_once(':')?;
    if fields.nth(1)? != LISTEN {
        return None;
    }
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip: IpAddr = if ip.len() == 8 {
        Ipv4Addr::from(word(0)?).into()
    } else {
        let words = [word(0)?, word(8)?, word(16)?, word(24)?];
        let mut bytes = [0; 16];
        bytes.copy_from_slice(words.as_flattened());
        Ipv6Addr::from(bytes).into()
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_the_kernel_are_read() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000";
        assert_eq!(listener(line), Some("127.0.0.1:8080".parse().unwrap()));
        let line = "   1: 00000000000000000000000001000000:1D28 \
                    00000000000000000000000000000000:0000 0A 0:0";
        assert_eq!(listener(line), Some("[::1]:7464".parse().unwrap()));
        let connected = "   2: 0100007F:1F90 0100007F:A1B2 01 00000000:00000000";
        assert_eq!(listener(connected), None);
        assert_eq!(listener("  sl  local_address rem_address   st"), None);
    }

    #[test]
    fn what_a_socket_unit_listens_on_is_read() {
        let root = tempfile::tempdir().unwrap();
        let units = root.path().join("etc/systemd/system");
        let put = |name: &str, text: &str| {
            let path = units.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let shown = || {
            let all = of_socket_unit(root.path()).into_iter();
            all.map(|it| it.to_string()).collect::<Vec<_>>()
        };
        put("ringmesh.socket", "[Socket]\nListenStream=1.2.3.4:80\n");
        assert!(shown().is_empty(), "it is not enabled");
        let unit = include_str!("../../tuning/activation/ringmesh.socket");
        put("sockets.target.wants/ringmesh.socket", unit);
        assert_eq!(shown(), ["0.0.0.0:8080"]);
        put(
            "ringmesh.socket.d/a.conf",
            "ListenStream=443\nListenStream=/run/x",
        );
        assert_eq!(shown(), ["0.0.0.0:8080", "[::]:443"]);
        put(
            "ringmesh.socket.d/b.conf",
            " ListenStream=\nListenStream=[::1]:81",
        );
        assert_eq!(shown(), ["[::1]:81"]);
    }

    #[test]
    fn one_that_listens_everywhere_takes_them_all() {
        let check = |one: &str, other: &str, expected| {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(excludes(one, other), expected, "{one} {other}");
        };
        check("0.0.0.0:80", "127.0.0.1:80", true);
        check("[::]:80", "127.0.0.1:80", true);
        check("127.0.0.1:80", "127.0.0.1:80", true);
        check("127.0.0.1:80", "127.0.0.2:80", false);
        check("127.0.0.1:80", "127.0.0.1:81", false);
    }
}
