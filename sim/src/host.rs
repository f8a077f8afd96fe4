//! `starward sim host`: a host behind the gateway, on an ordinary kernel socket.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netio::{Datagram, DatagramSocket, GRO_BUFFER_BYTES, Poller, ReceiveBatch, SendBatch, SocketOptions};

use crate::progress::{Counted, Reporter, print};

const BATCH: usize = 32;

/// An echo host. Ends when its standard input does.
#[derive(Debug, clap::Args)]
pub struct Host {
    /// Address to listen on
    #[arg(long)]
    pub listen: Ipv4Addr,
    /// UDP port
    #[arg(long, default_value_t = 7)]
    pub port: u16,
    /// Print progress as JSON lines
    #[arg(long)]
    pub progress: bool,
}

impl Host {
    /// Runs until standard input ends.
    pub(crate) fn run(self) -> Result<bool, String> {
        let text = |error: netio::Error| error.to_string();
        let address = SocketAddr::new(self.listen.into(), self.port);
        let options = SocketOptions {
            gro: true,
            freebind: false,
            ..SocketOptions::default()
        };
        let socket = DatagramSocket::bind_udp(address, options).map_err(text)?;
        let mut poller = Poller::new(1).map_err(text)?;
        poller.add(&socket, 0).map_err(text)?;
        let ended = Arc::new(AtomicBool::new(false));
        let end = ended.clone();
        std::thread::spawn(move || {
            let mut rest = [0; 64];
            while std::io::stdin().read(&mut rest).is_ok_and(|count| count > 0) {}
            end.store(true, Ordering::Relaxed);
        });
        let mut receive = ReceiveBatch::new(BATCH, GRO_BUFFER_BYTES);
        let mut send = SendBatch::new(1);
        let mut counted = Counted::default();
        let mut reporter = Reporter::new(self.progress);
        while !ended.load(Ordering::Relaxed) {
            poller
                .wait(Some(Duration::from_millis(100)))
                .map_err(|error| error.to_string())?
                .for_each(drop);
            while let Ok(count) = receive.receive(&socket) {
                for received in receive.iter_mut() {
                    let segments = received.data.len().div_ceil(received.segment.max(1));
                    counted.packets += segments as u64;
                    counted.bytes += received.data.len() as u64;
                    let segment = (segments > 1).then(|| u16::try_from(received.segment).unwrap_or(u16::MAX));
                    echo(
                        &mut send,
                        &socket,
                        &Datagram {
                            segment,
                            ..Datagram::to(received.source, received.data)
                        },
                    )?;
                }
                if count < BATCH {
                    break;
                }
            }
            reporter.report(Instant::now(), || counted.to_json());
        }
        print(&counted.to_json());
        Ok(true)
    }
}

/// Sends back; waits while the kernel has no room, for a host loses nothing.
fn echo(send: &mut SendBatch, socket: &DatagramSocket, datagram: &Datagram<'_>) -> Result<(), String> {
    loop {
        match send.send(socket, &[*datagram]) {
            Ok(()) => return Ok(()),
            Err(stopped) if stopped.error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_micros(50));
            }
            // The way back may be gone for a moment: the eNodeB notices the missing echo.
            Err(stopped) if stopped.error.raw_os_error().is_some() => return Ok(()),
            Err(stopped) => return Err(format!("send: {}", stopped.error)),
        }
    }
}
