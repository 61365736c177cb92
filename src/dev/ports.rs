//! Ports of `ringmesh dev`: one that nobody chose moves to the next when it is taken.

use std::net::{SocketAddr, TcpListener};

use crate::config::Config;

/// Ports that are tried, the default one included.
const PORTS_MAX: u16 = 10;

/// Moves ports that are at their default and taken. Returns what to say about it.
pub(crate) fn move_taken_ports(config: &mut Config) -> Vec<String> {
    let is_default = |key: &str| {
        let mut settings = config.settings.iter();
        settings.any(|setting| setting.key == key && setting.origin == "default")
    };
    let (listen, admin) = (is_default("server.listen"), is_default("admin.listen"));
    let public = config.server.listen.iter_mut().filter(|_| listen);
    let admin = config.admin.listen.iter_mut().filter(|_| admin);
    public.chain(admin).filter_map(moved).collect()
}

/// Moves an address to the next free port; it stays where none is.
fn moved(address: &mut SocketAddr) -> Option<String> {
    let taken = address.port();
    let candidates = (0..PORTS_MAX).filter_map(|step| taken.checked_add(step));
    let mut candidates = candidates.map(|port| SocketAddr::new(address.ip(), port));
    let free = candidates.find(|candidate| TcpListener::bind(candidate).is_ok())?;
    *address = free;
    (free.port() != taken)
        .then(|| format!("ringmesh: port {taken} is taken, so it is {}", free.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_moves_to_the_next() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = holder.local_addr().unwrap();
        let mut address = taken;
        // Where the next ports are taken too, it stays.
        let text = moved(&mut address);
        assert_eq!(text.is_some(), address != taken);
        assert!((taken.port()..taken.port().saturating_add(PORTS_MAX)).contains(&address.port()));
        let mut any = "127.0.0.1:0".parse().unwrap();
        assert_eq!(moved(&mut any), None);
        assert_eq!(any.port(), 0);
    }
}
