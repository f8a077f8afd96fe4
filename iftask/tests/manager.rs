//! A whole `iftask` on the in-process bus: the test plays `sit`, `sct` and `rmctrl`. Sockets are loopback sockets, the TUN is a pair of datagram sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::messages::common::{Execute, Output};
use bus::messages::rmctrl::{GetSlotMap, SlotMap};
use bus::messages::sct::{ConfigChanged, ConfigText, GetConfig};
use bus::messages::sit::{OpenEsp, OpenRings, OpenSlots, OpenTun, Opened};
use bus::messages::slots::{GetSlotLoads, HandOverSlots, PrepareSlots, TakeSlots};
use bus::{Address, Bus, Facility, Hub, Message, dispatch};
use crypto::Cipher;
use esp::{InboundSa, OutboundSa, ReplayWindow, Transform};
use sadb::{
    ChildSa, DfPolicy, DscpPolicy, Encapsulation, IkeSpi, Lifetimes, Mode, SaKeys, SecretBytes, Selector,
    Selectors, Slot, SlotOwner, SlotSegments, StrayRing,
};
use task::{Packet, Shutdown, testing};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const BOUND: &str = "config
  context isp
    crypto template enb ikev2-dynamic
    exit
    wsg-service enb
      bind address 127.0.0.1 crypto-template enb
    exit
  exit
end
";
const UNBOUND: &str = "config
  context isp
  exit
end
";
const IFTASK: Address = Address::new(Facility::Iftask, 1);
const SLOT: Slot = Slot::MIN;
const DEADLINE: Duration = Duration::from_secs(60);
/// The context of the configuration: `local` is 1.
const CONTEXT: u32 = 2;

/// What `sit` holds, and how often it was asked for each kind of thing.
struct Sit {
    segments: HashMap<u32, SlotSegments>,
    udp: UdpSocket,
    tun: UnixDatagram,
    rings: [StrayRing; 2],
    asked: HashMap<&'static str, u32>,
}

impl Sit {
    fn answer(&mut self, packet: &Packet) -> (Opened, Vec<OwnedFd>) {
        let mut opened = Opened::default();
        let mut fds = Vec::new();
        let mut give = |name: String, fd: OwnedFd| {
            opened.names.push(name);
            fds.push(fd);
        };
        let kind = packet.header.message;
        if kind == OpenSlots::TYPE {
            for number in packet.decode::<OpenSlots>().unwrap().slots {
                let slot = Slot::new(u8::try_from(number).unwrap()).unwrap();
                let held = self
                    .segments
                    .entry(number)
                    .or_insert_with(|| SlotSegments::with_capacity(slot, 16).unwrap());
                let segments = held.worker_fds().unwrap();
                give(format!("slot-{number}-keys"), segments.keys);
                give(format!("slot-{number}-hot"), segments.hot);
                give(format!("slot-{number}-counters"), segments.counters);
            }
            *self.asked.entry("slots").or_default() += 1;
        } else if kind == OpenEsp::TYPE {
            let request = packet.decode::<OpenEsp>().unwrap();
            assert_eq!(
                (request.context.as_str(), request.address.as_str()),
                ("isp", "127.0.0.1")
            );
            give("udp4500".to_owned(), self.udp.try_clone().unwrap().into());
            *self.asked.entry("esp").or_default() += 1;
        } else if kind == OpenTun::TYPE {
            assert_eq!(packet.decode::<OpenTun>().unwrap().context, "isp");
            give("tun".to_owned(), self.tun.try_clone().unwrap().into());
            *self.asked.entry("tun").or_default() += 1;
        } else if kind == OpenRings::TYPE {
            assert_eq!(self.asked.get("slots"), Some(&1), "rings before slots");
            // Between this iftask and its ipsecmgr: there is one worker.
            for (direction, ring) in ["to", "from"].into_iter().zip(&self.rings) {
                let (memory, event) = ring.fds();
                give(
                    format!("ring-{direction}-1"),
                    memory.try_clone_to_owned().unwrap(),
                );
                give(
                    format!("event-{direction}-1"),
                    event.try_clone_to_owned().unwrap(),
                );
            }
            *self.asked.entry("rings").or_default() += 1;
        }
        (opened, fds)
    }
}

/// A node with nothing in it but an `iftask`.
struct Node {
    hub: Hub,
    sit: Arc<Mutex<Sit>>,
    owner: SlotOwner,
    /// The other end of the TUN.
    clear: UnixDatagram,
    /// The peer's socket.
    peer: UdpSocket,
    gateway: SocketAddr,
    configuration: Arc<Mutex<String>>,
    version: Arc<AtomicU64>,
    sct: Bus,
}

impl Node {
    fn new() -> Self {
        let hub = Hub::new();
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        let (tun, clear) = UnixDatagram::pair().unwrap();
        tun.set_nonblocking(true).unwrap();
        clear.set_read_timeout(Some(DEADLINE)).unwrap();
        let segments = SlotSegments::with_capacity(SLOT, 16).unwrap();
        let owner = SlotOwner::map(&segments.owner_fds().unwrap()).unwrap();
        let gateway = udp.local_addr().unwrap();
        let sit = Sit {
            segments: HashMap::from([(1, segments)]),
            udp,
            tun,
            rings: [(); 2].map(|()| StrayRing::create(0).unwrap()),
            asked: HashMap::new(),
        };
        let configuration = Arc::new(Mutex::new(BOUND.to_owned()));
        let version = Arc::new(AtomicU64::new(1));
        let (sct, mut server) = Bus::in_process(&hub, Address::only(Facility::Sct)).unwrap();
        let (text, number) = (configuration.clone(), version.clone());
        tokio::spawn(async move {
            while let Some(incoming) = server.next().await {
                let (version, text) = (number.load(Ordering::SeqCst), text.lock().unwrap().clone());
                dispatch!(incoming, { GetConfig => |_, responder| responder.reply(ConfigText { version, text }) });
            }
        });
        let (rmctrl, mut server) = Bus::in_process(&hub, Address::only(Facility::Rmctrl)).unwrap();
        tokio::spawn(async move {
            let _rmctrl = rmctrl;
            while let Some(incoming) = server.next().await {
                // Slots 1 to 3 are ours, the others nobody's.
                let workers = (1..=255).map(|slot| u32::from(slot <= 3)).collect();
                let map = SlotMap::of_workers(workers);
                dispatch!(incoming, { GetSlotMap => |_, responder| responder.reply(map) });
            }
        });
        Self {
            hub,
            sit: Arc::new(Mutex::new(sit)),
            owner,
            clear,
            peer,
            gateway,
            configuration,
            version,
            sct,
        }
    }

    /// Starts one life and waits until it has asked for everything.
    async fn start(&self) -> (JoinHandle<()>, Shutdown) {
        self.sit.lock().unwrap().asked.clear();
        let (task, channel) = testing::task(&self.hub, IFTASK, 1, Path::new("/nonexistent")).unwrap();
        let shutdown = task.shutdown.clone();
        let sit = self.sit.clone();
        tokio::spawn(testing::play_sit(channel, move |packet| {
            sit.lock().unwrap().answer(packet)
        }));
        let life = tokio::spawn(async move { iftask::run(task).await.unwrap() });
        while self.sit.lock().unwrap().asked.len() < 4 {
            sleep(Duration::from_millis(5)).await;
        }
        (life, shutdown)
    }

    async fn execute(&self, command: &str, parameter: &str) -> Output {
        let bus = Bus::in_process_client(&self.hub, Address::new(Facility::Cli, 1));
        let request = Execute::new(command, &[(parameter, "")]);
        bus.request(IFTASK, &request, DEADLINE).await.unwrap()
    }

    /// Installs the gateway's end of a tunnel; gives the peer's.
    fn tunnel(&mut self) -> (OutboundSa, InboundSa) {
        let transform = Transform::new(Cipher::AesGcm256Icv16, None).unwrap();
        let keys = |seed: u8| SaKeys {
            encryption: SecretBytes::new("key", &[seed; 32]).unwrap(),
            salt: SecretBytes::new("salt", &[seed; 4]).unwrap(),
            integrity: SecretBytes::EMPTY,
        };
        let any = Selector::any_port("0.0.0.0".parse().unwrap(), "255.255.255.255".parse().unwrap());
        let any = Selectors::new(&[any]).unwrap();
        let spi = self.owner.allocate().unwrap();
        let sa = ChildSa {
            inbound_spi: spi,
            outbound_spi: 0xabcd,
            inbound_active: true,
            outbound_active: true,
            algorithms: transform.algorithms(),
            inbound_keys: keys(1),
            outbound_keys: keys(2),
            mode: Mode::Tunnel,
            esn: false,
            encapsulation: Encapsulation::Udp,
            local: self.gateway,
            peer: self.peer.local_addr().unwrap(),
            context: CONTEXT,
            replay_window: 64,
            local_selectors: any,
            remote_selectors: any,
            fragment_mtu: 0,
            inner_mtu: 0,
            outer_mtu: 1500,
            shared: false,
            df: DfPolicy::Copy,
            dscp: DscpPolicy::Copy,
            ike_sa: IkeSpi::new(SLOT, 1, 1).unwrap(),
            lifetimes: Lifetimes::default(),
        };
        self.owner.install(&sa).unwrap();
        (
            OutboundSa::new(transform, spi.to_u32(), &keys(1), false).unwrap(),
            InboundSa::new(transform, &keys(2), false).unwrap(),
        )
    }
}

/// A packet of protocol 253, which nobody looks into.
fn packet(payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, 253, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let sum = esp::Checksum::new().with(&packet).finish();
    packet[10..12].copy_from_slice(&sum);
    packet.extend(payload);
    packet
}

fn seal(sa: &mut OutboundSa, inner: &[u8], sequence: u64) -> Vec<u8> {
    let transform = sa.transform();
    let mut buffer = vec![0; transform.sealed_len(inner.len())];
    buffer[transform.header_len()..][..inner.len()].copy_from_slice(inner);
    sa.seal(&mut buffer, inner.len(), esp::IPV4, sequence).unwrap();
    buffer
}

fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { timeout(Duration::from_secs(30), test).await.expect("in time") });
}

#[test]
fn packets_cross_in_two_lives_and_show_tells() {
    run(async {
        let mut node = Node::new();
        let (mut outbound, mut inbound) = node.tunnel();
        let mut window = ReplayWindow::new(64);
        for life in 1..=2u64 {
            let (running, shutdown) = node.start().await;
            let request = packet(format!("request {life}").as_bytes());
            node.peer
                .send_to(&seal(&mut outbound, &request, life), node.gateway)
                .unwrap();
            let mut buffer = [0; 2048];
            let length = node.clear.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..12], [0; 12]);
            assert_eq!(buffer[12..length], request);

            let reply = packet(b"reply");
            node.clear.send(&[&[0; 12][..], &reply].concat()).unwrap();
            let length = node.peer.recv(&mut buffer).unwrap();
            let opened = inbound.open(&mut buffer[..length], &mut window).unwrap();
            assert_eq!(opened.payload, &reply);
            assert_eq!(opened.sequence, life, "the second life goes on counting");

            // Numbers become visible at the end of a round.
            let shown = |label: &str| format!("    {label:<36}: {:>20}\n", 1);
            let text = loop {
                let text = node.execute("show iftask", "statistics").await.text;
                if text.contains(&shown("ESP packets sent")) {
                    break text;
                }
                sleep(Duration::from_millis(10)).await;
            };
            assert!(text.contains(&shown("ESP packets received")), "{text}");
            let summary = node.execute("show iftask", "summary").await;
            assert_eq!(summary.totals[0].value, 1, "child SAs");
            assert!(summary.heading.contains("Instance") && summary.text.trim_start().starts_with('1'));
            shutdown.request(Duration::from_secs(1));
            running.await.unwrap();
            let asked = node.sit.lock().unwrap().asked.clone();
            assert_eq!(
                asked,
                HashMap::from([("slots", 1), ("rings", 1), ("esp", 1), ("tun", 1)])
            );
        }
    });
}

#[test]
fn an_unbound_service_is_deaf() {
    run(async {
        let mut node = Node::new();
        let (mut outbound, _) = node.tunnel();
        let (running, shutdown) = node.start().await;
        UNBOUND.clone_into(&mut node.configuration.lock().unwrap());
        let version = node.version.fetch_add(1, Ordering::SeqCst) + 1;
        node.sct.publish(&ConfigChanged { version });
        let soon = Some(Duration::from_millis(100));
        node.clear.set_read_timeout(soon).unwrap();
        // Until it has taken notice packets still cross.
        for sequence in 1..100 {
            let sealed = seal(&mut outbound, &packet(b"request"), sequence);
            node.peer.send_to(&sealed, node.gateway).unwrap();
            if node.clear.recv(&mut [0; 2048]).is_err() {
                shutdown.request(Duration::from_secs(1));
                return running.await.unwrap();
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("the socket is still read");
    });
}

#[test]
fn other_commands_are_refused() {
    run(async {
        let node = Node::new();
        let (_running, _shutdown) = node.start().await;
        let output = node.execute("show version", "").await;
        assert!(
            output.failure.contains("is not answered by iftask"),
            "{}",
            output.failure
        );
    });
}

#[test]
fn slots_go_and_come_by_the_steps_of_moves() {
    run(async {
        let mut node = Node::new();
        let (mut outbound, _) = node.tunnel();
        let (running, shutdown) = node.start().await;
        let bus = Bus::in_process_client(&node.hub, Address::only(Facility::Rmctrl));
        let mut sequence = 0;
        let mut send = |node: &Node| {
            sequence += 1;
            let sealed = seal(&mut outbound, &packet(&[sequence]), sequence.into());
            node.peer.send_to(&sealed, node.gateway).unwrap();
            sequence
        };
        let arrives = |node: &Node| {
            let mut buffer = [0; 2048];
            let length = node.clear.recv(&mut buffer).ok()?;
            buffer[..length].last().copied()
        };
        let first = send(&node);
        assert_eq!(arrives(&node), Some(first));

        // A configuration that it does not have yet.
        let prepare = |slots: &[u32], version, configuration| PrepareSlots {
            slots: slots.to_vec(),
            from: 2,
            version,
            configuration,
        };
        let held = bus
            .request(IFTASK, &prepare(&[9], 5, 99), DEADLINE)
            .await
            .unwrap();
        assert!(held.failure.starts_with("not yet: "), "{}", held.failure);

        // What was sent before it lets go is served, also when nobody has read it yet.
        let second = send(&node);
        let hand_over = HandOverSlots {
            slots: vec![1],
            to: 2,
            version: 5,
        };
        for _ in 0..2 {
            let held = bus.request(IFTASK, &hand_over, DEADLINE).await.unwrap();
            assert_eq!((held.slots, held.failure.as_str(), held.lives), (vec![], "", 0));
        }
        assert_eq!(arrives(&node), Some(second));

        // It comes back: what is sent meanwhile is held, and served in order.
        let comes_back = prepare(&[1, 9], 6, 1);
        loop {
            let held = bus.request(IFTASK, &comes_back, DEADLINE).await.unwrap();
            if held.failure.is_empty() {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
        let sent = [send(&node), send(&node)];
        let soon = Some(Duration::from_millis(100));
        node.clear.set_read_timeout(soon).unwrap();
        assert_eq!(arrives(&node), None);
        node.clear.set_read_timeout(Some(DEADLINE)).unwrap();
        let take = TakeSlots {
            slots: vec![1],
            from: 2,
            version: 6,
        };
        for _ in 0..2 {
            let held = bus.request(IFTASK, &take, DEADLINE).await.unwrap();
            assert_eq!((held.slots, held.failure.as_str()), (vec![1], ""));
        }
        assert_eq!([arrives(&node), arrives(&node)], sent.map(Some));

        // What the map knows of no longer, or never did.
        let late = TakeSlots { version: 1, ..take };
        let held = bus.request(IFTASK, &late, DEADLINE).await.unwrap();
        assert_eq!(
            held.failure,
            "there is no move of these slots that began with version 1"
        );
        let wrong = HandOverSlots {
            slots: vec![256],
            ..hand_over
        };
        let held = bus.request(IFTASK, &wrong, DEADLINE).await.unwrap();
        assert_eq!(held.failure, "there is no slot 256");
        let loads = bus.request(IFTASK, &GetSlotLoads {}, DEADLINE).await.unwrap();
        let carried: Vec<_> = loads.loads.iter().map(|load| (load.slot, load.packets)).collect();
        assert_eq!(carried, [(1, 4)]);
        shutdown.request(Duration::from_secs(1));
        running.await.unwrap();
    });
}
