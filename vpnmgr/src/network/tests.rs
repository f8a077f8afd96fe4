//! Against the real kernel, in a network namespace of a thread's own. Without privilege there is nothing to test here.

use config::{
    Config, Context, Interface, Ipv4Pool, Ipv4Range, PoolAccess, Port, PortBinding, PortDevice, PortId,
};

use super::*;

#[path = "../../tests/common/mod.rs"]
mod common;
use common::{in_namespace, ip, make_tunnels};

fn configuration() -> Config {
    let mut config = Config::default();
    let mut context = Context::new(2);
    let port = Interface {
        primary: Some("192.0.2.1/24".parse().unwrap()),
        secondary: vec!["2001:db8::1/64".parse().unwrap()],
        mtu: Some(1400),
        ..Interface::default()
    };
    context.interfaces.insert("outside".to_owned(), port);
    let loopback = Interface {
        loopback: true,
        primary: Some("10.255.0.1/32".parse().unwrap()),
        ..Interface::default()
    };
    context.interfaces.insert("loop".to_owned(), loopback);
    context.routes.push(config::Route {
        destination: "198.51.100.0/24".parse().unwrap(),
        gateway: Some("192.0.2.254".parse().unwrap()),
        interface: "outside".to_owned(),
        precedence: 1,
        cost: 0,
    });
    let pool = Ipv4Pool {
        addresses: Ipv4Range::Network("10.30.0.0/24".parse().unwrap()),
        access: PoolAccess::Public(0),
        group: None,
        hold_timer: 0,
        include_network_and_broadcast: true,
        allow_static: false,
    };
    context.ipv4_pools.insert("p".to_owned(), pool);
    config.contexts.insert("isp".to_owned(), context);
    let bind = Some(PortBinding {
        interface: "outside".to_owned(),
        context: "isp".to_owned(),
    });
    let port = Port {
        device: PortDevice::Device("v0".to_owned()),
        shutdown: false,
        bind,
        ..Port::default()
    };
    config.ports.insert(PortId { slot: 1, port: 10 }, port);
    config
}

/// Of the `ipsecmgr` that asks.
const TENURE: u64 = 1;

fn network() -> Network {
    let mut network = Network::open(false).unwrap();
    network.set_tun(Some("tunnels".to_owned()));
    network
}

fn apply(network: &mut Network, config: &Config, tunnels: &TunnelRoutes) -> Vec<String> {
    let plan = Plan::of(config, "isp", Some("tunnels"));
    network
        .apply(&plan, tunnels)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn configuration_is_applied_changed_and_removed() {
    in_namespace(|| {
        let mut network = network();
        ip("address add 203.0.113.7/24 dev v0");
        let none = TunnelRoutes::default();
        let mut config = configuration();
        assert_eq!(apply(&mut network, &config, &none), [""; 0]);
        let v0 = ip("address show dev v0");
        for part in ["192.0.2.1/24", "2001:db8::1/64", "mtu 1400", "203.0.113.7/24"] {
            assert!(v0.contains(part), "{part} is missing:\n{v0}");
        }
        assert!(v0.contains("2001:db8::1/64 scope global nodad"), "{v0}");
        assert!(ip("address show dev lo").contains("10.255.0.1/32"));
        let routes = ip("route show table all");
        assert!(
            routes.contains("198.51.100.0/24 via 192.0.2.254 dev v0"),
            "{routes}"
        );
        assert!(routes.contains("10.30.0.0/24 dev tunnels"), "{routes}");
        let ours = ip("route show table all proto 181");
        assert!(ours.contains("throw fe80::/10"), "{ours}");
        assert_eq!(
            apply(&mut network, &config, &none),
            [""; 0],
            "once more changes nothing"
        );
        assert_eq!(ip("route show table all proto 181"), ours);

        let context = config.contexts.get_mut("isp").unwrap();
        context.interfaces.get_mut("outside").unwrap().primary = Some("192.0.2.2/24".parse().unwrap());
        context.routes.clear();
        context.ipv4_pools.clear();
        assert_eq!(apply(&mut network, &config, &none), [""; 0]);
        let (v0, routes) = (ip("address show dev v0"), ip("route show table all"));
        assert!(
            v0.contains("192.0.2.2/24") && !v0.contains("192.0.2.1/24"),
            "{v0}"
        );
        assert!(
            v0.contains("203.0.113.7/24"),
            "an address of somebody else was removed:\n{v0}"
        );
        assert!(
            !routes.contains("198.51.100.0") && !routes.contains("10.30.0.0"),
            "{routes}"
        );
    });
}

#[test]
fn what_cannot_be_done_is_told_and_the_rest_is_done() {
    in_namespace(|| {
        let mut network = network();
        let mut config = configuration();
        let port = config.ports.values_mut().next().unwrap();
        port.device = PortDevice::Device("absent".to_owned());
        let failures = apply(&mut network, &config, &TunnelRoutes::default());
        assert_eq!(
            failures,
            ["there is no device absent in this context's namespace"]
        );
        assert!(ip("route show table all").contains("10.30.0.0/24 dev tunnels"));
        config.ports.values_mut().next().unwrap().device = PortDevice::Device("v0".to_owned());
        let context = config.contexts.get_mut("isp").unwrap();
        context.routes[0].gateway = Some("10.99.0.1".parse().unwrap());
        let failures = apply(&mut network, &config, &TunnelRoutes::default());
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert!(
            failures[0].starts_with("ip route add 198.51.100.0/24 via 10.99.0.1"),
            "{failures:?}"
        );
    });
}

#[test]
fn routes_of_tunnels_survive_restart_and_loss_of_the_device() {
    in_namespace(|| {
        let mut network = network();
        let config = configuration();
        let mut tunnels = TunnelRoutes::default();
        assert_eq!(apply(&mut network, &config, &tunnels), [""; 0]);
        let many: Vec<TunnelRoute> = (0..2_500u32)
            .map(|number| TunnelRoute {
                network: IpNet::new(IpAddr::from((0x0a40_0000 + number).to_be_bytes()), 32).unwrap(),
                spi: 0x0700_0000 + number,
            })
            .collect();
        let twice = TunnelRoute {
            spi: 0x0800_0001,
            ..many[0]
        };
        let ipv6 = TunnelRoute {
            network: "2001:db8:1::/48".parse().unwrap(),
            spi: 0x0700_ffff,
        };
        let new = tunnels.add(
            many.iter()
                .copied()
                .chain([twice, ipv6])
                .map(|route| (route, TENURE)),
        );
        let begin = std::time::Instant::now();
        assert!(network.add_tunnel_routes(&new).unwrap().is_empty());
        eprintln!("{} routes in {:?}", new.len(), begin.elapsed());
        assert!(
            network.add_tunnel_routes(&[twice]).unwrap().is_empty(),
            "again is no failure"
        );

        let mut restarted = Network::open(false).unwrap();
        let mut found = restarted.found_tunnel_routes().unwrap();
        found.sort();
        assert_eq!(found, tunnels.after(None).collect::<Vec<_>>());

        assert!(
            network
                .remove_tunnel_routes(&tunnels.remove([many[0]]))
                .unwrap()
                .is_empty()
        );
        let left = ip("route show table all 10.64.0.0/32");
        assert!(
            left.contains(&format!("metric {}", 0x0800_0001)),
            "the other tunnel's route went too: {left}"
        );
        assert!(
            network.remove_tunnel_routes(&[many[0]]).unwrap().is_empty(),
            "again is no failure"
        );

        ip("link delete tunnels");
        make_tunnels();
        assert_eq!(apply(&mut network, &config, &tunnels), [""; 0]);
        assert_eq!(network.found_tunnel_routes().unwrap().len(), 2_501);
        let gone = tunnels.remove_older(&Vec::from_iter(1..=u8::MAX), TENURE + 1);
        assert!(network.remove_tunnel_routes(&gone).unwrap().is_empty());
        assert_eq!(network.found_tunnel_routes().unwrap(), []);
    });
}

#[test]
fn every_change_that_the_kernel_refuses_is_told_and_no_other() {
    in_namespace(|| {
        let mut network = network();
        apply(&mut network, &configuration(), &TunnelRoutes::default());
        let device = network.tun_index().unwrap();
        let mut routes = kernel_routes(
            &(0..350u32)
                .map(|number| TunnelRoute {
                    network: IpNet::new(IpAddr::from((0x0a40_0000 + number).to_be_bytes()), 32).unwrap(),
                    spi: 0x0700_0000 + number,
                })
                .collect::<Vec<_>>(),
            device,
        );
        // At either end of what goes to the kernel at once, in the middle, and the very last.
        let bad = [0, 50, 99, 100, 349];
        for number in bad {
            routes[number].device = 9_999;
        }
        let failures = network.kernel.add_routes(&routes).unwrap();
        let told: Vec<String> = failures.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), bad.len(), "{told:?}");
        for (number, told) in bad.into_iter().zip(&told) {
            assert!(told.contains(&routes[number].destination.to_string()), "{told}");
        }
        assert_eq!(network.found_tunnel_routes().unwrap().len(), 345);
        let failures = network.kernel.remove_routes(&routes).unwrap();
        assert_eq!(failures.len(), 0, "what is not there is removed");
        assert_eq!(network.found_tunnel_routes().unwrap(), []);
    });
}

/// The device that a packet of somebody else, or one of the node itself, leaves by.
fn leaves_by(destination: &str, marked: bool) -> String {
    let mark = if marked { task::NODE_MARK } else { 0 };
    let text = ip(&format!("route get {destination} mark {mark}"));
    let mut words = text.split_whitespace().skip_while(|word| *word != "dev");
    words.nth(1).unwrap_or_default().to_owned()
}

#[test]
fn tunnels_take_what_is_theirs_and_never_what_carries_them() {
    in_namespace(|| {
        let mut network = network();
        let mut config = configuration();
        let mut tunnels = TunnelRoutes::default();
        kernel::set("ipv4/conf/all/rp_filter", "1").unwrap();
        assert_eq!(apply(&mut network, &config, &tunnels), [""; 0]);
        assert_eq!(kernel::get("ipv4/conf/v0/rp_filter").unwrap(), "2");
        let networks = [
            "192.0.2.7/32",    // A peer's own outer address, in a connected network.
            "192.0.0.0/16",    // Shorter than a connected network.
            "198.51.100.0/24", // The same as a configured route's.
            "0.0.0.0/0",
            "192.0.2.1/32", // Our own.
            "2001:db8::7/128",
            "2001:db8::/32",
            "::/0",
        ];
        let routes = (0x0700_0001..).zip(networks).map(|(spi, network)| TunnelRoute {
            network: network.parse().unwrap(),
            spi,
        });
        let new = tunnels.add(routes.map(|route| (route, TENURE)));
        assert_eq!(network.add_tunnel_routes(&new).unwrap().len(), 0);
        // A route whose gateway a peer says is behind it.
        config
            .contexts
            .get_mut("isp")
            .unwrap()
            .routes
            .push(config::Route {
                destination: "198.18.0.0/15".parse().unwrap(),
                gateway: Some("192.0.2.7".parse().unwrap()),
                interface: String::new(),
                precedence: 1,
                cost: 0,
            });
        assert_eq!(apply(&mut network, &config, &tunnels), [""; 0]);
        for (destination, theirs, ours) in [
            ("198.18.0.1", "v0", "v0"),
            ("192.0.2.7", "tunnels", "v0"),
            ("192.0.2.8", "v0", "v0"),
            ("192.0.3.1", "tunnels", ""),
            ("198.51.100.9", "v0", "v0"),
            ("203.0.113.1", "tunnels", ""),
            ("192.0.2.1", "lo", "lo"),
            ("10.30.0.9", "tunnels", ""),
            ("2001:db8::7", "tunnels", "v0"),
            ("2001:db8::8", "v0", "v0"),
            ("2001:db8:1::1", "tunnels", ""),
            ("2001:4860::1", "tunnels", ""),
        ] {
            assert_eq!(leaves_by(destination, false), theirs, "to {destination}");
            if !ours.is_empty() {
                assert_eq!(leaves_by(destination, true), ours, "to {destination}, marked");
            }
        }
        // Somebody's default route is before that of a peer.
        ip("route add default via 192.0.2.254");
        assert_eq!(leaves_by("203.0.113.1", false), "v0");
        assert_eq!(leaves_by("192.0.3.1", false), "tunnels");

        let all =
            || ip("route show table all") + &ip("-6 route show table all") + &ip("rule") + &ip("-6 rule");
        let before = all();
        assert_eq!(apply(&mut network, &config, &tunnels), [""; 0]);
        assert_eq!(all(), before, "once more changes nothing");
        assert_eq!(network.leave().unwrap().len(), 0);
        let left = all();
        assert!(!left.contains("fwmark") && !left.contains("throw"), "{left}");
        assert_eq!(network.leave().unwrap().len(), 0, "again is no failure");
    });
}
