//! Which shard gets a connection, where shards follow the queues of network cards.

use std::thread;

use crate::support::server::Server;
use crate::support::setup::Setup;
use crate::support::until;

/// Connections of each shard now.
fn by_shard(server: &Server) -> Vec<u32> {
    let page = server.admin().call("GET", "/metrics", None).body;
    let samples = page
        .lines()
        .filter_map(|line| line.strip_prefix("ringmesh_connections{")?.rsplit_once(' '));
    samples.map(|(_, value)| value.parse().unwrap()).collect()
}

/// Whether the kernel looks at the core at all (Linux 6.2), and does not move packets of loopback
/// to another one.
fn kernel_follows() -> bool {
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|it| it.parse::<u32>().ok());
    let version = (numbers.next(), numbers.next());
    let spread = std::fs::read_to_string("/sys/class/net/lo/queues/rx-0/rps_cpus");
    let is_spread = spread.is_ok_and(|mask| mask.trim().chars().any(|it| !"0,".contains(it)));
    version >= (Some(6), Some(2)) && !is_spread
}

#[test]
fn a_connect_goes_to_the_shard_of_the_core_that_it_comes_in_on() {
    let cores = core_affinity::get_core_ids().unwrap();
    let [first, second] = [cores[0], *cores.last().unwrap()];
    let mut ids = vec![first.id, second.id];
    ids.dedup();
    let server = Setup::new(ids.len() as u16)
        .set("server.cores", format!("{ids:?}"))
        .set("server.follow_queues", true)
        .start();
    // Packets of loopback come in on the core that sends them.
    let connect = |core, count: u32| {
        let server = &server;
        thread::scope(|scope| {
            let clients = scope.spawn(move || {
                assert!(core_affinity::set_for_current(core));
                (0..count).map(|_| server.anonymous()).collect::<Vec<_>>()
            });
            clients.join().unwrap()
        })
    };
    let clients = (connect(first, 12), connect(second, 5));
    let expected = match (ids.len(), kernel_follows()) {
        (1, _) => vec![17],
        (_, true) => vec![12, 5],
        (_, false) => Vec::new(),
    };
    until("all are counted", || {
        by_shard(&server).iter().sum::<u32>() == 17
    });
    let counted = by_shard(&server);
    assert!(expected.is_empty() || counted == expected, "{counted:?}");
    drop(clients);
}
