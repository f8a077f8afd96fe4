//! `starward sim far`: the far end of `starward sim traffic`, a host behind the gateway on ordinary sockets.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use clap::value_parser;
use serde_json::{Value, json};

use super::account::Received;
use super::ports::Ports;
use super::sender::{Sender, Stream};
use super::wire::{LONGEST_WORD, Message, read, word};
use super::{MOST_FLOWS, PORT};
use crate::progress::{print, tell};

const TICK: Duration = Duration::from_millis(200);
/// A run is over when nothing came for so long.
const QUIET: Duration = Duration::from_secs(1);
/// The longest stream that it sends for somebody.
const LONGEST: Duration = Duration::from_secs(3600);

/// The far end of measurements. For laboratories: it sends to whoever greets it. Runs until it is ended.
#[derive(Debug, clap::Args)]
pub struct Far {
    /// Address to listen on
    #[arg(long)]
    pub listen: IpAddr,
    /// First UDP port
    #[arg(long, default_value_t = PORT)]
    pub port: u16,
    /// Number of ports: as many flows as a tunnel may have
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u16).range(1..=1024))]
    pub ports: u16,
}

/// A run, as the far end sees it.
struct Run {
    received: Received,
    /// Packets when they were last looked at, and since when there are no more; told when it is quiet.
    quiet: (u64, Instant),
    told: bool,
    stream: Stream,
    sender: Option<Sender>,
    /// What was sent when it was over.
    sent: Value,
}

impl Far {
    /// Runs until it is ended by a signal.
    pub(crate) fn run(self) -> Result<bool, String> {
        let mut ports = Ports::bind(self.listen, self.port, self.ports)?;
        tell(&format!(
            "listening on {}",
            SocketAddr::new(self.listen, self.port)
        ));
        let mut run: Option<Run> = None;
        let mut words = Vec::new();
        let mut idle = TICK;
        loop {
            ports.receive(idle, |payload, source, place, now| match read(payload) {
                Some(Message::Numbered(mark)) => {
                    if let Some(run) = run.as_mut().filter(|run| run.stream.run == mark.run) {
                        let length = payload.len() + crate::packets::HEADERS;
                        run.received.record(mark, length, now);
                    }
                }
                Some(Message::Word(value)) => words.push((value, source, place)),
                None => {}
            })?;
            for (value, source, place) in words.drain(..) {
                if let Some(answer) = answer(&mut run, &mut ports, &value, source) {
                    let payload = word(&answer);
                    if payload.len() <= LONGEST_WORD {
                        ports.say(&payload, source, place);
                    }
                }
            }
            if let Some(words) = run.as_mut().and_then(Run::last_words) {
                print(&words);
            }
            idle = match run.as_mut().and_then(|run| Some((run.sender.take()?, run))) {
                None => TICK,
                Some((mut sender, run)) => match sender.round(&mut ports)? {
                    Some(wait) => {
                        run.sender = Some(sender);
                        // Finer than the poller can wait.
                        if wait < Duration::from_millis(1) && !wait.is_zero() {
                            std::thread::sleep(wait);
                            Duration::ZERO
                        } else {
                            wait
                        }
                    }
                    None => {
                        run.sent = sender.to_json();
                        TICK
                    }
                },
            };
        }
    }
}

impl Run {
    /// What was received, once, when nothing more comes or should come: for whoever cannot ask any more because the tunnels are gone.
    fn last_words(&mut self) -> Option<Value> {
        if self.received.packets != self.quiet.0 {
            self.quiet = (self.received.packets, Instant::now());
            self.told = false;
        }
        let quiet = self.quiet.1.elapsed() > QUIET && self.received.is_over(netio::task::monotonic_ns());
        if self.told || !quiet {
            return None;
        }
        self.told = true;
        Some(json!({ "run": self.stream.run, "received": self.received.to_json() }))
    }
}

/// Does what a word asks for; `None` when it is not understood.
fn answer(run: &mut Option<Run>, ports: &mut Ports, value: &Value, source: SocketAddr) -> Option<Value> {
    if let Some(flow) = value["hello"].as_u64() {
        let flow = usize::try_from(flow).ok().filter(|flow| *flow < MOST_FLOWS)?;
        if ports.destinations.len() <= flow {
            ports.destinations.resize(flow + 1, None);
        }
        *ports.destinations.get_mut(flow)? = Some(source);
        return Some(value.clone());
    }
    if let Some(report) = value["report"].as_u64() {
        let run = run.as_ref().filter(|run| u64::from(run.stream.run) == report)?;
        // It is not over as long as it sends.
        if run.sender.is_some() {
            return None;
        }
        return Some(json!({ "report": report, "received": run.received.to_json(), "sent": run.sent }));
    }
    let stream = Stream::from_json(&value["start"])?;
    let flows = usize::try_from(stream.flows)
        .ok()
        .filter(|flows| *flows <= MOST_FLOWS)?;
    let sends = value["down"].as_bool().unwrap_or_default();
    if stream.time > LONGEST {
        return None;
    }
    // Asked again, because the answer was lost.
    if run.as_ref().is_none_or(|run| run.stream.run != stream.run) {
        *run = Some(Run {
            received: Received::new(flows, stream.end()),
            quiet: (0, Instant::now()),
            told: true,
            stream,
            sender: sends.then(|| Sender::new(stream)),
            sent: json!({ "sent": 0 }),
        });
    }
    Some(json!({ "started": stream.run }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::wire::Mark;

    #[test]
    fn words_that_are_not_understood_are_not_answered() {
        let mut ports = Ports::bind("127.0.0.1".parse().unwrap(), 0, 1).unwrap();
        let mut run = None;
        let source: SocketAddr = "127.0.0.1:9".parse().unwrap();
        for wrong in [
            json!(null),
            json!({ "hello": MOST_FLOWS }),
            json!({ "hello": -1 }),
            json!({ "report": 1 }),
            json!({ "start": { "run": 1 } }),
            json!({ "start": { "run": 1, "flows": u32::MAX, "length": 64, "burst": 1, "ms": 1 } }),
            json!({ "start": { "run": 1, "flows": 1, "length": 64, "burst": 1, "ms": u64::MAX } }),
        ] {
            assert_eq!(answer(&mut run, &mut ports, &wrong, source), None, "{wrong}");
        }
        assert!(run.is_none() && ports.destinations.is_empty());
        let hello = json!({ "hello": 2 });
        assert_eq!(answer(&mut run, &mut ports, &hello, source), Some(hello));
        assert_eq!(ports.destinations, [None, None, Some(source)]);
    }

    #[test]
    fn what_was_received_is_told_once_and_not_before_the_stream_is_over() {
        let mut ports = Ports::bind("127.0.0.1".parse().unwrap(), 0, 1).unwrap();
        let source: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let mut told = |ms: u64| {
            let mut run = None;
            let start = json!({ "run": 1, "flows": 1, "length": 64, "burst": 1, "ms": ms });
            answer(&mut run, &mut ports, &json!({ "start": start }), source).unwrap();
            let run = run.as_mut().unwrap();
            assert_eq!(run.last_words(), None, "nothing came");
            let mark = Mark {
                run: 1,
                flow: 0,
                sequence: 0,
                time: 0,
            };
            run.received.record(mark, 100, netio::task::monotonic_ns());
            assert_eq!(run.last_words(), None, "more may come");
            run.quiet.1 = Instant::now().checked_sub(2 * QUIET).unwrap();
            let words = run.last_words();
            assert_eq!(run.last_words(), None, "it is told once");
            words
        };
        assert_eq!(told(3_600_000), None);
        assert_eq!(told(0).unwrap()["received"]["received"], 1);
    }
}
