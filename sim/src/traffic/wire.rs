//! What both ends of a measurement send each other, as the payload of UDP: numbered packets, and words about them.
//!
//! A numbered packet is `magic (4) | run (4) | flow (4) | number (8) | time of sending (8) | zeros`, a word is `magic (4) | JSON object`. Words go
//! through the tunnels too, so that nothing but what is measured need connect the ends; they are repeated until they are answered.

use serde_json::Value;

const NUMBERED: [u8; 4] = *b"swTn";
const WORD: [u8; 4] = *b"swTw";
/// Octets of a numbered packet's payload at least.
pub(crate) const MARK: usize = 28;
/// The longest word.
pub(crate) const LONGEST_WORD: usize = 1300;

/// What a numbered packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Those of an earlier run do not count.
    pub run: u32,
    pub flow: u32,
    pub sequence: u64,
    /// When it was sent: CLOCK_MONOTONIC, in nanoseconds. Both ends must be on one machine for it to mean anything.
    pub time: u64,
}

/// What came.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Message {
    Numbered(Mark),
    Word(Value),
}

impl Mark {
    /// Writes it into the first octets of a payload that has room for it.
    pub(crate) fn write(&self, payload: &mut [u8]) {
        let Some(place) = payload.first_chunk_mut::<MARK>() else {
            return;
        };
        place[..4].copy_from_slice(&NUMBERED);
        place[4..8].copy_from_slice(&self.run.to_be_bytes());
        place[8..12].copy_from_slice(&self.flow.to_be_bytes());
        place[12..20].copy_from_slice(&self.sequence.to_be_bytes());
        place[20..28].copy_from_slice(&self.time.to_be_bytes());
    }
}

/// A word as a payload.
pub(crate) fn word(value: &Value) -> Vec<u8> {
    [&WORD[..], value.to_string().as_bytes()].concat()
}

/// Reads a payload; `None` for anything that is not of a measurement.
pub(crate) fn read(payload: &[u8]) -> Option<Message> {
    let (magic, rest) = payload.split_first_chunk::<4>()?;
    if *magic == WORD {
        let text = Some(rest).filter(|text| text.len() <= LONGEST_WORD)?;
        return serde_json::from_slice(text).ok().map(Message::Word);
    }
    let (run, rest) = rest.split_first_chunk()?;
    let (flow, rest) = rest.split_first_chunk()?;
    let (sequence, rest) = rest.split_first_chunk()?;
    let time = rest.first_chunk()?;
    (*magic == NUMBERED).then_some(Message::Numbered(Mark {
        run: u32::from_be_bytes(*run),
        flow: u32::from_be_bytes(*flow),
        sequence: u64::from_be_bytes(*sequence),
        time: u64::from_be_bytes(*time),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mark = Mark {
            run: 1,
            flow: 0x0203_0405,
            sequence: u64::MAX,
            time: 7,
        };
        let mut payload = [9; MARK + 5];
        mark.write(&mut payload);
        assert_eq!(read(&payload), Some(Message::Numbered(mark)));
        let value = serde_json::json!({ "hello": 3 });
        assert_eq!(read(&word(&value)), Some(Message::Word(value)));
    }

    #[test]
    fn anything_else_is_nothing() {
        for payload in [
            &b""[..],
            b"swT",
            b"swTn",
            &[0; 64],
            b"swTw{",
            b"swTn0123456789012345678901",
        ] {
            assert_eq!(read(payload), None, "{payload:?}");
        }
        let long = word(&Value::from("x".repeat(LONGEST_WORD)));
        assert_eq!(read(&long), None);
    }
}
