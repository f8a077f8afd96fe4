//! Values of objects.

use std::net::{IpAddr, Ipv4Addr};

use telemetry::time::Civil;

use crate::objects::Syntax;
use crate::oid::Oid;

/// The value of an instance, in the types of SMIv2 (RFC 2578 section 7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Integer32 and enumerations.
    Integer(i32),
    /// OCTET STRING: text, dates, addresses of INET-ADDRESS-MIB.
    Octets(Vec<u8>),
    /// OBJECT IDENTIFIER.
    Oid(Oid),
    /// IpAddress.
    Address(Ipv4Addr),
    /// Counter32.
    Counter32(u32),
    /// Gauge32 and Unsigned32.
    Gauge32(u32),
    /// TimeTicks, hundredths of a second.
    TimeTicks(u32),
    /// Counter64.
    Counter64(u64),
}

impl Data {
    /// A number as a type: Counter32 rolls over, the other 32-bit types stop at their maximum.
    pub(crate) fn number(syntax: Syntax, number: u64) -> Self {
        match syntax {
            Syntax::Integer => Self::Integer(i32::try_from(number).unwrap_or(i32::MAX)),
            Syntax::Counter32 => Self::Counter32((number & 0xFFFF_FFFF) as u32),
            Syntax::Counter64 => Self::Counter64(number),
            Syntax::Gauge32 => Self::Gauge32(u32::try_from(number).unwrap_or(u32::MAX)),
            Syntax::TimeTicks => Self::TimeTicks((number & 0xFFFF_FFFF) as u32),
            // A number where something else belongs says "none": an empty string, a null address.
            Syntax::Text | Syntax::DateAndTime | Syntax::InetAddress => Self::Octets(Vec::new()),
            Syntax::Oid => Self::Oid(Oid::new(&[0, 0])),
            Syntax::Address => Self::Address(Ipv4Addr::UNSPECIFIED),
        }
    }

    /// The value of an event's field as a type. A field that does not fit its type gives the type's zero.
    pub(crate) fn parse(syntax: Syntax, text: &str) -> Self {
        match syntax {
            Syntax::Text | Syntax::InetAddress => Self::Octets(text.as_bytes().to_vec()),
            Syntax::DateAndTime => Self::Octets(date_of_rfc3339(text).unwrap_or_default()),
            Syntax::Address => match text.parse() {
                Ok(IpAddr::V4(address)) => Self::Address(address),
                _ => Self::Address(Ipv4Addr::UNSPECIFIED),
            },
            _ => Self::number(syntax, text.parse().unwrap_or(0)),
        }
    }

    /// Text.
    pub(crate) fn text(text: &str) -> Self {
        Self::Octets(text.as_bytes().to_vec())
    }

    /// DateAndTime (RFC 2579 section 2) of a local time, with how many seconds it is ahead of UTC.
    pub(crate) fn date(time: &Civil, ahead: i32) -> Self {
        let [high, low] = u16::try_from(time.year).unwrap_or_default().to_be_bytes();
        let tenths = (time.millisecond / 100) as u8;
        let sign = if ahead < 0 { b'-' } else { b'+' };
        let minutes = ahead.unsigned_abs() / 60;
        let (hours, minutes) = ((minutes / 60) as u8, (minutes % 60) as u8);
        let Civil {
            month,
            day,
            hour,
            minute,
            second,
            ..
        } = *time;
        Self::Octets(vec![
            high, low, month, day, hour, minute, second, tenths, sign, hours, minutes,
        ])
    }
}

/// DateAndTime of `2027-01-31T12:00:00Z`.
fn date_of_rfc3339(text: &str) -> Option<Vec<u8>> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u16>().ok();
    let byte = |range| number(range).and_then(|value| u8::try_from(value).ok());
    let mut octets = number(0..4)?.to_be_bytes().to_vec();
    for start in [5, 8, 11, 14, 17] {
        octets.push(byte(start..start + 2)?);
    }
    octets.extend([0, b'+', 0, 0]);
    (text.len() == "2027-01-31T12:00:00Z".len() && text.ends_with('Z')).then_some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let expected = vec![0x07, 0xEB, 1, 31, 12, 5, 6, 0, b'+', 0, 0];
        assert_eq!(
            Data::parse(Syntax::DateAndTime, "2027-01-31T12:05:06Z"),
            Data::Octets(expected.clone())
        );
        let time = Civil {
            year: 2027,
            month: 1,
            day: 31,
            hour: 12,
            minute: 5,
            second: 6,
            millisecond: 0,
            weekday: 0,
        };
        assert_eq!(Data::date(&time, 0), Data::Octets(expected));
        let Data::Octets(west) = Data::date(&time, -12_600) else {
            panic!()
        };
        assert_eq!(west[8..], [b'-', 3, 30]);
        assert_eq!(
            Data::parse(Syntax::DateAndTime, "tomorrow"),
            Data::Octets(Vec::new())
        );
    }

    #[test]
    fn numbers_keep_to_their_types() {
        let big = u64::from(u32::MAX) + 2;
        assert_eq!(Data::number(Syntax::Counter32, big), Data::Counter32(1));
        assert_eq!(Data::number(Syntax::Gauge32, big), Data::Gauge32(u32::MAX));
        assert_eq!(Data::number(Syntax::Counter64, big), Data::Counter64(big));
        assert_eq!(
            Data::parse(Syntax::Address, "2001:db8::1"),
            Data::Address(Ipv4Addr::UNSPECIFIED)
        );
        assert_eq!(
            Data::parse(Syntax::Address, "192.0.2.7"),
            Data::Address(Ipv4Addr::new(192, 0, 2, 7))
        );
    }
}
