//! The table of counters: every number the node keeps, declared once.
//!
//! A row gives the Rust constant, the bulkstats variable, the label and the block under which `show` prints it, the SNMP objects
//! that report it, the facility that moves it, and the test that proves that it moves. Everything else (bulkstats, SNMP, `show`,
//! the generated reference) is derived. A row that nothing moves does not exist.
//!
//! ```
//! use telemetry::{counters::ikev2, Counters};
//! let counters = Counters::in_memory();
//! counters.inc(ikev2::RX_PACKETS);
//! assert_eq!(counters.get(ikev2::RX_PACKETS), 1);
//! ```

pub mod aaa;
pub mod congestion;
pub mod ikev2;
pub mod ikev2_auth;
pub mod ikev2_decode;
pub mod ikev2_notify;
pub mod ippool;
pub mod ipsec;
pub mod recovery;
pub mod session;
pub mod slots;
pub mod wsg;
pub mod wsg_state;

/// One number of the table: the handle that managers count with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Counter(u16);

impl Counter {
    /// How many counters the table has.
    pub const COUNT: usize = slots::END as usize;

    /// Every counter, in table order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..slots::END).map(Self)
    }

    /// The counter behind a bulkstats variable of a schema.
    pub fn find(schema: Schema, variable: &str) -> Option<Self> {
        Self::all().find(|counter| {
            let row = counter.descriptor();
            row.schema == schema && row.variable == variable
        })
    }

    /// Its row in the table.
    pub const fn descriptor(self) -> &'static Descriptor {
        &TABLE[self.0 as usize]
    }

    /// Its place in a counter page.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// How a number behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Accumulates, survives a restart of its process, rolls over at its width.
    Counter,
    /// A level; starts at zero with its process.
    Gauge,
}

impl Kind {
    /// The word that `show bulkstats variables` prints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "Counter",
            Self::Gauge => "Gauge",
        }
    }
}

/// How wide a number is where it is reported; it is always kept in 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    /// `Int32`: a counter rolls over at 2^32, a gauge stops there.
    Bits32,
    /// `Int64`.
    Bits64,
}

impl Width {
    /// The word that `show bulkstats variables` prints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bits32 => "Int32",
            Self::Bits64 => "Int64",
        }
    }
}

/// The bulkstats schema a variable belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Schema {
    /// Totals of the node.
    System,
    /// One set for each `wsg-service`; kept in scoped pages (see [`crate::Scope`]).
    Wsg,
    /// One set for each pool of addresses; kept in scoped pages.
    IpPool,
}

impl Schema {
    /// Every schema, in the order of the reference.
    pub const ALL: [Self; 3] = [Self::System, Self::Wsg, Self::IpPool];

    /// The keyword in front of `schema` in the configuration; the system schema has none there.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Wsg => "wsg",
            Self::IpPool => "ippool",
        }
    }

    /// The schema with this keyword.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|schema| schema.name() == name)
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Descriptor {
    /// The Rust path below [`crate::counters`], e.g. `ikev2::RX_PACKETS`.
    pub id: &'static str,
    /// Bulkstats variable, without percent signs.
    pub variable: &'static str,
    /// Its schema.
    pub schema: Schema,
    /// Counter or gauge.
    pub kind: Kind,
    /// Width where it is reported.
    pub width: Width,
    /// Title of the `show` block.
    pub section: &'static str,
    /// Label in that block.
    pub label: &'static str,
    /// The facility that moves it.
    pub facility: &'static str,
    /// Names of the SNMP objects that report it; the MIB knows their identifiers and types.
    pub objects: &'static [&'static str],
    /// The test that moves it.
    pub test: &'static str,
}

impl Descriptor {
    /// The value as reported at this row's width: counters roll over, gauges stop at the maximum.
    pub const fn at_width(&self, value: u64) -> u64 {
        match (self.width, self.kind) {
            (Width::Bits64, _) => value,
            (Width::Bits32, Kind::Counter) => value & 0xFFFF_FFFF,
            (Width::Bits32, Kind::Gauge) if value > 0xFFFF_FFFF => 0xFFFF_FFFF,
            (Width::Bits32, Kind::Gauge) => value,
        }
    }
}

/// Identifies the table in a counter page: FNV-1a over the identifiers and kinds in order, so that in a page written by another version of
/// the software counters are looked for by their names instead of being misread.
pub const FINGERPRINT: u64 = fingerprint();

/// Declares the rows of one area. `after` is where the indices of the area before end.
macro_rules! counters {
    (
        area $area:literal, after $first:expr, facility $facility:literal, schema $schema:ident;
        $(
            section $section:literal, moved by $test:literal {
                $(
                    $name:ident $kind:ident $width:ident $variable:literal $label:literal
                    $(reported as $($object:ident),+)?;
                )*
            }
        )*
    ) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        #[repr(u16)]
        enum Position { $($($name,)*)* END_OF_AREA }

        const FIRST: u16 = $first;
        pub(super) const END: u16 = FIRST + Position::END_OF_AREA as u16;

        $($(
            #[doc = concat!("`", $variable, "`: ", $label, ".")]
            pub const $name: $crate::counters::Counter = $crate::counters::Counter(FIRST + Position::$name as u16);
        )*)*

        pub(super) const ROWS: &[$crate::counters::Descriptor] = &[$($(
            $crate::counters::Descriptor {
                id: concat!($area, "::", stringify!($name)),
                variable: $variable,
                schema: $crate::counters::Schema::$schema,
                kind: $crate::counters::Kind::$kind,
                width: $crate::counters::Width::$width,
                section: $section,
                label: $label,
                facility: $facility,
                objects: &[$($(stringify!($object)),+)?],
                test: $test,
            },
        )*)*];
    };
}
use counters;

/// The areas in the order of their indices; `after` in each area names the one before it.
const AREAS: &[&[Descriptor]] = &[
    ikev2::ROWS,
    ikev2_auth::ROWS,
    ikev2_decode::ROWS,
    ikev2_notify::ROWS,
    ipsec::ROWS,
    session::ROWS,
    aaa::ROWS,
    wsg::ROWS,
    ippool::ROWS,
    wsg_state::ROWS,
    recovery::ROWS,
    congestion::ROWS,
    slots::ROWS,
];

static TABLE: [Descriptor; Counter::COUNT] = table();

const fn table() -> [Descriptor; Counter::COUNT] {
    let mut rows = [ikev2::ROWS[0]; Counter::COUNT];
    let (mut area, mut next) = (0, 0);
    while area < AREAS.len() {
        let mut row = 0;
        while row < AREAS[area].len() {
            rows[next] = AREAS[area][row];
            row += 1;
            next += 1;
        }
        area += 1;
    }
    assert!(next == Counter::COUNT, "the areas and their `after` disagree");
    rows
}

const fn fingerprint() -> u64 {
    let rows = table();
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut row = 0;
    while row < rows.len() {
        let id = rows[row].id.as_bytes();
        let mut byte = 0;
        while byte < id.len() {
            hash = (hash ^ id[byte] as u64).wrapping_mul(0x0100_0000_01b3);
            byte += 1;
        }
        hash = (hash ^ (0xF0 + rows[row].kind as u64)).wrapping_mul(0x0100_0000_01b3);
        row += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn identifiers_variables_and_objects_are_unique() {
        let mut ids = HashSet::new();
        let mut variables = HashSet::new();
        let mut objects = HashSet::new();
        for counter in Counter::all() {
            let row = counter.descriptor();
            assert!(ids.insert(row.id), "{} is declared twice", row.id);
            assert!(
                variables.insert((row.schema, row.variable)),
                "{} is declared twice",
                row.variable
            );
            for object in row.objects {
                assert!(objects.insert(object), "{object} is declared twice");
            }
        }
    }

    #[test]
    fn a_constant_finds_its_own_row() {
        assert_eq!(ikev2::RX_PACKETS.descriptor().variable, "ikev2-rxpacket");
        assert_eq!(
            wsg::SETUP_ATTEMPTS.descriptor().variable,
            "wsg-total-setup-attempts"
        );
        assert_eq!(
            Counter::find(Schema::System, "ikev2-rxpacket"),
            Some(ikev2::RX_PACKETS)
        );
        assert_eq!(Counter::find(Schema::Wsg, "ikev2-rxpacket"), None);
    }

    #[test]
    fn counters_roll_over_and_gauges_stop_at_their_width() {
        let counter = ikev2::RX_PACKETS.descriptor();
        let gauge = ikev2::CURRENT_SAS.descriptor();
        let wide = ipsec::RX_ESP_OCTETS.descriptor();
        assert_eq!(counter.at_width(u64::from(u32::MAX) + 3), 2);
        assert_eq!(gauge.at_width(u64::from(u32::MAX) + 3), u64::from(u32::MAX));
        assert_eq!(wide.at_width(u64::MAX), u64::MAX);
    }
}
