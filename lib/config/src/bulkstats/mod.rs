//! Bulk statistics as a configuration may ask for them: the types of schemas, their variables, and format strings. What the variables say is up
//! to the process that samples them.

mod format;

use telemetry::counters::{Counter, Schema};

pub use format::Format;

/// What samples are taken of: one line is written for each object of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The node as a card.
    Card,
    /// One line a `wsg-service`.
    Wsg,
    /// The node. Comes last in a sample.
    System,
}

impl Kind {
    /// Every kind, in the order of their lines.
    pub const ALL: [Self; 3] = [Self::Card, Self::Wsg, Self::System];

    /// The keyword in front of `schema`; the system schema has none in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::Wsg => "wsg",
            Self::System => "system",
        }
    }

    /// The kind with this keyword.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The first variable of a format that has no value in lines of this kind, or in headers, footers and file names (`None`).
pub fn unknown_variable(kind: Option<Kind>, format: &str) -> Option<String> {
    let schemas = [Some(COMMON_SCHEMA), kind.map(Kind::name)];
    let rows = rows();
    let known = |variable: &str| {
        rows.iter()
            .any(|row| row.variable == variable && schemas.contains(&Some(row.schema)))
    };
    let format = Format::parse(format);
    let mut variables = format.variables();
    variables.find(|variable| !known(variable)).map(str::to_owned)
}

/// A row of `show bulkstats variables`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Schema name.
    pub schema: &'static str,
    /// Variable, without percent signs.
    pub variable: &'static str,
    /// `Int32`, `Int64`, `Float`, `String`.
    pub data_type: &'static str,
    /// Whether it is a key.
    pub key: bool,
    /// `Counter`, `Gauge`, `Info`.
    pub counter_type: &'static str,
}

/// Every variable there is.
pub fn rows() -> Vec<Row> {
    let info = |schema, (variable, data_type): (&'static str, &'static str), key| Row {
        schema,
        variable,
        data_type,
        key,
        counter_type: "Info",
    };
    let counters = |schema: Schema| {
        let rows = Counter::all()
            .map(Counter::descriptor)
            .filter(move |row| row.schema == schema);
        rows.map(|row| Row {
            schema: row.schema.name(),
            variable: row.variable,
            data_type: row.width.name(),
            key: false,
            counter_type: row.kind.name(),
        })
    };
    let mut rows: Vec<_> = COMMON
        .iter()
        .map(|&row| info(COMMON_SCHEMA, row, false))
        .collect();
    rows.extend(counters(Schema::System));
    rows.extend(CARD.iter().map(|&(variable, data_type, counter_type)| Row {
        schema: Kind::Card.name(),
        variable,
        data_type,
        key: variable == "card",
        counter_type,
    }));
    rows.extend(CRYPTO_CORES.iter().map(|&variable| Row {
        schema: Kind::Card.name(),
        variable,
        data_type: "Float",
        key: false,
        counter_type: "Gauge",
    }));
    rows.extend(WSG_KEYS.iter().enumerate().map(|(place, &variable)| {
        // The first four identify the service.
        info(Kind::Wsg.name(), (variable, "String"), place < 4)
    }));
    rows.extend(counters(Schema::Wsg));
    rows
}

/// Name of the variables that every schema has.
const COMMON_SCHEMA: &str = "common";

/// For every schema, header, footer and file name.
const COMMON: &[(&str, &str)] = &[
    ("uptime", "Int32"),
    ("sysuptime", "Int32"),
    ("host", "String"),
    ("ipaddr", "String"),
    ("date", "String"),
    ("date3", "String"),
    ("time", "String"),
    ("time2", "String"),
    ("time3", "String"),
    ("epochtime", "Int32"),
    ("localdate", "String"),
    ("localdate3", "String"),
    ("localtime", "String"),
    ("localtime2", "String"),
    ("localtime3", "String"),
    ("localtz", "String"),
    ("localtzoffset", "String"),
    ("swbuild", "String"),
    ("version-no", "String"),
];

const WSG_KEYS: &[&str] = &["vpnname", "vpnid", "svcname", "svcid", "bindaddress", "state"];

const CARD: &[(&str, &str, &str)] = &[
    ("card", "Int32", "Info"),
    ("cpubusy", "Float", "Gauge"),
    ("cpuidle", "Float", "Gauge"),
    ("numproc", "Int32", "Counter"),
    ("memused", "Int32", "Gauge"),
    ("memtotal", "Int32", "Gauge"),
    ("numcpu", "Int32", "Gauge"),
    ("cpu0-cpubusy", "Float", "Gauge"),
    ("cpu0-cpuidle", "Float", "Gauge"),
    ("cpu0-numproc", "Int32", "Counter"),
    ("cpu0-memused", "Int32", "Gauge"),
    ("cpu0-memtotal", "Int32", "Gauge"),
    ("cpu0-cpuused-user", "Float", "Gauge"),
    ("cpu0-cpuused-sys", "Float", "Gauge"),
    ("cpu0-cpuused-io", "Float", "Gauge"),
    ("cpu0-cpuused-irq", "Float", "Gauge"),
    ("cpu0-cpuused-idle", "Float", "Gauge"),
];

macro_rules! crypto_cores {
    ($($number:literal)*) => { [$(concat!("cpu0-core", $number, "-coreused-crypto")),*] };
}

/// For each processor that the schema has, from 0 on: its use, if the data plane runs on it, otherwise 0.
pub const CRYPTO_CORES: [&str; 48] = crypto_cores! {
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23
    24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_belongs_to_its_schema_or_to_all() {
        let unknown = |kind, format| unknown_variable(kind, format);
        assert_eq!(
            unknown(Some(Kind::System), "%date%,%ikev2-cursa%,100% of %host%"),
            None
        );
        assert_eq!(
            unknown(Some(Kind::Wsg), "%svcname%,%ikev2-cursa%").as_deref(),
            Some("ikev2-cursa")
        );
        assert_eq!(
            unknown(Some(Kind::Card), "%card%,%nowhere%,%none%").as_deref(),
            Some("nowhere")
        );
        assert_eq!(unknown(None, "%host%_%card%").as_deref(), Some("card"));
    }
}
