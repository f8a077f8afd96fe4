//! The local time zone, from a time zone file (RFC 9636).

use std::path::Path;

use super::{DAY, date_of, days_to};

/// A time zone: how far local time is ahead of UTC, at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Changes of the offset: from this second on (since 1970, UTC), the offset with this index.
    transitions: Vec<(i64, usize)>,
    offsets: Vec<Offset>,
    /// What holds after the last transition.
    rule: Option<Rule>,
}

/// What local time is at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offset {
    /// Seconds ahead of UTC.
    pub seconds: i32,
    /// `CET`, `EST`, ...
    pub abbreviation: String,
}

impl Zone {
    /// Coordinated universal time.
    pub fn utc() -> Self {
        let offset = Offset {
            seconds: 0,
            abbreviation: "UTC".to_owned(),
        };
        Self {
            transitions: Vec::new(),
            offsets: vec![offset],
            rule: None,
        }
    }

    /// The zone of this machine: `TZ` if it names one, otherwise `/etc/localtime`; UTC when neither can be read.
    pub fn local() -> Self {
        let named = std::env::var("TZ").ok().filter(|name| !name.is_empty());
        match named {
            None => Self::load(Path::new("/etc/localtime")),
            Some(name) => {
                let name = name.strip_prefix(':').unwrap_or(&name);
                // Names are relative to the database; an absolute path stays one.
                Self::load(&Path::new("/usr/share/zoneinfo").join(name)).or_else(|| Self::posix(name))
            }
        }
        .unwrap_or_else(Self::utc)
    }

    /// Reads a time zone file; `None` when there is none or it is malformed.
    fn load(path: &Path) -> Option<Self> {
        Self::parse(&std::fs::read(path).ok()?)
    }

    /// A zone given by its rule, e.g. `CET-1CEST,M3.5.0,M10.5.0/3`.
    pub fn posix(text: &str) -> Option<Self> {
        let rule = Rule::parse(text)?;
        Some(Self {
            transitions: Vec::new(),
            offsets: vec![rule.standard.clone()],
            rule: Some(rule),
        })
    }

    /// Reads the octets of a time zone file.
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let mut input = Input(octets);
        let first = Header::read(&mut input)?;
        if first.version == 0 {
            return Self::block(&mut input, &first, 4);
        }
        // A second block with 64-bit times follows the first; a rule for the future follows that.
        input.take(first.length(4)?)?;
        let second = Header::read(&mut input)?;
        let mut zone = Self::block(&mut input, &second, 8)?;
        let footer = input
            .0
            .strip_prefix(b"\n")
            .and_then(|rest| rest.split(|&octet| octet == b'\n').next());
        zone.rule = footer.and_then(|text| Rule::parse(std::str::from_utf8(text).ok()?));
        Some(zone)
    }

    fn block(input: &mut Input<'_>, header: &Header, width: usize) -> Option<Self> {
        let times = input.take(header.times.checked_mul(width)?)?;
        let indices = input.take(header.times)?;
        let types = input.take(header.types.checked_mul(6)?)?;
        let names = input.take(header.names)?;
        input.take(header.leaps.checked_mul(width + 4)?.checked_add(header.flags)?)?;
        let offsets = types.chunks_exact(6).map(|row| {
            let name = names
                .get(usize::from(*row.get(5)?)..)?
                .split(|&octet| octet == 0)
                .next()?;
            Some(Offset {
                seconds: i32::try_from(signed(row.get(..4)?)).ok()?,
                abbreviation: String::from_utf8_lossy(name).into_owned(),
            })
        });
        let offsets: Vec<_> = offsets.collect::<Option<_>>()?;
        if offsets.is_empty() || indices.iter().any(|&index| usize::from(index) >= offsets.len()) {
            return None;
        }
        let times = times.chunks_exact(width).map(signed);
        let transitions = times
            .zip(indices.iter().map(|&index| usize::from(index)))
            .collect();
        Some(Self {
            transitions,
            offsets,
            rule: None,
        })
    }

    /// What local time is at a second since 1970, UTC.
    pub fn offset(&self, unix: i64) -> Offset {
        let passed = self.transitions.partition_point(|&(from, _)| from <= unix);
        if passed == self.transitions.len()
            && let Some(rule) = &self.rule
        {
            return rule.offset(unix).clone();
        }
        let index = match passed {
            0 => 0,
            _ => self.transitions.get(passed - 1).map_or(0, |&(_, index)| index),
        };
        self.offsets.get(index).cloned().unwrap_or(Offset {
            seconds: 0,
            abbreviation: "UTC".to_owned(),
        })
    }
}

/// The counts at the head of a block (RFC 9636 section 3.1).
struct Header {
    version: u8,
    flags: usize,
    leaps: usize,
    times: usize,
    types: usize,
    names: usize,
}

impl Header {
    fn read(input: &mut Input<'_>) -> Option<Self> {
        let head = input.take(44)?;
        if !head.starts_with(b"TZif") {
            return None;
        }
        let count = |at: usize| usize::try_from(signed(head.get(at..at + 4)?)).ok();
        Some(Self {
            version: *head.get(4)?,
            // The UT/local and standard/wall indicators are as many as said, one octet each.
            flags: count(20)?.checked_add(count(24)?)?,
            leaps: count(28)?,
            times: count(32)?,
            types: count(36)?,
            names: count(40)?,
        })
    }

    /// Octets of the block behind the header.
    fn length(&self, width: usize) -> Option<usize> {
        let times = self.times.checked_mul(width + 1)?;
        let leaps = self.leaps.checked_mul(width + 4)?;
        let types = self.types.checked_mul(6)?;
        times
            .checked_add(leaps)?
            .checked_add(types)?
            .checked_add(self.names)?
            .checked_add(self.flags)
    }
}

/// Octets not read yet.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

/// A big-endian two's complement number of up to eight octets.
fn signed(octets: &[u8]) -> i64 {
    let negative = octets.first().is_some_and(|octet| octet & 0x80 != 0);
    octets
        .iter()
        .fold(if negative { -1 } else { 0 }, |value, &octet| {
            value << 8 | i64::from(octet)
        })
}

/// A POSIX `TZ` rule, as extended by RFC 9636 section 3.3.1.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    standard: Offset,
    summer: Option<Summer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Summer {
    offset: Offset,
    begins: Change,
    ends: Change,
}

/// The day of a year, and the second of that day in local time, when the offset changes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    day: Day,
    second: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Day {
    /// `Mmonth.week.weekday`; week 5 is the last.
    Weekday { month: u8, week: u8, weekday: u8 },
    /// `Jn`: 1-365, February 29 is never counted.
    Julian(i64),
    /// `n`: 0-365, February 29 is counted.
    OfYear(i64),
}

impl Rule {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        let mut names = parts.next()?;
        let standard = Offset {
            abbreviation: name(&mut names)?,
            seconds: -seconds(&mut names)?,
        };
        if names.is_empty() {
            return Some(Self {
                standard,
                summer: None,
            });
        }
        let abbreviation = name(&mut names)?;
        let ahead = if names.is_empty() {
            standard.seconds.checked_add(3_600)?
        } else {
            -seconds(&mut names)?
        };
        let summer = Summer {
            offset: Offset {
                seconds: ahead,
                abbreviation,
            },
            begins: Change::parse(parts.next()?)?,
            ends: Change::parse(parts.next()?)?,
        };
        Some(Self {
            standard,
            summer: Some(summer),
        })
    }

    fn offset(&self, unix: i64) -> &Offset {
        let Some(summer) = &self.summer else {
            return &self.standard;
        };
        let (year, ..) = date_of(
            unix.saturating_add(i64::from(self.standard.seconds))
                .div_euclid(DAY),
        );
        let begins = summer.begins.in_year(year) - i64::from(self.standard.seconds);
        let ends = summer.ends.in_year(year) - i64::from(summer.offset.seconds);
        // In the south, summer time begins late in the year and ends early in it.
        let in_summer = if begins < ends {
            begins <= unix && unix < ends
        } else {
            begins <= unix || unix < ends
        };
        if in_summer { &summer.offset } else { &self.standard }
    }
}

impl Change {
    fn parse(text: &str) -> Option<Self> {
        let (day, time) = text.split_once('/').unwrap_or((text, "2"));
        let mut time = time;
        let second = i64::from(seconds(&mut time)?);
        let day = if let Some(rest) = day.strip_prefix('M') {
            let mut numbers = rest.split('.').map(str::parse::<u8>);
            let mut next = || numbers.next()?.ok();
            Day::Weekday {
                month: next()?,
                week: next()?,
                weekday: next()?,
            }
        } else if let Some(rest) = day.strip_prefix('J') {
            Day::Julian(rest.parse().ok().filter(|day| (1..=365).contains(day))?)
        } else {
            Day::OfYear(day.parse().ok().filter(|day| (0..=365).contains(day))?)
        };
        match day {
            Day::Weekday {
                month: 1..=12,
                week: 1..=5,
                weekday: 0..=6,
            }
            | Day::Julian(_)
            | Day::OfYear(_) => Some(Self { day, second }),
            Day::Weekday { .. } => None,
        }
    }

    /// Seconds since 1970 in the local time that holds before the change.
    fn in_year(&self, year: i64) -> i64 {
        let new_year = days_to(year, 1, 1);
        let leap = days_to(year, 3, 1) - days_to(year, 2, 28) == 2;
        let day = match self.day {
            Day::OfYear(day) => new_year + day,
            Day::Julian(day) => new_year + day - 1 + i64::from(leap && day >= 60),
            Day::Weekday { month, week, weekday } => {
                let first = days_to(year, month, 1);
                let next_month = if month == 12 {
                    days_to(year + 1, 1, 1)
                } else {
                    days_to(year, month + 1, 1)
                };
                // 1970-01-01 was a Thursday, day 4 of its week.
                let to_weekday = (i64::from(weekday) - (first + 4)).rem_euclid(7);
                let day = first + to_weekday + 7 * (i64::from(week) - 1);
                if day >= next_month { day - 7 } else { day }
            }
        };
        day * DAY + self.second
    }
}

/// Takes a name: letters, or anything between angle brackets.
fn name(text: &mut &str) -> Option<String> {
    let (name, rest) = match text.strip_prefix('<') {
        Some(quoted) => quoted.split_once('>')?,
        None => text.split_at(
            text.find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(text.len()),
        ),
    };
    *text = rest;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Takes `[+-]hh[:mm[:ss]]`, in seconds.
fn seconds(text: &mut &str) -> Option<i32> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && !"+-:".contains(c))
        .unwrap_or(text.len());
    let (time, rest) = text.split_at(end);
    *text = rest;
    let (sign, digits) = match time.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, time.strip_prefix('+').unwrap_or(time)),
    };
    let mut total = 0;
    let mut unit = 3_600;
    for part in digits.split(':') {
        let number: i32 = part.parse().ok().filter(|number| (0..=167).contains(number))?;
        total += number * unit;
        unit /= 60;
    }
    (unit > 0 || digits.split(':').count() <= 3).then_some(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(zone: &Zone, unix: i64) -> (i32, String) {
        let offset = zone.offset(unix);
        (offset.seconds, offset.abbreviation)
    }

    #[test]
    fn a_northern_rule() {
        let zone = Zone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        // TZ=Europe/Berlin date -d '2024-03-31 00:59:59 UTC', and a second later.
        assert_eq!(at(&zone, 1_711_846_799), (3_600, "CET".to_owned()));
        assert_eq!(at(&zone, 1_711_846_800), (7_200, "CEST".to_owned()));
        // 2024-10-27 01:00:00 UTC.
        assert_eq!(at(&zone, 1_729_990_799), (7_200, "CEST".to_owned()));
        assert_eq!(at(&zone, 1_729_990_800), (3_600, "CET".to_owned()));
    }

    #[test]
    fn a_southern_rule_and_a_quoted_name() {
        let zone = Zone::posix("AEST-10AEDT,M10.1.0,M4.1.0/3").unwrap();
        // 2024-01-15 and 2024-07-15, 00:00 UTC.
        assert_eq!(at(&zone, 1_705_276_800), (39_600, "AEDT".to_owned()));
        assert_eq!(at(&zone, 1_721_001_600), (36_000, "AEST".to_owned()));
        assert_eq!(
            at(&Zone::posix("<-03>3").unwrap(), 0),
            (-10_800, "-03".to_owned())
        );
    }

    /// A version 2 file with one transition and a rule, made by hand.
    fn file() -> Vec<u8> {
        let header = |times: u32| {
            let mut head = b"TZif2".to_vec();
            head.extend([0; 15]);
            for count in [0, 0, 0, times, 2, 8] {
                head.extend(u32::to_be_bytes(count));
            }
            head
        };
        let types = |file: &mut Vec<u8>| {
            file.extend(i32::to_be_bytes(3_600));
            file.extend([0, 0]);
            file.extend(i32::to_be_bytes(-18_000));
            file.extend([0, 4]);
            file.extend(b"AAA\0BBB\0");
        };
        let mut file = header(0);
        types(&mut file);
        file.extend(header(1));
        file.extend(i64::to_be_bytes(1_000));
        file.push(1);
        types(&mut file);
        file.extend(b"\nCCC3\n");
        file
    }

    #[test]
    fn a_file_gives_its_transitions_and_then_its_rule() {
        let zone = Zone::parse(&file()).unwrap();
        assert_eq!(at(&zone, 999), (3_600, "AAA".to_owned()));
        assert_eq!(at(&zone, 1_000), (-10_800, "CCC".to_owned()));
        let mut without_rule = zone.clone();
        without_rule.rule = None;
        assert_eq!(at(&without_rule, 1_000), (-18_000, "BBB".to_owned()));
    }

    #[test]
    fn a_truncated_file_is_refused() {
        let file = file();
        // Without its footer the file is still a zone, only the rule is missing.
        for length in 0..file.len() - b"\nCCC3\n".len() {
            assert_eq!(Zone::parse(&file[..length]), None, "{length} octets");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_read_without_panic(octets: Vec<u8>, unix: i64) {
            if let Some(zone) = Zone::parse(&octets) {
                zone.offset(unix);
            }
        }

        #[test]
        fn a_damaged_file_is_read_without_panic(at in 0usize..200, to: u8, unix in -1_000_000_000_000i64..1_000_000_000_000) {
            let mut file = file();
            let length = file.len();
            file[at % length] = to;
            if let Some(zone) = Zone::parse(&file) {
                zone.offset(unix);
            }
        }

        #[test]
        fn any_rule_is_read_without_panic(text in "[A-Z<>]{0,5}[-+0-9:]{0,8}[A-Z]{0,4},[MJ0-9./]{0,9},[MJ0-9./]{0,9}", unix in -1_000_000_000_000i64..1_000_000_000_000) {
            if let Some(zone) = Zone::posix(&text) {
                zone.offset(unix);
            }
        }
    }
}
