//! Numbered streams of packets, to prove that nothing was lost and nothing came twice.

use crate::process::{Running, beside, eventually, try_run_in};
use crate::world::World;

/// Octets of a datagram.
const USUAL_OCTETS: usize = 64;

/// What one end counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Packets this end sent.
    pub sent: u64,
    /// Different packets this end received.
    pub received: u64,
    /// Packets this end received more than once.
    pub duplicates: u64,
    /// Packets this end received after one that was sent later.
    pub overtaken: u64,
}

/// A numbered stream that is running in both directions.
pub struct Stream<'w> {
    world: &'w World,
    ends: [Running; 2],
}

impl<'w> Stream<'w> {
    /// Starts a stream between an address in the peer's namespace and one in the host's: `rate` packets a second each way, `seconds` long.
    pub fn start(world: &'w World, peer: &str, host: &str, port: u16, rate: u32, seconds: u32) -> Self {
        Self::of_size(world, peer, host, port, rate, seconds, USUAL_OCTETS)
    }

    /// Starts a stream whose datagrams have this many octets.
    pub fn of_size(
        world: &'w World,
        peer: &str,
        host: &str,
        port: u16,
        rate: u32,
        seconds: u32,
        octets: usize,
    ) -> Self {
        let end = |namespace: &str, own: &str, other: &str| {
            Running::start(
                namespace,
                &[
                    &program(),
                    &socket(own, port),
                    &socket(other, port),
                    &rate.to_string(),
                    &seconds.to_string(),
                    &octets.to_string(),
                ],
                &[],
                &world.folder().join(format!("stream-{namespace}-{port}.json")),
            )
        };
        Self {
            world,
            ends: [end(&world.peer(), peer, host), end(&world.host(), host, peer)],
        }
    }

    /// Waits for the end and returns what the peer's and the host's end counted. After a loss it prints what the kernel dropped where.
    pub fn finish(mut self) -> [Report; 2] {
        let [peer, host] = &mut self.ends;
        let reports = [report(peer), report(host)];
        if reports[0].sent != reports[1].received || reports[1].sent != reports[0].received {
            self.world.print_drops();
        }
        reports
    }
}

/// Runs a stream to its end and fails the scenario if a packet was lost or came twice.
pub fn both_ways(world: &World, peer: &str, host: &str, rate: u32, seconds: u32) -> [Report; 2] {
    let reports = Stream::start(world, peer, host, 7000, rate, seconds).finish();
    nothing_lost(&reports, rate, seconds);
    reports
}

/// Fails the scenario if a packet was lost or came twice, or if fewer were sent than the rate promised.
pub fn nothing_lost(reports: &[Report; 2], rate: u32, seconds: u32) {
    let [peer, host] = reports;
    assert_eq!(peer.sent, host.received, "lost from peer to host: {reports:?}");
    assert_eq!(host.sent, peer.received, "lost from host to peer: {reports:?}");
    assert_eq!(
        (peer.duplicates, host.duplicates),
        (0, 0),
        "packets came twice: {reports:?}"
    );
    let promised = u64::from(rate) * u64::from(seconds);
    assert!(
        peer.sent >= promised && host.sent >= promised,
        "too few were sent: {reports:?}, promised {promised}"
    );
}

/// Transfers 20 MB by TCP from an address in the peer's namespace to one in the host's, and back. Needs iperf3.
pub fn tcp_both_ways(world: &World, peer: &str, host: &str) {
    for direction in [&[][..], &["--reverse"]] {
        let log = world.folder().join("iperf3.log");
        let server = ["iperf3", "-s", "-1", "-B", host];
        let mut server = Running::start(&world.host(), &server, &[], &log);
        let client = [&["iperf3", "-c", host, "-B", peer, "-n", "20M"], direction].concat();
        // Until the server listens.
        eventually("a transfer by TCP", || {
            try_run_in(&world.peer(), &client, &[]).0.then_some(())
        });
        let status = server.wait();
        assert!(
            status.is_some_and(|status| status.success()),
            "iperf3 ended with {status:?}: {}",
            server.log()
        );
    }
}

fn report(end: &mut Running) -> Report {
    let status = end.wait();
    let text = end.log();
    assert!(
        status.is_some_and(|status| status.success()),
        "stream failed: {text}"
    );
    let json: serde_json::Value =
        serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {text}"));
    let number = |name: &str| json[name].as_u64().expect("a number");
    Report {
        sent: number("sent"),
        received: number("received"),
        duplicates: number("duplicates"),
        overtaken: number("overtaken"),
    }
}

fn socket(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

fn program() -> String {
    beside("stream").to_string_lossy().into_owned()
}
