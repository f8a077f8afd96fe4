//! Measurements, by hand: `cargo test --release -p iftask speed -- --ignored --nocapture --test-threads 1`.
//!
//! Rates depend on who else uses the machine; processor time per packet does not. They are here and not in `benches`, which measures whole nodes,
//! because they look inside the process, at the processor time of each data plane's thread. The logic without the kernel is measured by `benches/pipeline`.

use std::fmt;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netio::{Datagram, DatagramSocket, Poller, ReceiveBatch, SendBatch, SocketOptions};

use super::kernel::{End, Server, ends, has};
use super::xdp::{CORE, host_behind};
use crate::counters::Count;

const SECONDS: u64 = 4;
const INNER: [&str; 2] = ["10.1.0.1:0", "10.2.0.7:7000"];

/// Processor time of the threads of both data planes, in nanoseconds, in the order they were started.
fn plane_times() -> Vec<u64> {
    let mut threads: Vec<(u64, u64)> = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let name = std::fs::read_to_string(path.join("comm")).ok()?;
            let schedstat = std::fs::read_to_string(path.join("schedstat")).ok()?;
            let id = path.file_name()?.to_str()?.parse().ok()?;
            let time = schedstat.split_whitespace().next()?.parse().ok()?;
            (name == "plane-1\n").then_some((id, time))
        })
        .collect();
    threads.sort_unstable();
    threads.into_iter().map(|(_, time)| time).collect()
}

/// What a packet cost that crossed from one end to the other.
struct Cost {
    crossed: u64,
    lost: u64,
    /// Processor time of the data plane at either end, in nanoseconds a packet.
    send: u64,
    receive: u64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            crossed,
            lost,
            send,
            receive,
        } = self;
        write!(
            f,
            "{crossed} crossed, {lost} lost between, send {send} ns and receive {receive} ns each"
        )
    }
}

/// Runs `work` and says what it cost the ends, which were started as pair number `pair`.
fn costs<T>(pair: usize, (a, b): (&End, &End), work: impl FnOnce() -> T) -> (T, Cost) {
    let (before, packets) = (plane_times(), b.count(Count::EspReceived));
    let sent = a.count(Count::EspSent);
    let result = work();
    std::thread::sleep(Duration::from_millis(200));
    let crossed = (b.count(Count::EspReceived) - packets).max(1);
    let after = plane_times();
    let each = |end: usize| (after[2 * pair + end] - before[2 * pair + end]) / crossed;
    let cost = Cost {
        crossed,
        lost: (a.count(Count::EspSent) - sent).saturating_sub(crossed),
        send: each(0),
        receive: each(1),
    };
    (result, cost)
}

/// Sends datagrams of `octets` from a to b, whose addresses are given, over `flows` flows at `rate` a second, or as super-packets of 32. Returns how many were sent and received.
fn datagrams(
    (a, b): (&End, &End),
    [source, destination]: [&str; 2],
    octets: usize,
    flows: usize,
    rate: u64,
    segment: bool,
) -> (u64, u64) {
    let options = SocketOptions::default();
    let bind = |address: &str| {
        let address: SocketAddr = address.parse().unwrap();
        a.run_inside(|| DatagramSocket::bind_udp(address, options).unwrap())
    };
    let receiver = b.run_inside(|| {
        let gro = SocketOptions {
            gro: segment,
            ..options
        };
        DatagramSocket::bind_udp(destination.parse().unwrap(), gro).unwrap()
    });
    let senders: Vec<DatagramSocket> = (0..flows).map(|_| bind(source)).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let counted = scope.spawn(|| {
            let mut poller = Poller::new(1).unwrap();
            poller.add(&receiver, 0).unwrap();
            let mut batch = ReceiveBatch::new(64, netio::GRO_BUFFER_BYTES);
            let mut count = 0;
            loop {
                let waited = poller.wait(Some(Duration::from_millis(300))).unwrap().count();
                match batch.receive(&receiver) {
                    Ok(_) => {
                        count += batch
                            .iter_mut()
                            .map(|r| r.data.len().div_ceil(r.segment) as u64)
                            .sum::<u64>()
                    }
                    Err(_) if waited == 0 && done.load(Ordering::Relaxed) => return count,
                    Err(_) => {}
                }
            }
        });
        let payload = vec![7; octets * 32];
        let datagram = Datagram {
            segment: segment.then_some(octets as u16),
            ..Datagram::to(
                destination.parse().unwrap(),
                if segment { &payload } else { &payload[..octets] },
            )
        };
        let per_call = if segment { 32 } else { 16 };
        let list = vec![datagram; if segment { 1 } else { per_call as usize }];
        let mut batch = SendBatch::new(64);
        let (start, mut sent) = (Instant::now(), 0u64);
        for sender in senders.iter().cycle() {
            let elapsed = start.elapsed();
            if elapsed >= Duration::from_secs(SECONDS) {
                break;
            }
            if sent * 1_000_000 > elapsed.as_micros() as u64 * rate {
                std::thread::sleep(Duration::from_micros(50));
                continue;
            }
            if batch.send(sender, &list).is_ok() {
                sent += per_call;
            }
        }
        done.store(true, Ordering::Relaxed);
        (sent, counted.join().unwrap())
    })
}

#[test]
#[ignore = "loads the machine for a minute and prints rates; see the head of this file"]
fn speed() {
    let (Some((a, b)), true) = (ends(30, |_| {}), has("iperf3")) else {
        return;
    };
    let server = Server::start(&b);
    for streams in [1, 1, 1, 4] {
        let run = || {
            let arguments = format!("-c 10.2.0.7 -t {SECONDS} -J -P {streams}");
            let output = a
                .program("iperf3", &arguments)
                .stderr(Stdio::null())
                .output()
                .unwrap();
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap()
        };
        let (bits, costs) = costs(0, (&a, &b), run);
        println!("TCP, {streams} streams: {:.2} Gbit/s; {costs}", bits / 1e9);
    }
    drop(server);
    for (flows, segment, rates) in [
        (1, false, [150, 250, 350]),
        (60, false, [150, 200, 300]),
        (1, true, [500, 800, 1000]),
    ] {
        for rate in rates {
            let ((sent, received), costs) = costs(0, (&a, &b), || {
                datagrams((&a, &b), INNER, 64, flows, rate * 1000, segment)
            });
            let lost = 100.0 - received as f64 * 100.0 / sent.max(1) as f64;
            let kind = if segment { "super-packets" } else { "plain" };
            println!(
                "UDP, 64 bytes, {flows} flows, {kind}, {rate} kpps wanted: {} kpps sent, {lost:.2} % lost; {costs}",
                sent / SECONDS / 1000
            );
        }
    }
    println!("a: {}b: {}", a.show(), b.show());
}

/// AF_XDP at both ends against sockets at both ends, by turns; medians and their ratio (above 1: AF_XDP needs less).
#[test]
#[ignore = "loads the machine for two minutes and prints figures; see the head of this file"]
fn speed_of_af_xdp() {
    const RUNS: usize = 5;
    let (Some((a, b)), Some((xa, xb))) = (ends(31, |_| {}), ends(32, |_| {})) else {
        return;
    };
    let _ports = [xa.use_xdp(), xb.use_xdp()];
    // Both know the way from now on.
    xb.run("ping", "-c 3 -i 0.1 -W 5 10.1.0.1");
    // The longer ones are ESP packets of 1400 octets, none of them cut.
    for (octets, rate) in [(64, 100_000), (1330, 50_000)] {
        let mut all = [const { [const { Vec::new() }; 2] }; 2];
        for _ in 0..RUNS {
            for (pair, (ends, all)) in [(&a, &b), (&xa, &xb)].into_iter().zip(&mut all).enumerate() {
                // The way is forgotten while nothing comes back.
                ends.1.run("ping", "-c 1 -W 5 10.1.0.1");
                ends.0.run("ping", "-c 1 -W 5 10.2.0.7");
                let ((sent, received), cost) =
                    costs(pair, ends, || datagrams(ends, INNER, octets, 1, rate, false));
                println!("{octets} octets, pair {pair}: {sent} sent, {received} received; {cost}");
                let [send, receive] = all;
                send.push(cost.send);
                receive.push(cost.receive);
            }
        }
        let [sockets, xdp] = all.map(|figures| {
            figures.map(|mut figures| {
                figures.sort_unstable();
                figures[RUNS / 2]
            })
        });
        for (what, (sockets, xdp)) in ["send", "receive"].iter().zip(sockets.iter().zip(&xdp)) {
            let ratio = *sockets as f64 / *xdp as f64;
            println!("{octets} octets, {what}: sockets {sockets} ns, AF_XDP {xdp} ns, ratio {ratio:.2}");
        }
    }
}

/// AF_XDP at the clear side against the TUN, with sockets at the encrypted side, by turns: of the data plane in the middle, medians and their ratio.
#[test]
#[ignore = "loads the machine for two minutes and prints figures; see the head of this file"]
fn speed_of_clear_af_xdp() {
    const RUNS: usize = 5;
    let (Some(by_tun), Some(by_xdp)) = (ends(33, |_| {}), ends(34, |_| {})) else {
        return;
    };
    let hosts = [host_behind(&by_tun.0, 33), host_behind(&by_xdp.0, 34)];
    let _port = by_xdp.0.use_xdp_of(CORE);
    for (octets, rate) in [(64, 50_000), (1330, 30_000)] {
        let mut all = [const { [const { Vec::new() }; 2] }; 2];
        for _ in 0..RUNS {
            let pairs = [(0, &by_tun), (2, &by_xdp)].into_iter().zip(&hosts);
            for (((middle, (a, b)), host), all) in pairs.zip(&mut all) {
                host.run("ping", "-c 3 -i 0.1 -W 5 10.2.0.7");
                for (n, figures) in all.iter_mut().enumerate() {
                    let (ends, addresses) = match n {
                        0 => ((host, b), ["10.1.5.1:0", "10.2.0.7:7000"]),
                        _ => ((b, host), ["10.2.0.7:0", "10.1.5.1:7000"]),
                    };
                    let before = plane_times();
                    let (sent, received) = datagrams(ends, addresses, octets, 1, rate, false);
                    let cost = (plane_times()[middle] - before[middle]) / received.max(1);
                    println!(
                        "{octets} octets: {sent} sent, {received} received; {cost} ns; {}",
                        a.name()
                    );
                    figures.push(cost);
                }
            }
        }
        let [tun, xdp] = all.map(|figures| {
            figures.map(|mut figures| {
                figures.sort_unstable();
                figures[RUNS / 2]
            })
        });
        for (what, (tun, xdp)) in ["to the peer", "from the peer"].iter().zip(tun.iter().zip(&xdp)) {
            let ratio = *tun as f64 / *xdp as f64;
            println!("{octets} octets, {what}: TUN {tun} ns, AF_XDP {xdp} ns, ratio {ratio:.2}");
        }
    }
}
