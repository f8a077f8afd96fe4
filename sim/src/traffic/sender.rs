//! Numbered packets at a rate, in bursts that go round the flows.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::mix::{Mix, Sizes};
use super::wire::Mark;

/// Bursts that are handed over before anything else gets its turn.
const ROUND: u64 = 32;
/// A sender that is late by more than this does not try to make up for it: a burst of old packets would only measure queues.
const MAKE_UP: Duration = Duration::from_millis(20);

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stream {
    /// Tells runs apart.
    pub run: u32,
    pub flows: u32,
    /// Octets of an inner packet, or a mix of them.
    pub size: Size,
    /// Packets of one flow and one size that are sent in one piece, cut by the kernel (GSO) if more than one.
    pub burst: u16,
    /// Packets in a second; `None`: as many as go.
    pub rate: Option<u64>,
    pub time: Duration,
}

/// Octets of inner packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Fixed(u16),
    Mixed(Mix),
}

/// Packets of one flow, one size and consecutive numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Burst {
    pub flow: usize,
    /// Octets of each inner packet.
    pub length: usize,
    pub count: usize,
    /// Of the first.
    pub mark: Mark,
}

/// Takes packets along.
pub(crate) trait Carrier {
    /// Takes a burst; what was taken is on its way after the next [`Carrier::flush`].
    fn carry(&mut self, burst: &Burst);

    /// Sends what was taken; gives the packets that the kernel took.
    fn flush(&mut self) -> Result<u64, String>;
}

/// A stream being sent.
pub(crate) struct Sender {
    stream: Stream,
    sizes: Sizes,
    start: Instant,
    /// Numbers, for each flow the next.
    next: Vec<u64>,
    flow: usize,
    /// Offered to the carrier, or given up because it was late.
    offered: u64,
    sent: u64,
    given_up: u64,
    seconds: f64,
}

impl Burst {
    /// Its packets' marks.
    pub(crate) fn marks(self) -> impl Iterator<Item = Mark> {
        (0..self.count as u64).map(move |number| Mark {
            sequence: self.mark.sequence + number,
            ..self.mark
        })
    }
}

impl Stream {
    /// When it ends if it begins now: CLOCK_MONOTONIC, in nanoseconds.
    pub(crate) fn end(&self) -> u64 {
        let time = u64::try_from(self.time.as_nanos()).unwrap_or(u64::MAX);
        netio::task::monotonic_ns().saturating_add(time)
    }

    /// For the other end.
    pub(crate) fn to_json(self) -> Value {
        let (length, mix) = match self.size {
            Size::Fixed(length) => (Some(length), None),
            Size::Mixed(mix) => (None, Some(mix.number())),
        };
        json!({
            "run": self.run,
            "flows": self.flows,
            "length": length,
            "mix": mix,
            "burst": self.burst,
            "rate": self.rate,
            "ms": self.time.as_millis() as u64,
        })
    }

    /// From the other end; `None` if it is not whole.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let number = |name: &str| value[name].as_u64();
        let size = match number("mix") {
            Some(mix) => Size::Mixed(Mix::from_number(mix)?),
            None => Size::Fixed(u16::try_from(number("length")?).ok()?),
        };
        Some(Self {
            run: u32::try_from(number("run")?).ok()?,
            flows: u32::try_from(number("flows")?).ok()?,
            size,
            burst: u16::try_from(number("burst")?).ok()?,
            rate: number("rate"),
            time: Duration::from_millis(number("ms")?),
        })
    }
}

impl Sender {
    /// Begins now.
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            sizes: match stream.size {
                Size::Fixed(length) => Sizes::fixed(length),
                Size::Mixed(mix) => Sizes::of(mix),
            },
            start: Instant::now(),
            next: vec![0; usize::try_from(stream.flows).unwrap_or_default()],
            flow: 0,
            offered: 0,
            sent: 0,
            given_up: 0,
            seconds: 0.0,
        }
    }

    /// Sends what is due, some bursts at most; `None` when the time is over, otherwise how long nothing is due.
    pub(crate) fn round(&mut self, carrier: &mut impl Carrier) -> Result<Option<Duration>, String> {
        let elapsed = self.start.elapsed();
        if elapsed >= self.stream.time || self.next.is_empty() {
            return Ok(None);
        }
        self.seconds = elapsed.as_secs_f64();
        let burst = u64::from(self.stream.burst.max(1));
        let bursts = match self.stream.rate {
            None => ROUND,
            Some(rate) => {
                let due = (self.seconds * rate as f64) as u64;
                let tolerated = (MAKE_UP.as_secs_f64() * rate as f64) as u64 + burst * ROUND;
                let late = due.saturating_sub(self.offered + tolerated);
                self.offered += late;
                self.given_up += late;
                due.saturating_sub(self.offered) / burst
            }
        };
        let time = netio::task::monotonic_ns();
        for _ in 0..bursts.min(ROUND) {
            let length = usize::from(self.sizes.next());
            if let Some(next) = self.next.get_mut(self.flow) {
                carrier.carry(&Burst {
                    flow: self.flow,
                    length,
                    count: usize::from(self.stream.burst.max(1)),
                    mark: Mark {
                        run: self.stream.run,
                        flow: u32::try_from(self.flow).unwrap_or(u32::MAX),
                        sequence: *next,
                        time,
                    },
                });
                *next += burst;
            }
            self.flow = (self.flow + 1) % self.next.len();
            self.offered += burst;
        }
        self.sent += carrier.flush()?;
        let wait = match self.stream.rate {
            Some(rate) if bursts <= ROUND => {
                let next_due = (self.offered + burst) as f64 / rate as f64;
                Duration::try_from_secs_f64(next_due - self.start.elapsed().as_secs_f64()).unwrap_or_default()
            }
            _ => Duration::ZERO,
        };
        Ok(Some(wait))
    }

    /// What was sent.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "sent": self.sent,
            "not_taken": self.offered - self.given_up - self.sent,
            "given_up": self.given_up,
            "seconds": self.stream.time.as_secs_f64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Paper(Vec<Mark>, u64);

    impl Carrier for Paper {
        fn carry(&mut self, burst: &Burst) {
            assert_eq!(burst.length, 100);
            self.0.extend(burst.marks());
            self.1 += burst.count as u64;
        }

        fn flush(&mut self) -> Result<u64, String> {
            Ok(std::mem::take(&mut self.1))
        }
    }

    fn stream(rate: Option<u64>, burst: u16) -> Stream {
        Stream {
            run: 5,
            flows: 3,
            size: Size::Fixed(100),
            burst,
            rate,
            time: Duration::from_millis(200),
        }
    }

    #[test]
    fn flows_take_turns_and_no_number_is_left_out() {
        let mut sender = Sender::new(stream(Some(50_000), 4));
        let mut paper = Paper::default();
        while let Some(wait) = sender.round(&mut paper).unwrap() {
            std::thread::sleep(wait);
        }
        for flow in 0..3 {
            let numbers: Vec<u64> = paper
                .0
                .iter()
                .filter(|mark| mark.flow == flow)
                .map(|mark| mark.sequence)
                .collect();
            assert!(numbers.iter().copied().eq(0..numbers.len() as u64));
            assert!(numbers.len().is_multiple_of(4) && numbers.len() * 3 + 12 > paper.0.len());
        }
        // Never more than the rate allows.
        assert!(paper.0.len() as f64 <= 50_000.0 * 0.2);
        let report = sender.to_json();
        assert_eq!(report["sent"], paper.0.len() as u64);
        assert_eq!(report["not_taken"], 0);
    }

    #[test]
    fn a_stream_is_told_and_understood() {
        for stream in [
            stream(None, 1),
            Stream {
                size: Size::Mixed(Mix::Three),
                ..stream(Some(7), 64)
            },
        ] {
            assert_eq!(Stream::from_json(&stream.to_json()), Some(stream));
        }
        for wrong in [
            json!({}),
            json!({ "run": 1, "flows": 1, "mix": 9, "burst": 1, "ms": 1 }),
        ] {
            assert_eq!(Stream::from_json(&wrong), None);
        }
    }
}
