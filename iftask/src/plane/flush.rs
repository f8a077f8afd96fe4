//! Bursts on their way to the kernel, and what became of them.

use netio::Datagram;
use sadb::SaCounter;

use super::bursts::MOST_BURSTS;
use super::engine::Engine;
use super::io::Io;
use super::paths::learn;
use crate::counters::{Call, Count};

impl<I: Io> Engine<I> {
    /// Hands all bursts to the kernel.
    pub(crate) fn flush(&mut self) {
        self.seal_runs();
        let mut index = 0;
        while let Some((burst, _)) = self.bursts.get(index) {
            index = match self.strays.output(burst.exit.spi.slot()) {
                Some(worker) => {
                    self.hand_on_burst(index, worker);
                    self.account(index, index + 1, false);
                    index + 1
                }
                None => self.flush_from(index),
            };
        }
        self.bursts.clear();
    }

    /// Sends the bursts from `start` on that leave in the same way, with as few calls as possible. Returns the index of the next one.
    fn flush_from(&mut self, start: usize) -> usize {
        let Some((first, bytes)) = self.bursts.get(start) else {
            return self.bursts.len();
        };
        let (socket, dont_fragment) = (first.exit.socket, first.exit.dont_fragment);
        let nothing = Datagram::to(first.exit.destination, bytes.get(..0).unwrap_or(bytes));
        let mut datagrams = [nothing; MOST_BURSTS];
        let mut owners = [0; MOST_BURSTS];
        let (mut index, mut count) = (start, 0);
        while let Some((burst, bytes)) = self.bursts.get(index) {
            let leaves_so = (burst.exit.socket, burst.exit.dont_fragment) == (socket, dont_fragment);
            if !leaves_so || index > start && self.strays.output(burst.exit.spi.slot()).is_some() {
                break;
            }
            for datagram in burst.datagrams(bytes) {
                if count == MOST_BURSTS {
                    transmit(
                        &mut self.io,
                        &mut self.tally,
                        (socket, dont_fragment),
                        &datagrams,
                        |n, lost| {
                            let burst = owners.get(n).copied().unwrap_or(start);
                            self.failed.push(Failed { burst, ..lost });
                        },
                    );
                    count = 0;
                }
                if let (Some(place), Some(owner)) = (datagrams.get_mut(count), owners.get_mut(count)) {
                    (*place, *owner) = (datagram, index);
                }
                count += 1;
            }
            index += 1;
        }
        let rest = datagrams.get(..count).unwrap_or(&datagrams);
        transmit(
            &mut self.io,
            &mut self.tally,
            (socket, dont_fragment),
            rest,
            |n, lost| {
                let burst = owners.get(n).copied().unwrap_or(start);
                self.failed.push(Failed { burst, ..lost });
            },
        );
        self.account(start, index, true);
        index
    }

    /// Counts the bursts from `start` to `end` as sent, or as dropped if they are among the failed. What another worker sends it counts itself as sent by the node.
    fn account(&mut self, start: usize, end: usize, is_sent_here: bool) {
        for index in start..end {
            let Some((burst, bytes)) = self.bursts.get(index) else {
                break;
            };
            let spi = burst.exit.spi;
            let packets = u64::from(burst.packets);
            let failures = || self.failed.iter().filter(|failed| failed.burst == index);
            let lost = failures().map(|failed| failed.packets).sum::<u64>().min(packets);
            let too_long = failures().any(|failed| failed.too_long);
            let segment = burst.segment;
            let sent_inner = share(burst.inner, packets - lost, packets);
            let (slots, entries) = self.table.split();
            if too_long
                && let Some(sa) = entries.get_mut(spi)
                && let Some(mtu) = sa.limits.narrower(segment)
            {
                // The link does not say how much it takes. The next such packet is answered.
                learn(slots, sa, mtu, self.now_ns);
                // The SA that replaces it takes it over.
                entries.index_peers();
            }
            if packets > lost {
                if let Some(sa) = entries.get_mut(spi) {
                    sa.sent_ns = self.now_ns;
                }
                if let Some(worker) = slots.get(spi.slot()) {
                    if let Some(cells) = worker.counters(spi) {
                        cells.sent(packets - lost, sent_inner);
                    }
                    if let Some(hot) = worker.hot(spi) {
                        hot.sent_at(self.now_ns);
                    }
                }
                let octets = share(bytes.len() as u64, packets - lost, packets);
                if is_sent_here {
                    self.tally.add(Count::EspSent, packets - lost, octets);
                }
                self.tally.of_slot(spi.slot(), packets - lost);
            }
            if lost > 0 {
                slots.count(spi, |cells| cells.add(SaCounter::DropSend, lost));
                let octets = share(bytes.len() as u64, lost, packets);
                self.tally.add(Count::NotSent, lost, octets);
            }
        }
        self.failed.clear();
    }
}

/// What falls to `part` of `all` packets. Nearly always everything, for which nothing is divided.
fn share(octets: u64, part: u64, all: u64) -> u64 {
    if part == all {
        octets
    } else {
        octets * part / all.max(1)
    }
}

/// Packets of a burst that the kernel refused.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Failed {
    pub(super) burst: usize,
    pub(super) packets: u64,
    /// They are longer than the interface takes in one piece.
    pub(super) too_long: bool,
}

/// Sends all datagrams; calls `failed` with the number of each that the kernel refuses, and what that costs.
pub(super) fn transmit<I: Io>(
    io: &mut I,
    tally: &mut crate::counters::Tally,
    (socket, dont_fragment): (usize, bool),
    mut datagrams: &[Datagram<'_>],
    mut failed: impl FnMut(usize, Failed),
) {
    let all = datagrams.len();
    while !datagrams.is_empty() {
        tally.one(Count::GsoSends, 0);
        tally.call(Call::Send, datagrams.iter().map(Datagram::segments).sum());
        let Err(error) = io.send(socket, dont_fragment, datagrams) else {
            return;
        };
        let done = all - datagrams.len() + error.sent;
        let is_full = error.error.kind() == std::io::ErrorKind::WouldBlock;
        // When the queue is full, what follows would not fit either.
        let left = datagrams.get(error.sent..).unwrap_or(&[]);
        let refused = if is_full { left.len() } else { 1 };
        for (n, datagram) in left.iter().take(refused).enumerate() {
            let on_their_way = if n == 0 { error.segments } else { 0 };
            let lost = Failed {
                packets: datagram.segments().saturating_sub(on_their_way) as u64,
                too_long: error.is_too_long(),
                ..Failed::default()
            };
            failed(done + n, lost);
        }
        if is_full {
            return;
        }
        tracing::debug!("cannot send: {}", error.error);
        datagrams = datagrams.get(error.sent + 1..).unwrap_or(&[]);
    }
}
