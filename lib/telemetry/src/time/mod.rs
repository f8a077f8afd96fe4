//! Dates and times as StarOS prints them: log lines, `show`, file names, SNMP.
//!
//! The standard library has no calendar; this is the small part of one that the node needs. Days and dates follow the proleptic
//! Gregorian calendar, local time the system's time zone file.

mod uptime;
mod zone;

use std::time::{SystemTime, UNIX_EPOCH};

pub use uptime::node_uptime;
pub use zone::{Offset, Zone};

/// A date and time of day, in UTC or in local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// Year.
    pub year: i64,
    /// Month, 1-12.
    pub month: u8,
    /// Day of the month, 1-31.
    pub day: u8,
    /// 0-23.
    pub hour: u8,
    /// 0-59.
    pub minute: u8,
    /// 0-59.
    pub second: u8,
    /// 0-999.
    pub millisecond: u16,
    /// Day of the week, 0 is Sunday.
    pub weekday: u8,
}

impl Civil {
    /// The time in UTC.
    pub fn utc(time: SystemTime) -> Self {
        Self::at(time, 0)
    }

    /// The time in a zone.
    pub fn local(time: SystemTime, zone: &Zone) -> Self {
        Self::at(time, zone.offset(unix_seconds(time)).seconds)
    }

    fn at(time: SystemTime, offset: i32) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = unix_seconds(time).saturating_add(i64::from(offset));
        let (days, of_day) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        let (year, month, day) = date_of(days);
        Self {
            year,
            month,
            day,
            hour: (of_day / 3_600) as u8,
            minute: (of_day / 60 % 60) as u8,
            second: (of_day % 60) as u8,
            millisecond: since.subsec_millis() as u16,
            weekday: (days + 4).rem_euclid(7) as u8,
        }
    }

    /// `Sun`, `Mon`, ...
    pub fn weekday_name(&self) -> &'static str {
        self.weekday_full().get(..3).unwrap_or_default()
    }

    /// `Sunday`, `Monday`, ...
    pub fn weekday_full(&self) -> &'static str {
        WEEKDAYS
            .get(usize::from(self.weekday))
            .copied()
            .unwrap_or_default()
    }

    /// `Jan`, `Feb`, ...
    pub fn month_name(&self) -> &'static str {
        self.month_full().get(..3).unwrap_or_default()
    }

    /// `January`, `February`, ...
    pub fn month_full(&self) -> &'static str {
        MONTHS
            .get(usize::from(self.month).wrapping_sub(1))
            .copied()
            .unwrap_or_default()
    }

    /// `2020-Dec-20+12:45:31`, as in crash lists.
    pub fn stamp(&self) -> String {
        let Self {
            year,
            day,
            hour,
            minute,
            second,
            ..
        } = self;
        format!(
            "{year:04}-{}-{day:02}+{hour:02}:{minute:02}:{second:02}",
            self.month_name()
        )
    }

    /// `Wed Aug 10 09:45:04 2022`, as in the trap history.
    pub fn asctime(&self) -> String {
        let Self {
            year,
            day,
            hour,
            minute,
            second,
            ..
        } = self;
        let (weekday, month) = (self.weekday_name(), self.month_name());
        format!("{weekday} {month} {day:02} {hour:02}:{minute:02}:{second:02} {year}")
    }

    /// `Thursday April 04 14:41:03 ART 2024`, as in `show bulkstats`; the zone's abbreviation is given.
    pub fn long(&self, zone: &str) -> String {
        let Self {
            year,
            day,
            hour,
            minute,
            second,
            ..
        } = self;
        let (weekday, month) = (self.weekday_full(), self.month_full());
        format!("{weekday} {month} {day:02} {hour:02}:{minute:02}:{second:02} {zone} {year}")
    }
}

/// Seconds since 1970 in UTC; 0 for a time before.
pub fn unix_seconds(time: SystemTime) -> i64 {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// Seconds in a day.
const DAY: i64 = 86_400;

const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Year, month and day of a day counted from 1970-01-01. Years are taken to begin in March, which puts the leap day last.
fn date_of(days: i64) -> (i64, u8, u8) {
    // 719,468 days lie between 0000-03-01 and 1970-01-01; 146,097 days are 400 years.
    let shifted = days.saturating_add(719_468);
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (
        era * 400 + year_of_era + i64::from(month <= 2),
        month as u8,
        day as u8,
    )
}

/// Days from 1970-01-01 to a date: the inverse of [`date_of`].
fn days_to(year: i64, month: u8, day: u8) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = (i64::from(month) + 9) % 12;
    let of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn utc(seconds: u64) -> Civil {
        Civil::utc(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn known_moments() {
        // date -u -d @1608468331
        assert_eq!(utc(1_608_468_331).stamp(), "2020-Dec-20+12:45:31");
        // date -u -d @951782400: a leap day of a year divisible by 400.
        assert_eq!(utc(951_782_400).asctime(), "Tue Feb 29 00:00:00 2000");
        assert_eq!(utc(0).asctime(), "Thu Jan 01 00:00:00 1970");
        assert_eq!(
            utc(1_712_241_663).long("UTC"),
            "Thursday April 04 14:41:03 UTC 2024"
        );
    }

    proptest! {
        #[test]
        fn dates_and_days_are_inverse(days in -1_000_000i64..1_000_000) {
            let (year, month, day) = date_of(days);
            prop_assert!((1..=12).contains(&month) && (1..=31).contains(&day));
            prop_assert_eq!(days_to(year, month, day), days);
        }
    }
}
