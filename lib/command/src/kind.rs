//! Types of parameters.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a parameter may be. In a syntax it stands after the parameter's name: `<mtu:576-2048>`, `<name:name(79)>`, `<address:ip>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `1-65535`: a decimal integer.
    Number(u64, u64),
    /// `hex(3f)`: a hexadecimal integer up to this, written with `0x`.
    Hex(u64),
    /// `name(79)`: 1 to so many printable characters without blanks.
    Name(usize),
    /// `text(255)`: up to so many characters; quotes keep blanks.
    Text(usize),
    /// `ipv4`: a dotted address.
    Ipv4,
    /// `ipv6`: an IPv6 address.
    Ipv6,
    /// `ip`: an address of either family.
    Ip,
    /// `prefix4`: address/length.
    Prefix4,
    /// `prefix6`: address/length.
    Prefix6,
    /// `prefix`: address/length of either family.
    Prefix,
    /// `mask`: a dotted netmask with all ones first.
    Mask,
    /// `wildcard`: a dotted mask with all zeros first.
    Wildcard,
    /// `port`: slot/port.
    Port,
    /// `secret(255)`: a plain secret of 1 to so many characters, sealed before anybody sees it.
    Secret(usize),
    /// `sealed`: a sealed secret.
    Sealed,
}

/// Longest sealed secret, in characters.
const MAX_SEALED: usize = 16_000;

impl Kind {
    /// Reads the kind from a syntax.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (word, argument) = match text.split_once('(') {
            Some((word, rest)) => (word, Some(rest.strip_suffix(')')?)),
            None => (text, None),
        };
        let size = || argument.and_then(|size| size.parse().ok());
        Some(match word {
            "hex" => Self::Hex(u64::from_str_radix(argument?, 16).ok()?),
            "name" => Self::Name(size()?),
            "text" => Self::Text(size()?),
            "secret" => Self::Secret(size()?),
            "sealed" => Self::Sealed,
            "ipv4" => Self::Ipv4,
            "ipv6" => Self::Ipv6,
            "ip" => Self::Ip,
            "prefix4" => Self::Prefix4,
            "prefix6" => Self::Prefix6,
            "prefix" => Self::Prefix,
            "mask" => Self::Mask,
            "wildcard" => Self::Wildcard,
            "port" => Self::Port,
            _ => {
                let (min, max) = word.split_once('-')?;
                Self::Number(min.parse().ok()?, max.parse().ok()?)
            }
        })
    }

    /// Does this word fit?
    pub fn accepts(&self, word: &str) -> bool {
        match self {
            Self::Number(min, max) => {
                // No sign, no blanks: `parse` alone would take `+5`.
                word.bytes().all(|octet| octet.is_ascii_digit())
                    && word
                        .parse()
                        .is_ok_and(|number: u64| (*min..=*max).contains(&number))
            }
            Self::Hex(max) => hex(word).is_some_and(|number| number <= *max),
            Self::Name(max) => {
                (1..=*max).contains(&word.len())
                    && word
                        .bytes()
                        .all(|octet| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'|' | b'?'))
                    && !word.starts_with('#')
            }
            Self::Text(max) => {
                word.chars().count() <= *max && !word.chars().any(|c| c.is_control() && c != '\t')
            }
            Self::Secret(max) => (1..=*max).contains(&word.chars().count()),
            Self::Sealed => {
                (1..=MAX_SEALED).contains(&word.len()) && word.bytes().all(|octet| octet.is_ascii_graphic())
            }
            Self::Ipv4 => word.parse::<Ipv4Addr>().is_ok(),
            Self::Ipv6 => word.parse::<Ipv6Addr>().is_ok(),
            Self::Ip => word.parse::<IpAddr>().is_ok(),
            Self::Prefix4 => prefix(word, |address| address.is_ipv4()),
            Self::Prefix6 => prefix(word, |address| address.is_ipv6()),
            Self::Prefix => prefix(word, |_| true),
            Self::Mask => word
                .parse::<Ipv4Addr>()
                .is_ok_and(|mask| (!u32::from(mask)).checked_add(1).is_none_or(u32::is_power_of_two)),
            Self::Wildcard => word
                .parse::<Ipv4Addr>()
                .is_ok_and(|mask| u32::from(mask).checked_add(1).is_none_or(u32::is_power_of_two)),
            Self::Port => word.split_once('/').is_some_and(|(slot, port)| {
                let digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
                digits(slot)
                    && digits(port)
                    && slot.parse().is_ok_and(|slot: u8| slot > 0)
                    && port.parse().is_ok_and(|port: u16| port > 0)
            }),
        }
    }

    /// A word of any form may be meant, so that keywords go first.
    pub(crate) fn is_free_text(&self) -> bool {
        matches!(
            self,
            Self::Name(_) | Self::Text(_) | Self::Secret(_) | Self::Sealed
        )
    }

    /// The kind in words, after `is not` and `expected`.
    pub fn describe(&self) -> String {
        match self {
            Self::Number(min, max) => format!("an integer from {min} to {max}"),
            Self::Hex(max) => format!("a hexadecimal integer from 0x00 to 0x{max:02X}"),
            Self::Name(max) => format!("a name of 1 to {max} characters without blanks"),
            Self::Text(max) => format!("a text of at most {max} characters"),
            Self::Secret(max) => format!("a secret of 1 to {max} characters"),
            Self::Sealed => "an encrypted secret".to_owned(),
            Self::Ipv4 => "an IPv4 address (a.b.c.d)".to_owned(),
            Self::Ipv6 => "an IPv6 address (x:x::x)".to_owned(),
            Self::Ip => "an IPv4 or IPv6 address".to_owned(),
            Self::Prefix4 => "an IPv4 address and prefix length (a.b.c.d/n)".to_owned(),
            Self::Prefix6 => "an IPv6 address and prefix length (x:x::x/n)".to_owned(),
            Self::Prefix => "an address and prefix length".to_owned(),
            Self::Mask => "a netmask (255.255.255.0)".to_owned(),
            Self::Wildcard => "a wildcard mask (0.0.0.255)".to_owned(),
            Self::Port => "slot/port (1/10)".to_owned(),
        }
    }
}

/// A hexadecimal integer written with `0x`.
pub(crate) fn hex(word: &str) -> Option<u64> {
    let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"))?;
    if !digits.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

fn prefix(word: &str, family: impl Fn(&IpAddr) -> bool) -> bool {
    let Some((address, length)) = word.split_once('/') else {
        return false;
    };
    let (Ok(address), true) = (
        address.parse::<IpAddr>(),
        !length.is_empty() && length.bytes().all(|octet| octet.is_ascii_digit()),
    ) else {
        return false;
    };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    family(&address) && length.parse().is_ok_and(|length: u8| length <= longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Kind {
        Kind::parse(text).unwrap()
    }

    #[test]
    fn numbers_have_ranges() {
        let mtu = kind("576-2048");
        for good in ["576", "2048", "0600"] {
            assert!(mtu.accepts(good), "{good}");
        }
        for bad in ["575", "2049", "+600", "6e2", "", "99999999999999999999999"] {
            assert!(!mtu.accepts(bad), "{bad}");
        }
        assert!(kind("hex(3f)").accepts("0x3F"));
        assert!(!kind("hex(3f)").accepts("0x40"));
        assert!(!kind("hex(3f)").accepts("3f"));
        assert!(!kind("hex(3f)").accepts("0x+3"));
    }

    #[test]
    fn masks_are_contiguous() {
        for good in ["0.0.0.0", "255.255.255.255", "255.255.254.0", "128.0.0.0"] {
            assert!(kind("mask").accepts(good), "{good}");
        }
        for bad in ["255.0.255.0", "0.0.0.255", "255.255.255.253"] {
            assert!(!kind("mask").accepts(bad), "{bad}");
        }
        assert!(kind("wildcard").accepts("0.0.0.255"));
        assert!(kind("wildcard").accepts("255.255.255.255"));
        assert!(!kind("wildcard").accepts("255.255.255.0"));
    }

    #[test]
    fn prefixes_and_ports() {
        assert!(kind("prefix4").accepts("10.0.0.0/8"));
        assert!(!kind("prefix4").accepts("10.0.0.0/33"));
        assert!(!kind("prefix4").accepts("fd00::/8"));
        assert!(kind("prefix6").accepts("fd00::/128"));
        assert!(!kind("prefix").accepts("fd00::"));
        assert!(!kind("prefix").accepts("10.0.0.0/+8"));
        assert!(kind("port").accepts("1/10"));
        assert!(!kind("port").accepts("1"));
        assert!(!kind("port").accepts("0/1"));
    }

    #[test]
    fn names_have_no_blanks() {
        assert!(kind("name(4)").accepts("a-b."));
        assert!(!kind("name(4)").accepts("a b"));
        assert!(!kind("name(4)").accepts("abcde"));
        assert!(!kind("name(4)").accepts(""));
        assert!(kind("text(4)").accepts("a b"));
        assert!(kind("text(4)").accepts(""));
        assert!(!kind("text(4)").accepts("a\u{1b}"));
    }
}
