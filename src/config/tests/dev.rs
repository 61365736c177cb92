//! `ringmesh dev`: defaults of its own, and arguments that go before the environment.

use super::*;

#[test]
fn dev_has_defaults_of_its_own() {
    let config = Config::for_dev(&DevOptions::default(), &environment(&[])).unwrap();
    assert_eq!(config.server.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(config.admin.listen, Some("127.0.0.1:7464".parse().unwrap()));
    assert_eq!(config.store.data_dir, Path::new("ringmesh-data"));
    assert_eq!(
        config.store.master_key_file,
        Path::new("ringmesh-data/master.key")
    );
    assert_eq!(
        config.admin.token_file,
        Path::new("ringmesh-data/admin.token")
    );
    assert_eq!(config.limits.connects_per_address, 0);
    assert_eq!(config.auth.reject_with, RejectWith::Close);
    assert_eq!(config.shutdown.drain_ms, 0);
    assert!(config.shutdown.close_wait_ms <= 100);
    assert_eq!(config.file, None);
}

#[test]
fn the_arguments_of_dev_go_before_the_environment() {
    let options = DevOptions {
        listen: Some("127.0.0.1:0".to_owned()),
        shards: Some("2".to_owned()),
        data_dir: Some("/tmp/rm".to_owned()),
        ..DevOptions::default()
    };
    let variables = environment(&[
        ("RINGMESH_SERVER__LISTEN", "nonsense"),
        ("RINGMESH_ADMIN__LISTEN", "127.0.0.1:1"),
    ]);
    let config = Config::for_dev(&options, &variables).unwrap();
    assert_eq!(config.server.listen, ["127.0.0.1:0".parse().unwrap()]);
    assert_eq!(config.server.shards, Some(2));
    assert_eq!(config.admin.listen, Some("127.0.0.1:1".parse().unwrap()));
    assert_eq!(config.admin.token_file, Path::new("/tmp/rm/admin.token"));

    let options = DevOptions {
        shards: Some("many".to_owned()),
        ..DevOptions::default()
    };
    let error = Config::for_dev(&options, &environment(&[]))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("--shards: expected \"auto\" or an integer"),
        "{error}"
    );
}
