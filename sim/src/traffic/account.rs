//! What one direction received: losses, order, duplicates, times.

use serde_json::{Value, json};

use super::wire::Mark;
use crate::histogram::Histogram;

/// Packets back from the newest of a flow in which a duplicate is known.
const WINDOW: u64 = 64;

/// What was received in a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received {
    flows: Vec<Flow>,
    /// Each counted once.
    pub packets: u64,
    /// Octets of their inner packets.
    bytes: u64,
    duplicates: u64,
    /// Came after one with a higher number (RFC 4737 3).
    reordered: u64,
    /// The longest time without a packet within one flow, in nanoseconds.
    longest_gap: u64,
    /// Until when packets should come: CLOCK_MONOTONIC, in nanoseconds.
    end: u64,
    latency: Histogram,
    /// Times of the first and the last, in nanoseconds.
    span: Option<(u64, u64)>,
}

/// What a flow remembers.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    /// After the newest.
    next: u64,
    /// Bit n: number `next - 1 - n` came.
    seen: u64,
    /// When the latest came, in nanoseconds; 0: none did.
    latest: u64,
}

impl Received {
    /// Nothing received yet, on so many flows, whose packets should come until `end` (CLOCK_MONOTONIC, in nanoseconds).
    pub(crate) fn new(flows: usize, end: u64) -> Self {
        Self {
            flows: vec![Flow::default(); flows],
            end,
            ..Self::default()
        }
    }

    /// A packet came at `now` (nanoseconds); `length` octets of inner packet. One of a flow that does not exist is ignored.
    pub(crate) fn record(&mut self, mark: Mark, length: usize, now: u64) {
        let flow = usize::try_from(mark.flow).ok();
        let Some(flow) = flow.and_then(|flow| self.flows.get_mut(flow)) else {
            return;
        };
        if mark.sequence >= flow.next {
            let ahead = (mark.sequence - flow.next).saturating_add(1);
            flow.seen = if ahead < WINDOW { flow.seen << ahead } else { 0 } | 1;
            flow.next = mark.sequence.saturating_add(1);
        } else {
            let back = flow.next - 1 - mark.sequence;
            let bit = if back < WINDOW { 1 << back } else { 0 };
            if flow.seen & bit != 0 {
                self.duplicates += 1;
                return;
            }
            flow.seen |= bit;
            self.reordered += 1;
        }
        if flow.latest != 0 {
            self.longest_gap = self.longest_gap.max(now.saturating_sub(flow.latest));
        }
        flow.latest = now;
        self.packets += 1;
        self.bytes += length as u64;
        self.latency.record_ns(now.saturating_sub(mark.time));
        let (first, _) = self.span.unwrap_or((now, now));
        self.span = Some((first, now));
    }

    /// Whether no more packets are planned at `now` (nanoseconds).
    pub(crate) fn is_over(&self, now: u64) -> bool {
        now >= self.end
    }

    /// For the other end, or for machines, when the stream is over.
    pub(crate) fn to_json(&self) -> Value {
        let (first, last) = self.span.unwrap_or_default();
        let seconds = last.saturating_sub(first) as f64 / 1e9;
        // A flow of which nothing more came has its gap at the end, also when nothing came of any other.
        let end = self.end.max(last);
        let begun = self.flows.iter().filter(|flow| flow.latest != 0);
        let ends = begun.map(|flow| end.saturating_sub(flow.latest)).max();
        let gap = self.longest_gap.max(ends.unwrap_or_default());
        json!({
            "received": self.packets,
            "bytes": self.bytes,
            "duplicates": self.duplicates,
            "reordered": self.reordered,
            "longest_gap_us": gap / 1000,
            "seconds": seconds,
            "latency_us": self.latency.to_json(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(numbers: &[u64]) -> Value {
        let mut received = Received::new(2, 0);
        for (step, number) in numbers.iter().enumerate() {
            let mark = Mark {
                run: 1,
                flow: 1,
                sequence: *number,
                time: 1_000,
            };
            received.record(mark, 100, 2_000 + 1_000 * step as u64);
        }
        received.to_json()
    }

    #[test]
    fn every_packet_counts_once() {
        let all: Vec<u64> = (0..1000).collect();
        let report = receive(&all);
        assert_eq!(
            (&report["received"], &report["bytes"]),
            (&json!(1000), &json!(100_000))
        );
        assert_eq!(
            (&report["duplicates"], &report["reordered"]),
            (&json!(0), &json!(0))
        );
        // What was lost is simply not there.
        let odd: Vec<u64> = (0..1000).filter(|number| number % 2 == 1).collect();
        let report = receive(&odd);
        assert_eq!(
            (&report["received"], &report["reordered"]),
            (&json!(500), &json!(0))
        );
    }

    #[test]
    fn late_packets_and_duplicates_are_told_apart() {
        let report = receive(&[0, 1, 3, 2, 2, 3, 4]);
        assert_eq!(report["received"], 5);
        assert_eq!(
            (&report["duplicates"], &report["reordered"]),
            (&json!(2), &json!(1))
        );
        // Beyond the window a packet is late, and nothing more is known of it.
        let report = receive(&[200, 100, 199, 199]);
        assert_eq!(
            (&report["received"], &report["reordered"]),
            (&json!(3), &json!(2))
        );
        assert_eq!(report["duplicates"], 1);
        // A jump of exactly the window forgets everything before.
        let report = receive(&[0, 64, 0]);
        assert_eq!(
            (&report["received"], &report["duplicates"]),
            (&json!(3), &json!(0))
        );
        let report = receive(&[0, 63, 0]);
        assert_eq!(
            (&report["received"], &report["duplicates"]),
            (&json!(2), &json!(1))
        );
    }

    #[test]
    fn packets_that_never_come_again_leave_a_gap_to_the_planned_end() {
        let gap = |latest: &[u64], end| {
            let mut received = Received::new(latest.len(), end);
            for (flow, latest) in (0..).zip(latest) {
                for (sequence, now) in (0..).zip([1_000_000, *latest]) {
                    let mark = Mark {
                        run: 1,
                        flow,
                        sequence,
                        time: 0,
                    };
                    received.record(mark, 100, now);
                }
            }
            received.to_json()["longest_gap_us"].clone()
        };
        // Every flow ended at once, long before it should.
        assert_eq!(gap(&[2_000_000, 2_000_000], 7_000_000_000), 6_998_000);
        // One ended, the other went on.
        assert_eq!(gap(&[2_000_000, 7_000_000_000], 7_000_000_000), 6_999_000);
        assert_eq!(gap(&[2_000_000, 2_500_000], 2_600_000), 1_500);
        // What comes after the planned end is no gap less.
        assert_eq!(gap(&[2_000_000, 9_000_000], 3_000_000), 8_000);
    }

    #[test]
    fn flows_that_do_not_exist_and_the_largest_number_do_no_harm() {
        let mut received = Received::new(1, 0);
        let mark = |flow, sequence| Mark {
            run: 1,
            flow,
            sequence,
            time: 5_000,
        };
        received.record(mark(1, 0), 100, 1_000);
        assert_eq!(received.packets, 0);
        received.record(mark(0, u64::MAX), 100, 1_000);
        received.record(mark(0, 0), 100, 9_000_000);
        let report = received.to_json();
        assert_eq!(
            (&report["received"], &report["longest_gap_us"]),
            (&json!(2), &json!(8_999))
        );
        assert_eq!(report["latency_us"]["max"], 8_995.0);
    }
}
