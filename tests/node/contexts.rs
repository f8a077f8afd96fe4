//! Services in contexts of their own.

use nix::sys::signal::Signal;
use system_tests::process::{eventually, kill, run_in};
use system_tests::strongswan::PROGRAMS;
use system_tests::traffic::{Stream, nothing_lost};
use system_tests::{Connection, Node, Strongswan, World, both_ways, real_peer, run, try_run_in};

const PEER: &str = "10.20.1.1";
const HOST: &str = "10.20.2.1";
const RATE: u32 = 10_000;
const SECONDS: u32 = 2;

#[test]
fn a_service_in_a_context_of_its_own_outlives_its_processes() {
    if !real_peer("context-service", PROGRAMS) {
        return;
    }
    let world = World::new("context-service");
    let connection = in_isp();
    let node = Node::start(&world, &connection.configuration());
    let peer = Strongswan::start(&world, &connection.swanctl(), "");
    peer.load();
    peer.initiate("net");
    same_spis(&node, &[&peer]);
    both_ways(&world, PEER, HOST, RATE, SECONDS);
    assert_eq!(
        devices(&world.node()),
        ["lo"],
        "everything is in the context, nothing where the node runs"
    );
    shown_in_its_context(&node);

    let spis = node.spis();
    let [_, vpnmgr] = node.pids("vpnmgr")[..] else {
        panic!("not two vpnmgrs:\n{}", node.cli("show task table"))
    };
    kill(vpnmgr);
    both_ways(&world, PEER, HOST, RATE, SECONDS);
    returned(&node, "vpnmgr", &[vpnmgr]);
    shown_in_its_context(&node);
    let tasks = node.pids("iftask");
    tasks.iter().copied().for_each(kill);
    returned(&node, "iftask", &tasks);
    both_ways(&world, PEER, HOST, RATE, SECONDS);
    assert_eq!(node.spis(), spis, "the tunnel was set up anew");

    // A new tunnel needs the context's routes and addresses of after the restart.
    let (ok, text) = peer.swanctl(&["--terminate", "--ike", "gw", "--timeout", "5"]);
    assert!(ok, "{text}");
    peer.initiate("net");
    both_ways(&world, PEER, HOST, RATE, SECONDS);
}

#[test]
fn a_context_goes_with_everything_in_it_and_gives_devices_back() {
    if !real_peer("context-removed", PROGRAMS) {
        return;
    }
    let world = World::new("context-removed");
    let connection = in_isp();
    let mut node = Node::start(&world, &connection.configuration());
    let peer = Strongswan::start(&world, &connection.swanctl(), "");
    peer.load();
    peer.initiate("net");

    // A port that is bound no longer gives its device back, and takes it again when it is bound anew.
    configure(&node, &["port ethernet 1/11", "no bind interface"]);
    eventually_devices(&world.node(), &["lo", "vcore"]);
    configure(&node, &["port ethernet 1/11", "bind interface core isp"]);
    eventually_devices(&world.node(), &["lo"]);
    node.eventually_in("isp", "show ip interface name core", "core is up", |text| {
        text.contains("UP (Bound to 1/11, device vcore)")
    });
    both_ways(&world, PEER, HOST, RATE, SECONDS);

    // One end of this pair lives as long as the namespace of the context.
    let vpnmgr = node.pids("vpnmgr")[1];
    let context = format!("--net=/proc/{vpnmgr}/ns/net");
    let host = world.host();
    run_in(
        &host,
        &[
            "ip", "link", "add", "probe", "type", "veth", "peer", "name", "probe1",
        ],
    );
    run_in(
        &host,
        &["ip", "link", "set", "probe1", "netns", &vpnmgr.to_string()],
    );
    assert!(run(&["nsenter", &context, "ip", "-o", "link"]).contains("starward2"));

    configure(&node, &["no context isp"]);
    eventually("the namespace to be gone", || {
        (!devices(&host).contains(&"probe".to_owned())).then_some(())
    });
    eventually_devices(&world.node(), &["lo", "vcore", "vran"]);
    assert_eq!(node.pids("vpnmgr").len(), 1, "{}", node.cli("show task table"));
    eventually("the peer to have no SA", || peer.spis().is_empty().then_some(()));
    let (ok, text) = node.try_cli(&["context isp"]);
    assert!(!ok && text.contains("there is no context isp"), "{text}");
    assert!(node.spis().is_empty());

    // And comes again as if it had never been away.
    let again = connection.our_context() + &connection.our_ports(10);
    configure(
        &node,
        &again.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>(),
    );
    eventually_devices(&world.node(), &["lo"]);
    eventually("a tunnel", || {
        peer.swanctl(&["--initiate", "--child", "net", "--timeout", "5"])
            .0
            .then_some(())
    });
    both_ways(&world, PEER, HOST, RATE, SECONDS);

    node.process().signal(Signal::SIGTERM);
    let status = node.process().wait();
    assert!(status.is_some_and(|status| status.success()), "{}", node.log());
    assert_eq!(devices(&world.node()), ["lo", "vcore", "vran"]);
    let names = std::fs::read_dir(node.run_dir().join("netns")).map(Iterator::count);
    assert_eq!(names.ok(), Some(0), "names of namespaces were left");
}

#[test]
fn the_clear_side_may_be_in_another_context() {
    if !real_peer("context-clear-side", PROGRAMS) {
        return;
    }
    let world = World::new("context-clear-side");
    let connection = in_isp();
    let core =
        "interface core\nip address 10.20.2.254 255.255.255.0\nipv6 address fd20:2::fe/64 secondary\n#exit\n";
    let inside = format!("context inside\n{core}#exit\nport ethernet 1/10\n");
    let configuration = connection
        .configuration()
        .replace(core, "subscriber default\nip context-name inside\n#exit\n")
        .replace("bind interface core isp", "bind interface core inside")
        .replace("port ethernet 1/10\n", &inside);
    let node = Node::start(&world, &configuration);
    let peer = Strongswan::start(&world, &connection.swanctl(), "");
    peer.load();
    peer.initiate("net");
    same_spis(&node, &[&peer]);
    both_ways(&world, PEER, HOST, RATE, SECONDS);
    node.eventually_in("inside", "show ip route", "the route to the peer", |text| {
        text.contains("10.20.1.1/32") && text.contains("tunnel")
    });
}

#[test]
fn a_namespace_that_is_there_is_used_and_left() {
    if !real_peer("context-prepared", &["ip"]) {
        return;
    }
    let world = World::new("context-prepared");
    let prepared = Prepared::new(format!("{}c", world.node()));
    let connection = Connection {
        context: prepared.0.clone().leak(),
        ..in_isp()
    };
    // One device is there already, the other is brought.
    run(&[
        "ip",
        "-n",
        &world.node(),
        "link",
        "set",
        "vcore",
        "netns",
        &prepared.0,
    ]);
    let mut node = Node::start(&world, &connection.configuration());
    node.eventually_in(&prepared.0, "show ip interface summary", "devices", |text| {
        text.lines().filter(|line| line.ends_with("UP")).count() == 2
    });
    eventually_devices(&prepared.0, &["lo", "starward2", "vcore", "vran"]);

    node.process().signal(Signal::SIGTERM);
    let status = node.process().wait();
    assert!(status.is_some_and(|status| status.success()), "{}", node.log());
    assert_eq!(devices(&prepared.0), ["lo", "vcore"]);
    assert_eq!(devices(&world.node()), ["lo", "vran"]);
}

#[test]
fn contexts_with_the_same_addresses_do_not_meet() {
    if !real_peer("context-overlap", PROGRAMS) {
        return;
    }
    // The peer and the host of the second world are connected to the node of the first.
    let worlds = [World::new("context-overlap"), World::new("context-overlap")];
    let [world, other] = &worlds;
    for device in ["vran", "vcore"] {
        run(&[
            "ip",
            "-n",
            &other.node(),
            "link",
            "set",
            device,
            "netns",
            &world.node(),
            "name",
            &format!("{device}2"),
        ]);
    }
    let isp = in_isp();
    let apn = Connection {
        context: "apn",
        devices: ["vran2", "vcore2"],
        our_outer: "10.10.0.3",
        secret: "another horse",
        our_secret: "another horse",
        our_context: format!(
            "{}interface ran\nip address 10.10.0.3 255.255.255.0 secondary\n#exit\n",
            isp.our_context
        ),
        ..isp.clone()
    };
    let configuration = format!(
        "config\nsystem hostname gw\n{}{}{}{}end\n",
        isp.our_context(),
        apn.our_context(),
        isp.our_ports(10),
        apn.our_ports(12)
    );
    let node = Node::start(world, &configuration);
    // They call themselves the same, too, and both say that they have no other IKE SA (INITIAL_CONTACT).
    let peers = [(world, &isp), (other, &apn)].map(|(world, connection)| {
        let peer = Strongswan::start(world, &connection.swanctl(), "");
        peer.load();
        peer.initiate("net");
        peer
    });
    same_spis(&node, &[&peers[0], &peers[1]]);

    // The same numbers cross between the same addresses in both contexts at the same time.
    let streams = worlds
        .each_ref()
        .map(|world| Stream::start(world, PEER, HOST, 7000, RATE / 2, SECONDS));
    for stream in streams {
        let reports = stream.finish();
        nothing_lost(&reports, RATE / 2, SECONDS);
    }
    let subscribers = node.cli("show subscribers all");
    assert!(
        subscribers.contains("matching specified criteria : 2\n"),
        "{subscribers}"
    );

    // When one tunnel is gone, nobody there reaches the peer with that address in the other context.
    let (ok, text) = peers[1].swanctl(&["--terminate", "--ike", "gw", "--timeout", "5"]);
    assert!(ok, "{text}");
    let ping = |world: &World| {
        try_run_in(
            &world.host(),
            &["ping", "-c", "3", "-i", "0.2", "-W", "1", PEER],
            &[],
        )
    };
    let (reached, text) = ping(other);
    assert!(!reached, "the other context was reached:\n{text}");
    let (reached, text) = ping(world);
    assert!(reached, "the tunnel that is left carries nothing:\n{text}");
}

#[test]
fn contexts_work_for_an_ordinary_user() {
    if !real_peer("context-user-namespace", PROGRAMS) {
        return;
    }
    let world = World::new("context-user-namespace");
    let connection = in_isp();
    let mut node = Node::start_as_nobody(&world, &connection.configuration());
    node.logged(&["user namespace"]);
    // It has a network of its own; the devices come later and are taken all the same.
    let own = node.process().pid().to_string();
    for device in connection.devices {
        run(&["ip", "-n", &world.node(), "link", "set", device, "netns", &own]);
    }
    node.eventually_in("isp", "show ip interface summary", "devices", |text| {
        text.lines().filter(|line| line.ends_with("UP")).count() == 2
    });
    let peer = Strongswan::start(&world, &connection.swanctl(), "");
    peer.load();
    peer.initiate("net");
    same_spis(&node, &[&peer]);
    both_ways(&world, PEER, HOST, RATE / 10, SECONDS);

    // Its software can be replaced, with the devices where they are.
    let new = world.folder().join("starward-new");
    let new = new.to_string_lossy();
    run(&[
        "cp",
        "--preserve=all",
        &world.folder().join("starward").to_string_lossy(),
        &new,
    ]);
    let tunnels = node.spis();
    node.cli(&format!("upgrade online {new} -noconfirm"));
    node.eventually("show upgrade", "the end of the upgrade", |text| {
        text.contains(": Complete\n")
    });
    assert_eq!(node.process().pid().to_string(), own);
    assert_eq!(node.spis(), tunnels);
    both_ways(&world, PEER, HOST, RATE / 10, SECONDS);
}

/// A namespace that an operator made.
struct Prepared(String);

impl Prepared {
    fn new(name: String) -> Self {
        run(&["ip", "netns", "add", &name]);
        Self(name)
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        run(&["ip", "netns", "del", &self.0]);
    }
}

/// A connection that is all in context `isp`, as in the reference's examples of WSG services.
fn in_isp() -> Connection {
    Connection {
        context: "isp",
        our_context: "ip pool v4 10.30.0.0 255.255.255.0\n".to_owned(),
        ..Connection::default()
    }
}

/// What an operator looks at, in the context and from outside.
fn shown_in_its_context(node: &Node) {
    let expected = [
        (
            "show ip interface summary",
            &["ran", "10.10.0.2/24", "1/10", "UP"][..],
        ),
        ("show ip route", &["10.20.1.1/32", "starward2", "10.30.0.0/24"]),
        ("show ip pool", &["v4", "10.30.0.254"]),
        ("show port table", &["1/10", "vran", "isp", "Enabled"]),
        ("show crypto ipsec security-associations", &["10.10.0.1"]),
        ("show wsg-service all", &["wsg", "isp", "10.10.0.2"]),
    ];
    for (command, words) in expected {
        node.eventually_in("isp", command, "what there is", |text| {
            words.iter().all(|word| text.contains(word))
        });
    }
    // Of another context.
    let local = node.cli("show ip interface summary");
    assert!(!local.contains("10.10.0.2"), "{local}");
    let table = node.cli("show task table");
    assert!(
        table
            .lines()
            .any(|line| line.contains("vpnmgr") && line.contains(" isp ")),
        "{table}"
    );
}

/// Waits until each task that was killed runs again as another process.
fn returned(node: &Node, facility: &str, killed: &[u32]) {
    eventually(&format!("{facility} to come back"), || {
        let pids = node.pids(facility);
        let all_new = pids.iter().all(|pid| !killed.contains(pid));
        let table = node.cli(&format!("show task table facility {facility}"));
        (all_new && !table.contains("starting")).then_some(())
    });
}

/// Fails the scenario unless the node and its peers name the same pairs of ESP SPIs.
fn same_spis(node: &Node, peers: &[&Strongswan]) {
    eventually("both sides to name the same SPIs", || {
        let mut ours = node.spis();
        let mut theirs: Vec<(String, String)> = peers
            .iter()
            .flat_map(|peer| peer.spis())
            .map(|(inbound, outbound)| (outbound, inbound))
            .collect();
        ours.sort();
        theirs.sort();
        (ours.len() == peers.len() && ours == theirs).then_some(())
    });
}

fn configure(node: &Node, lines: &[&str]) {
    let mut commands = vec!["configure"];
    commands.extend(lines);
    commands.push("end");
    let (ok, text) = node.try_cli(&commands);
    assert!(ok, "{lines:?}:\n{text}");
}

/// Names of the network devices of a namespace, in order.
fn devices(namespace: &str) -> Vec<String> {
    let text = run_in(namespace, &["ls", "/sys/class/net"]);
    text.split_whitespace().map(str::to_owned).collect()
}

fn eventually_devices(namespace: &str, expected: &[&str]) {
    let mut last = Vec::new();
    let what = format!("the devices {expected:?} in {namespace}");
    eventually(&what, || {
        last = devices(namespace);
        (last == expected).then_some(())
    });
}
