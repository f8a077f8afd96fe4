//! Blocks and addresses of pools are leased, held and given back.

use super::*;

fn config(name: &str, range: (&str, &str), kind: Kind) -> PoolConfig {
    let units = Units::range(range.0.parse().unwrap(), range.1.parse().unwrap());
    PoolConfig {
        name: name.to_owned(),
        kind,
        group: None,
        units,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn blocks_and_addresses() {
    let mut pools = Pools::new(2);
    let public = config("p", ("10.0.0.0", "10.0.0.15"), Kind::Public(0));
    let fixed = config("s", ("10.1.0.0", "10.1.0.15"), Kind::Static);
    let overlapping = config("o", ("10.0.0.8", "10.0.0.20"), Kind::Public(0));
    assert_eq!(pools.configure(vec![public, fixed, overlapping]), ["o"]);
    let block = pools.lease_block("p", 1).unwrap();
    assert_eq!(
        block,
        Block {
            first: ip("10.0.0.0"),
            count: 2,
            prefix_length: 32
        }
    );
    assert_eq!(pools.lease_block("s", 1), Err(Refusal::OnlyStatic("s".into())));
    assert_eq!(pools.lease_block("x", 1), Err(Refusal::Unknown("x".into())));
    assert_eq!(pools.lease_address(ip("10.1.0.3"), 1), Ok(Some("s".into())));
    assert_eq!(
        pools.lease_address(ip("10.1.0.3"), 2),
        Err(Refusal::Taken {
            worker: 1,
            block: false
        })
    );
    assert_eq!(
        pools.lease_address(ip("10.0.0.1"), 2),
        Err(Refusal::Taken {
            worker: 1,
            block: true
        })
    );
    assert_eq!(pools.lease_address(ip("10.0.0.9"), 2), Ok(Some("p".into())));
    assert_eq!(pools.lease_address(ip("192.0.2.1"), 2), Ok(None));
    assert_eq!(
        pools.lease_address(ip("192.0.2.1"), 1),
        Err(Refusal::Taken {
            worker: 2,
            block: false
        })
    );
    assert!(!pools.give_back(1, ip("192.0.2.1")));
    assert!(pools.give_back(2, ip("192.0.2.1")));
    assert!(pools.give_back(1, ip("10.0.0.0")));
    assert!(!pools.give_back(1, ip("10.0.0.0")));
}

#[test]
fn exhaustion_is_noticed_and_over_when_something_comes_back() {
    let mut pools = Pools::new(1);
    pools.configure(vec![config("p", ("10.0.0.0", "10.0.0.1"), Kind::Public(0))]);
    let block = pools.lease_block("p", 1).unwrap();
    pools.lease_block("p", 1).unwrap();
    assert_eq!(pools.lease_block("p", 1), Err(Refusal::Exhausted("p".into())));
    assert!(pools.get("p").unwrap().exhausted);
    pools.give_back(1, block.first);
    assert!(!pools.get("p").unwrap().exhausted);
    assert!(pools.lease_block("p", 1).is_ok());
}

#[test]
fn redefined_pool_gives_nothing_twice() {
    let mut pools = Pools::new(1);
    pools.configure(vec![config("p", ("10.0.0.0", "10.0.0.3"), Kind::Public(0))]);
    let held = pools.lease_block("p", 1).unwrap();
    assert_eq!(held.first, ip("10.0.0.0"));
    pools.configure(vec![config("q", ("10.0.0.0", "10.0.0.7"), Kind::Public(0))]);
    let mut seen = Vec::new();
    while let Ok(block) = pools.lease_block("q", 1) {
        seen.extend((0..block.count).map(|unit| {
            Units::range(
                match block.first {
                    IpAddr::V4(first) => first,
                    IpAddr::V6(_) => unreachable!(),
                },
                "10.0.0.7".parse().unwrap(),
            )
            .address(unit)
        }));
    }
    assert!(!seen.contains(&held.first), "{seen:?}");
    assert_eq!(seen.len(), 7 - usize::from(block_size(8, 1) > 1));
    assert_eq!(
        pools.lease_address(held.first, 1),
        Err(Refusal::Taken {
            worker: 1,
            block: true
        })
    );
    assert!(pools.give_back(1, held.first));
    assert_eq!(
        pools.lease_block("q", 2).unwrap().first,
        held.first,
        "free at last"
    );
}

#[test]
fn restart_restores_blocks_singles_and_what_is_no_longer_configured() {
    let mut pools = Pools::new(2);
    pools.configure(vec![config("p", ("10.0.0.0", "10.0.0.15"), Kind::Public(0))]);
    let block = Lease {
        worker: 2,
        count: 2,
        single: false,
    };
    assert!(pools.restore("p", ip("10.0.0.0"), block));
    assert!(
        !pools.restore("p", ip("10.0.0.1"), Lease { worker: 1, ..block }),
        "held twice"
    );
    assert!(pools.restore(
        "",
        ip("192.0.2.7"),
        Lease {
            worker: 1,
            count: 1,
            single: true
        }
    ));
    assert!(pools.restore("gone", ip("10.9.0.0"), block));
    assert_eq!(pools.lease_block("p", 1).unwrap().first, ip("10.0.0.2"));
    assert!(pools.lease_address(ip("192.0.2.7"), 2).is_err());
    assert!(pools.lease_address(ip("10.9.0.1"), 1).is_err());
    assert!(pools.give_back(2, ip("10.9.0.0")));
    assert_eq!(pools.lease_address(ip("10.9.0.1"), 1), Ok(None));
}

#[test]
fn no_worker_can_hold_more_than_a_pool_can_have() {
    let mut pools = Pools::new(2);
    for count in [0, MAX_UNITS + 1, u32::MAX] {
        let lease = Lease {
            worker: 1,
            count,
            single: false,
        };
        assert!(!pools.restore("gone", ip("10.9.0.0"), lease));
    }
    assert!(pools.retired.is_empty());
}
