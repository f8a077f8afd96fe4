//! Two data planes and the kernel: namespaces joined by a veth, with real programs at both ends. Needs root, and says so without.
//!
//! ```text
//!   swe-a: TUN 10.1.0.1 ── Plane ── UDP 192.0.2.1 ══ veth ══ 192.0.2.2 UDP ── Plane ── TUN 10.2.0.7 :swe-b
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command as Program, Stdio};
use std::time::Duration;

use netio::{DatagramSocket, Namespace, SocketOptions, Tun, XdpPort, XdpQueue, interface};
use sadb::{ChildSa, Encapsulation, SlotOwner, SlotSegments};
use telemetry::Counters;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::world::{CONTEXT, gateway_sa, mirrored};
use crate::counters::Count;
use crate::plane::{Command, Lost, Plane};

/// Inner MTU that exactly fills 1500 outside.
const INNER_MTU: u16 = 1438;

/// One end: a namespace with a TUN, and the data plane between it and the veth.
pub(super) struct End {
    path: PathBuf,
    plane: Option<Plane>,
    lost: UnboundedReceiver<Lost>,
    owner: SlotOwner,
    namespace: Namespace,
}

impl End {
    pub(super) fn new(name: &str, slot: u8) -> Self {
        let path = PathBuf::from(format!("/run/netns/{name}"));
        std::fs::create_dir_all("/run/netns").unwrap();
        let _ = Namespace::remove(&path);
        let namespace = Namespace::create().unwrap();
        namespace.persist(&path).unwrap();
        let segments = SlotSegments::create(sadb::Slot::new(slot).unwrap()).unwrap();
        let owner = SlotOwner::map(&segments.owner_fds().unwrap()).unwrap();
        let (sender, lost) = unbounded_channel();
        let plane = Plane::start(1, Counters::in_memory(), sender).unwrap();
        plane
            .handle()
            .tell(Command::AddSlot(segments.worker_fds().unwrap()));
        Self {
            path,
            plane: Some(plane),
            lost,
            owner,
            namespace,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.path.file_name().unwrap().to_str().unwrap()
    }

    /// Runs `ip` in the namespace.
    pub(super) fn ip(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.name()));
    }

    /// A program in the namespace.
    pub(super) fn program(&self, name: &str, arguments: &str) -> Program {
        let mut program = Program::new("ip");
        program.args(["netns", "exec", self.name(), name]);
        program.args(arguments.split_whitespace());
        program
    }

    pub(super) fn run(&self, name: &str, arguments: &str) -> String {
        let output = self.program(name, arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} {arguments}: {text}{errors}");
        text
    }

    /// Runs `work` in the namespace.
    pub(super) fn run_inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(work).unwrap()
    }

    /// Opens sockets and TUN and gives them to the data plane.
    fn open(&self, sa: &ChildSa, inner: &[&str], routes: &[&str]) {
        let (udp, esp, too_big, tun) = self
            .namespace
            .run(|| {
                let gro = SocketOptions {
                    gro: true,
                    ..SocketOptions::default()
                };
                (
                    DatagramSocket::bind_udp(sa.local, gro).unwrap(),
                    DatagramSocket::bind_esp(sa.local, SocketOptions::default()).unwrap(),
                    DatagramSocket::bind_too_big(sa.local, SocketOptions::default()).unwrap(),
                    Tun::create("swe-tun", 1, INNER_MTU).unwrap(),
                )
            })
            .unwrap();
        for address in inner {
            self.ip(&format!("addr add {address} dev swe-tun"));
        }
        for route in routes {
            self.ip(&format!("route add {route} dev swe-tun"));
        }
        let plane = self.plane.as_ref().unwrap();
        plane.handle().tell(Command::OpenAddress {
            context: CONTEXT,
            address: sa.local.ip(),
            udp: udp.into(),
            esp: Some(esp.into()),
            too_big: Some(too_big.into()),
        });
        let queue = tun.queues.into_iter().next().unwrap();
        plane.handle().tell(Command::OpenTun {
            context: CONTEXT,
            queue,
            steering: None,
        });
    }

    /// Has the data plane take ESP to its addresses from the veth by AF_XDP, and send it so, as long as what is returned lives.
    pub(super) fn use_xdp(&self) -> XdpPort {
        self.use_xdp_of("swe-veth")
    }

    /// The same for any device, and for what is to enter the TUN.
    pub(super) fn use_xdp_of(&self, device: &str) -> XdpPort {
        let open = || {
            (
                XdpPort::open(device, 1).unwrap(),
                interface::index("swe-tun").unwrap(),
            )
        };
        let (mut port, tun) = self.run_inside(open);
        port.set_tun(Some(tun)).unwrap();
        let addresses = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"];
        let addresses = addresses.map(|address| address.parse().unwrap());
        port.set_addresses(&addresses.into()).unwrap();
        let queues = port.queues.iter().map(|queue| XdpQueue {
            number: queue.number,
            socket: queue.socket.try_clone().unwrap(),
            memory: queue.memory.try_clone().unwrap(),
        });
        self.tell(Command::OpenXdp {
            context: CONTEXT,
            device: device.to_owned(),
            queues: queues.collect(),
        });
        port
    }

    /// Tells the data plane something.
    pub(super) fn tell(&self, command: Command) {
        self.plane.as_ref().unwrap().handle().tell(command);
    }

    /// What the data plane lost next.
    pub(super) fn loses(&mut self) -> Option<Lost> {
        self.lost.blocking_recv()
    }

    /// For failures.
    pub(super) fn show(&self) -> String {
        let statistics = &self.plane.as_ref().unwrap().statistics;
        let busy = crate::show::Shares::new(&crate::busy::Busy::default(), statistics);
        crate::show::statistics(1, statistics, busy)
    }

    pub(super) fn count(&self, count: Count) -> u64 {
        self.plane.as_ref().unwrap().statistics.get(count)
    }

    /// Looks until `is_so`: counts become visible at the end of a round. Gives up after a thousand looks.
    pub(super) fn settled(&self, is_so: impl Fn() -> bool) {
        let found = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            is_so()
        });
        assert!(found, "{}", self.show());
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(plane) = self.plane.take() {
            plane.stop();
        }
        let _ = Namespace::remove(&self.path);
    }
}

pub(super) fn ip(arguments: &str) {
    let status = Program::new("ip")
        .args(arguments.split_whitespace())
        .status()
        .unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// Whether namespaces and devices can be made; says so if not.
pub(super) fn is_root() -> bool {
    let may = Path::new("/dev/net/tun").exists() && Namespace::create().is_ok();
    if !may {
        eprintln!("skipped: needs root");
    }
    may
}

/// Both ends with one SA, changed by `change`; `None` without root.
pub(super) fn ends(number: u32, change: impl Fn(&mut ChildSa)) -> Option<(End, End)> {
    if !is_root() {
        return None;
    }
    let id = std::process::id();
    let mut a = End::new(&format!("swe-a{number}-{id}"), 1);
    let mut b = End::new(&format!("swe-b{number}-{id}"), 9);
    let [one, two] = [&a, &b].map(|end| end.name().to_owned());
    ip(&format!(
        "link add name swe-veth netns {one} type veth peer name swe-veth netns {two}"
    ));
    for (end, address) in [(&a, 1), (&b, 2)] {
        end.ip(&format!("addr add 192.0.2.{address}/24 dev swe-veth"));
        end.ip(&format!("addr add 2001:db8::{address}/64 dev swe-veth nodad"));
        end.ip("link set swe-veth up");
    }
    join(&mut a, &mut b, |sa| {
        sa.peer = "192.0.2.2:4500".parse().unwrap();
        change(sa);
    });
    Some((a, b))
}

/// Gives both ends of a network an SA, changed by `change`, from 192.0.2.1.
pub(super) fn join(a: &mut End, b: &mut End, change: impl Fn(&mut ChildSa)) {
    let (inbound, outbound) = (a.owner.allocate().unwrap(), b.owner.allocate().unwrap());
    let mut sa = gateway_sa(inbound, outbound.to_u32(), 7);
    sa.local = "192.0.2.1:4500".parse().unwrap();
    sa.replay_window = 512;
    change(&mut sa);
    let other = mirrored(&sa, outbound);
    a.owner.install(&sa).unwrap();
    b.owner.install(&other).unwrap();
    a.open(
        &sa,
        &["10.1.0.1/32", "fd01::1/128"],
        &["10.2.0.0/16", "fd02::/16"],
    );
    b.open(
        &other,
        &["10.2.0.7/32", "fd02::7/128"],
        &["10.1.0.0/16", "fd01::/16"],
    );
}

/// An iperf3 server, ended with the test.
pub(super) struct Server(std::process::Child);

impl Server {
    pub(super) fn start(end: &End) -> Self {
        let mut program = end.program("iperf3", "-s");
        let program = program.stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self(program.spawn().unwrap());
        std::thread::sleep(Duration::from_millis(300));
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn has(program: &str) -> bool {
    let found = Program::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if found.is_err() {
        eprintln!("skipped: needs {program}");
    }
    found.is_ok()
}

/// Changes of an SA: UDP and protocol 50, over IPv4 and IPv6.
pub(super) const ENCAPSULATIONS: [fn(&mut ChildSa); 4] = [
    |_| {},
    |sa| sa.encapsulation = Encapsulation::Esp,
    |sa| {
        sa.local = "[2001:db8::1]:4500".parse().unwrap();
        sa.peer = "[2001:db8::2]:4500".parse().unwrap();
    },
    |sa| {
        sa.local = "[2001:db8::1]:4500".parse().unwrap();
        sa.peer = "[2001:db8::2]:4500".parse().unwrap();
        sa.encapsulation = Encapsulation::Esp;
    },
];

#[test]
fn pings_of_every_size_cross_in_every_encapsulation() {
    for (number, change) in (0..).zip(ENCAPSULATIONS) {
        let Some((a, b)) = ends(number, change) else {
            return;
        };
        for size in [0, 56, 1300, 4000] {
            for target in ["10.2.0.7", "fd02::7"] {
                // A sender that has not heard yet what fits loses a packet to hear it: first here, then, of the answer, there.
                let once = format!("-c 1 -W 1 -M dont -s {size} {target}");
                let _ = (0..10).find(|_| a.program("ping", &once).output().unwrap().status.success());
                let arguments = format!("-c 3 -i 0.02 -W 2 -M dont -s {size} {target}");
                let ping = a.program("ping", &arguments).output().unwrap();
                let text = String::from_utf8_lossy(&ping.stdout);
                assert!(ping.status.success(), "{number}: {text}{}{}", a.show(), b.show());
            }
        }
        assert!(b.count(Count::EspReceived) >= 24);
        b.settled(|| b.count(Count::Delivered) == b.count(Count::EspReceived));
        assert_eq!((a.count(Count::BadIcv), b.count(Count::NotDelivered)), (0, 0));
    }
}

#[test]
fn a_deleted_tun_is_given_up_and_another_takes_its_place() {
    let Some((mut a, b)) = ends(20, |_| {}) else {
        return;
    };
    a.ip("link del swe-tun");
    assert_eq!(a.loses(), Some(Lost::Tun(CONTEXT)));
    let tun = a
        .namespace
        .run(|| Tun::create("swe-tun", 1, INNER_MTU).unwrap())
        .unwrap();
    a.ip("addr add 10.1.0.1/32 dev swe-tun");
    a.ip("route add 10.2.0.0/16 dev swe-tun");
    let queue = tun.queues.into_iter().next().unwrap();
    a.plane.as_ref().unwrap().handle().tell(Command::OpenTun {
        context: CONTEXT,
        queue,
        steering: None,
    });
    a.run("ping", "-c 3 -i 0.02 -W 5 10.2.0.7");
    assert!(a.lost.try_recv().is_err(), "once{}", b.show());
}

#[test]
fn streams_cross_complete_and_in_super_packets() {
    let (Some((a, b)), true) = (ends(10, |_| {}), has("iperf3")) else {
        return;
    };
    let mut server = b
        .program("iperf3", "-s -1")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    a.run("iperf3", "-c 10.2.0.7 -n 20M");
    server.wait().unwrap();
    let per_write = b.count(Count::Delivered) / b.count(Count::Writes).max(1);
    assert!(per_write >= 4, "{per_write} packets a write");
    assert!(a.count(Count::EspSent) >= 10_000, "{}", a.show());
    // The last acknowledgements may still be under way.
    b.settled(|| b.count(Count::EspReceived) + b.count(Count::Replayed) == a.count(Count::EspSent));
}
