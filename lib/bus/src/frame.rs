//! The frame: a fixed header, then the message as prost encodes it. Bus, links and control sockets use it.
//!
//! | octets | field |
//! |---|---|
//! | 0-3 | magic `SWbu` |
//! | 4 | major version; another one is refused |
//! | 5 | minor version; for information |
//! | 6 | kind: request, reply, refusal, event, beacon |
//! | 7 | facility of the sender |
//! | 8-9 | message type ([`crate::Message::TYPE`]); of a reply, the type of the request |
//! | 10-11 | zero, ignored |
//! | 12-15 | instance of the sender |
//! | 16-23 | correlation id; of an event, its number among the events of its type and publisher |
//!
//! Numbers are big-endian. The header has the same layout in every major version, so that a refusal can always be sent.

use std::fmt;

use prost::bytes::{BufMut, Bytes, BytesMut};

use crate::error::RefusalCode;
use crate::facility::{Address, Facility};

/// Largest message (without the header) that travels on the bus, in octets.
pub const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// Size of the header in octets.
pub const HEADER: usize = 24;
/// Version of the frame and of the meaning of every message.
pub const MAJOR: u8 = 1;
const MINOR: u8 = 0;
const MAGIC: [u8; 4] = *b"SWbu";

/// What a frame is for. Numbers are wire values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Wants an answer.
    Request = 1,
    /// Answers a request.
    Reply = 2,
    /// Answers a request with a [`Refusal`].
    Refusal = 3,
    /// Wants no answer.
    Event = 4,
    /// How far the numbering of each type of event has come; sent at intervals by every publisher.
    Beacon = 5,
}

impl Kind {
    fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Request),
            2 => Some(Self::Reply),
            3 => Some(Self::Refusal),
            4 => Some(Self::Event),
            5 => Some(Self::Beacon),
            _ => None,
        }
    }
}

/// The header fields that vary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame is for.
    pub kind: Kind,
    /// Message type; of an answer, the type of the request.
    pub message: u16,
    /// Who says to have sent it.
    pub sender: Address,
    /// Tells requests of a connection apart.
    pub correlation: u64,
}

/// Why octets are no frame of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// Shorter than a header.
    Short {
        /// Octets there were.
        size: usize,
    },
    /// Longer than any frame may be.
    Oversized {
        /// Octets there were.
        size: usize,
    },
    /// Does not begin with the magic.
    Magic,
    /// Another major version.
    Version {
        /// That version.
        major: u8,
        /// Its correlation id, for the refusal.
        correlation: u64,
        /// Its message type, for the refusal.
        message: u16,
    },
    /// A kind of frame that does not exist.
    Kind {
        /// The number.
        kind: u8,
    },
    /// A facility that does not exist.
    Sender {
        /// The number.
        facility: u8,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { size } => {
                write!(f, "frame of {size} octets is shorter than its header of {HEADER}")
            }
            Self::Oversized { size } => {
                write!(
                    f,
                    "frame of {size} octets is larger than the limit of {}",
                    MAX_MESSAGE + HEADER
                )
            }
            Self::Magic => f.write_str("frame does not begin with the magic of the bus"),
            Self::Version { major, .. } => write!(f, "frame has major version {major}, ours is {MAJOR}"),
            Self::Kind { kind } => write!(f, "frame has unknown kind {kind}"),
            Self::Sender { facility } => write!(f, "frame comes from unknown facility {facility}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// The payload of a refusal.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refusal {
    /// [`RefusalCode`] by number.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// Explanation.
    #[prost(string, tag = "2")]
    pub text: String,
}

/// The payload of a beacon.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Beacon {
    #[prost(message, repeated, tag = "1")]
    pub counts: Vec<BeaconCount>,
    /// Tells the lives of the publisher apart.
    #[prost(fixed64, tag = "2")]
    pub incarnation: u64,
}

/// How many events of a type have been published.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BeaconCount {
    #[prost(uint32, tag = "1")]
    pub message: u32,
    #[prost(uint64, tag = "2")]
    pub count: u64,
}

/// A frame of `header` and `message`; fails with the size of the message when that is over [`MAX_MESSAGE`].
pub fn encode(header: Header, message: &impl prost::Message) -> Result<Bytes, usize> {
    let size = message.encoded_len();
    if size > MAX_MESSAGE {
        return Err(size);
    }
    let mut frame = BytesMut::with_capacity(HEADER + size);
    put_header(header, &mut frame);
    message.encode_raw(&mut frame);
    Ok(frame.freeze())
}

/// Appends `header` to `out`.
pub fn put_header(header: Header, out: &mut impl BufMut) {
    out.put_slice(&MAGIC);
    out.put_u8(MAJOR);
    out.put_u8(MINOR);
    out.put_u8(header.kind as u8);
    out.put_u8(header.sender.facility as u8);
    out.put_u16(header.message);
    out.put_u16(0);
    out.put_u32(header.sender.instance);
    out.put_u64(header.correlation);
}

/// A refusal of the request `message` with `correlation`.
pub fn refusal(sender: Address, message: u16, correlation: u64, code: RefusalCode, text: &str) -> Bytes {
    let header = Header {
        kind: Kind::Refusal,
        message,
        sender,
        correlation,
    };
    // A refusal is far below the limit unless its text is absurd; then the text goes.
    encode(
        header,
        &Refusal {
            code: code as u32,
            text: text.to_owned(),
        },
    )
    .or_else(|_| {
        encode(
            header,
            &Refusal {
                code: code as u32,
                text: String::new(),
            },
        )
    })
    .unwrap_or_default()
}

/// Splits a frame into its header and the octets of its message.
pub fn decode(frame: &[u8]) -> Result<(Header, &[u8]), FrameError> {
    let size = frame.len();
    if size > MAX_MESSAGE + HEADER {
        return Err(FrameError::Oversized { size });
    }
    let Some((header, message)) = frame.split_first_chunk::<HEADER>() else {
        return Err(FrameError::Short { size });
    };
    let [
        m0,
        m1,
        m2,
        m3,
        major,
        _minor,
        kind,
        facility,
        t0,
        t1,
        _,
        _,
        i0,
        i1,
        i2,
        i3,
        correlation @ ..,
    ] = *header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(FrameError::Magic);
    }
    let message_type = u16::from_be_bytes([t0, t1]);
    let correlation = u64::from_be_bytes(correlation);
    if major != MAJOR {
        return Err(FrameError::Version {
            major,
            correlation,
            message: message_type,
        });
    }
    let kind = Kind::from_number(kind).ok_or(FrameError::Kind { kind })?;
    let facility = Facility::from_number(facility).ok_or(FrameError::Sender { facility })?;
    let sender = Address::new(facility, u32::from_be_bytes([i0, i1, i2, i3]));
    Ok((
        Header {
            kind,
            message: message_type,
            sender,
            correlation,
        },
        message,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            kind: Kind::Request,
            message: 0x0203,
            sender: Address::new(Facility::Ipsecmgr, 70_000),
            correlation: 0x0102_0304_0506_0708,
        }
    }

    /// Golden octets: another version of the software must read exactly this.
    #[test]
    fn layout_is_fixed() {
        let frame = encode(
            header(),
            &Refusal {
                code: 2,
                text: "x".into(),
            },
        )
        .unwrap();
        assert_eq!(
            &frame[..],
            b"SWbu\x01\x00\x01\x05\x02\x03\x00\x00\x00\x01\x11\x70\x01\x02\x03\x04\x05\x06\x07\x08\x08\x02\x12\x01x"
        );
        let (read, message) = decode(&frame).unwrap();
        assert_eq!(read, header());
        assert_eq!(message, b"\x08\x02\x12\x01x");
    }

    #[test]
    fn faults_are_told_apart() {
        let good = encode(header(), &Refusal::default()).unwrap().to_vec();
        let with = |index: usize, octet: u8| {
            let mut bad = good.clone();
            bad[index] = octet;
            decode(&bad).unwrap_err()
        };
        assert_eq!(
            decode(&good[..HEADER - 1]).unwrap_err(),
            FrameError::Short { size: HEADER - 1 }
        );
        assert_eq!(with(0, b'X'), FrameError::Magic);
        assert_eq!(
            with(4, 2),
            FrameError::Version {
                major: 2,
                correlation: header().correlation,
                message: 0x0203
            }
        );
        assert_eq!(with(6, 0), FrameError::Kind { kind: 0 });
        assert_eq!(with(7, 200), FrameError::Sender { facility: 200 });
        let size = MAX_MESSAGE + HEADER + 1;
        assert_eq!(
            decode(&vec![0; size]).unwrap_err(),
            FrameError::Oversized { size }
        );
    }

    #[test]
    fn too_large_messages_are_not_encoded() {
        let text = "x".repeat(MAX_MESSAGE);
        assert!(
            encode(
                header(),
                &Refusal {
                    code: 1,
                    text: text.clone()
                }
            )
            .is_err()
        );
        let frame = refusal(header().sender, 1, 2, RefusalCode::Failed, &text);
        assert!(decode(&frame).is_ok());
    }

    proptest! {
        #[test]
        fn any_octets_are_safe(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            crate::fuzz::frame(&octets);
        }

        #[test]
        fn any_octets_behind_a_good_start_are_safe(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut frame = vec![];
            put_header(header(), &mut frame);
            frame[6] = octets.first().copied().unwrap_or(1) % 7;
            frame[8] = octets.get(1).copied().unwrap_or(0) % 12;
            frame[9] = octets.get(2).copied().unwrap_or(0) % 0x88;
            frame.extend_from_slice(octets.get(3..).unwrap_or_default());
            crate::fuzz::frame(&frame);
        }

        #[test]
        fn round_trip(code: u32, text in ".{0,40}", correlation: u64, instance: u32, message: u16) {
            let sender = Address::new(Facility::Cli, instance);
            let header = Header { kind: Kind::Event, message, sender, correlation };
            let frame = encode(header, &Refusal { code, text: text.clone() }).unwrap();
            let (read, payload) = decode(&frame).unwrap();
            prop_assert_eq!(read, header);
            let refusal = <Refusal as prost::Message>::decode(payload).unwrap();
            prop_assert_eq!(refusal, Refusal { code, text });
        }
    }
}
