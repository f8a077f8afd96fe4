//! The near end: greets the far end, has streams sent in one or both directions, and puts together what both ends counted.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::account::Received;
use super::sender::{Carrier, Sender, Stream};
use super::wire::{Message, word};

/// A word that was not answered is repeated after this time.
const REPEAT: Duration = Duration::from_millis(200);
/// The far end is not there if it answered nothing for so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Greetings under way at a time.
const GREETINGS: usize = 64;
/// A stream is over when nothing came for so long.
const QUIET: Duration = Duration::from_millis(300);

/// One message that came.
#[derive(Debug)]
pub(super) struct Arrived {
    pub message: Message,
    /// Octets of the inner packet.
    pub length: usize,
    /// CLOCK_MONOTONIC, in nanoseconds.
    pub time: u64,
}

/// What the near end sends through.
pub(super) trait Near: Carrier {
    /// How many flows it has.
    fn flows(&self) -> usize;

    /// Sends a payload on a flow.
    fn say(&mut self, flow: usize, payload: &[u8]) -> Result<(), String>;

    /// Waits at most `timeout` for what comes.
    fn receive(&mut self, timeout: Duration, take: &mut dyn FnMut(Arrived)) -> Result<(), String>;
}

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Direction {
    /// To the far end
    Up,
    /// From the far end
    Down,
    /// Both at once, each at the rate
    Both,
}

impl Direction {
    fn has_up(self) -> bool {
        self != Self::Down
    }

    fn has_down(self) -> bool {
        self != Self::Up
    }
}

/// Greets the far end on every flow, so that it knows where each one is; the way there and back works then.
pub(super) fn greet(near: &mut impl Near) -> Result<(), String> {
    let flows = near.flows();
    let mut answered = vec![false; flows];
    let (mut first, mut count) = (0, 0);
    let mut heard = Instant::now();
    let mut repeat = Instant::now();
    let mut next = 0;
    while count < flows {
        while answered.get(first).is_some_and(|answered| *answered) {
            first += 1;
        }
        if repeat.elapsed() >= REPEAT {
            // Whoever did not hear, or was not heard.
            next = first;
            repeat = Instant::now();
        }
        let until = flows.min(count + GREETINGS).max(first + 1);
        while next < until {
            if answered.get(next) == Some(&false) {
                near.say(next, &word(&json!({ "hello": next })))?;
            }
            next += 1;
        }
        near.receive(Duration::from_millis(1), &mut |arrived| {
            let Message::Word(value) = arrived.message else {
                return;
            };
            let flow = value["hello"]
                .as_u64()
                .and_then(|flow| usize::try_from(flow).ok());
            if let Some(answered) = flow.and_then(|flow| answered.get_mut(flow))
                && !*answered
            {
                *answered = true;
                count += 1;
                heard = Instant::now();
                repeat = Instant::now();
            }
        })?;
        if heard.elapsed() > PATIENCE {
            return Err(format!("the far end does not answer flow {first}"));
        }
    }
    Ok(())
}

/// Sends a stream and gives what both ends counted, for each direction.
pub(super) fn measure(near: &mut impl Near, stream: Stream, direction: Direction) -> Result<Value, String> {
    let mut received = Received::new(near.flows(), stream.end());
    let start = json!({ "start": stream.to_json(), "down": direction.has_down() });
    ask(near, &start, "started", stream, &mut received, PATIENCE)?;
    let begun = Instant::now();
    let mut sender = direction.has_up().then(|| Sender::new(stream));
    let mut sent = Value::Null;
    while begun.elapsed() < stream.time || sender.is_some() {
        let mut wait = Duration::from_millis(1);
        if let Some(active) = &mut sender {
            match active.round(near)? {
                Some(due) => wait = due.min(wait),
                None => {
                    sent = active.to_json();
                    sender = None;
                }
            }
        }
        // The poller waits for whole milliseconds; what is due before that is slept for.
        let finer = wait < Duration::from_millis(1);
        if finer && !wait.is_zero() {
            std::thread::sleep(wait);
        }
        let timeout = if finer { Duration::ZERO } else { wait };
        near.receive(timeout, &mut |arrived| count(&mut received, stream, &arrived))?;
    }
    let mut quiet = (received.packets, Instant::now());
    while quiet.1.elapsed() < QUIET {
        near.receive(Duration::from_millis(5), &mut |arrived| {
            count(&mut received, stream, &arrived)
        })?;
        if received.packets != quiet.0 {
            quiet = (received.packets, Instant::now());
        }
    }
    let question = json!({ "report": stream.run });
    // When every tunnel is lost nobody can be asked. That is a result too: what was sent, and that nothing is known of the rest.
    let report = ask(near, &question, "report", stream, &mut received, PATIENCE).unwrap_or_default();
    let mut result = json!({ "run": stream.run });
    if direction.has_up() {
        result["up"] = combine(&sent, &report["received"], stream);
    }
    if direction.has_down() {
        result["down"] = combine(&report["sent"], &received.to_json(), stream);
    }
    Ok(result)
}

fn count(received: &mut Received, stream: Stream, arrived: &Arrived) {
    if let Message::Numbered(mark) = arrived.message
        && mark.run == stream.run
    {
        received.record(mark, arrived.length, arrived.time);
    }
}

/// Says something until it is answered, each time on another flow; packets of the stream that come meanwhile count.
fn ask(
    near: &mut impl Near,
    question: &Value,
    key: &str,
    stream: Stream,
    received: &mut Received,
    patience: Duration,
) -> Result<Value, String> {
    let start = Instant::now();
    let payload = word(question);
    let mut turns = (0..near.flows()).cycle();
    while start.elapsed() < patience {
        near.say(turns.next().unwrap_or_default(), &payload)?;
        let mut answer = None;
        let asked = Instant::now();
        while answer.is_none() && asked.elapsed() < REPEAT {
            near.receive(Duration::from_millis(5), &mut |arrived| match &arrived.message {
                Message::Word(value) if value[key] == stream.run => answer = Some(value.clone()),
                _ => count(received, stream, &arrived),
            })?;
        }
        if let Some(answer) = answer {
            return Ok(answer);
        }
    }
    Err("the far end does not answer any more".to_owned())
}

/// One direction: what one end sent and the other received; null in place of what is not known.
fn combine(sent: &Value, received: &Value, stream: Stream) -> Value {
    if sent.is_null() || received.is_null() {
        return json!({ "sent": sent["sent"], "received": received["received"] });
    }
    let count = |value: &Value, name: &str| value[name].as_u64().unwrap_or_default();
    let (out, came) = (count(sent, "sent"), count(received, "received"));
    let lost = out.saturating_sub(came);
    let seconds = stream.time.as_secs_f64().max(f64::MIN_POSITIVE);
    let mut all = received.clone();
    all["sent"] = json!(out);
    all["not_taken"] = sent["not_taken"].clone();
    all["given_up"] = sent["given_up"].clone();
    all["lost"] = json!(lost);
    all["loss"] = json!(lost as f64 / out.max(1) as f64);
    all["packets_per_s"] = json!(came as f64 / seconds);
    all["bits_per_s"] = json!(count(received, "bytes") as f64 * 8.0 / seconds);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::sender::Size;

    #[test]
    fn what_did_not_come_is_lost() {
        let stream = Stream {
            run: 1,
            flows: 1,
            size: Size::Fixed(100),
            burst: 1,
            rate: None,
            time: Duration::from_secs(2),
        };
        let sent = json!({ "sent": 1000, "not_taken": 5, "given_up": 0 });
        let report = combine(&sent, &json!({ "received": 990, "bytes": 99_000 }), stream);
        assert_eq!((&report["lost"], &report["loss"]), (&json!(10), &json!(0.01)));
        assert_eq!(
            (&report["packets_per_s"], &report["bits_per_s"]),
            (&json!(495.0), &json!(396_000.0))
        );
        // What nobody could tell is not made up.
        let report = combine(&sent, &Value::Null, stream);
        assert_eq!(
            (&report["sent"], &report["received"], &report["loss"]),
            (&json!(1000), &Value::Null, &Value::Null)
        );
        // Nothing sent, nothing lost.
        let report = combine(&json!({ "sent": 0 }), &json!({ "received": 0 }), stream);
        assert_eq!((&report["lost"], &report["loss"]), (&json!(0), &json!(0.0)));
    }
}
