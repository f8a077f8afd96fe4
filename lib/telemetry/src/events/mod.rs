//! The table of events: everything worth telling an operator, declared once.
//!
//! A row gives a Rust structure with typed fields, the number and severity in the log, the sentence, and where there is one the SNMP
//! trap with its variables and the alarm that it raises or clears.
//!
//! ```
//! use telemetry::events::{self, ConfigurationUpdate};
//! events::emit(&ConfigurationUpdate { user: "admin", line: "system hostname sgw1" });
//! ```

mod access;
mod emit;
mod ike;
mod network;
mod node;
mod resources;

pub use access::*;
pub use emit::{EventSink, Record, emit, install};
pub use ike::*;
pub use network::*;
pub use node::*;
pub use resources::*;

/// Something worth telling: one structure of the table.
pub trait Event {
    /// Its row.
    const DESCRIPTOR: &'static Descriptor;

    /// The sentence for the log.
    fn text(&self) -> String;

    /// The fields by name, in the order of the row.
    fn fields(&self) -> Vec<(&'static str, String)>;

    /// Where occurrences of this kind are held back when there are too many of them.
    #[doc(hidden)]
    fn gate() -> &'static emit::Gate;
}

/// How serious an event is, in StarOS's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Service is affected now.
    Critical,
    /// Something failed.
    Error,
    /// Something may fail soon, or is configured weakly.
    Warning,
    /// Not expected, but handled.
    Unusual,
    /// Normal operation.
    Info,
    /// For the developer.
    Debug,
}

impl Severity {
    /// The severity of a word in `logging filter`; `trace` shows as much as `debug`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "critical" => Some(Self::Critical),
            "error" => Some(Self::Error),
            "warning" => Some(Self::Warning),
            "unusual" => Some(Self::Unusual),
            "info" => Some(Self::Info),
            "trace" | "debug" => Some(Self::Debug),
            _ => None,
        }
    }

    /// The word in log lines and in `logging filter`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Unusual => "unusual",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// A row of the table.
#[derive(Debug)]
pub struct Descriptor {
    /// Name of the structure, e.g. `IpsecTunnelUp`; travels on the bus.
    pub id: &'static str,
    /// What it means, from its documentation.
    pub meaning: &'static str,
    /// Event number in log lines: thousands of the facility.
    pub number: u32,
    /// The facility that emits it.
    pub facility: &'static str,
    /// How serious.
    pub severity: Severity,
    /// The sentence, with `{field}` where values go.
    pub text: &'static str,
    /// Field names.
    pub fields: &'static [&'static str],
    /// The SNMP notification, if there is one.
    pub trap: Option<Trap>,
    /// What it does to the list of alarms.
    pub alarm: Option<Alarm>,
}

impl Descriptor {
    /// The row of an event by its name.
    pub fn find(id: &str) -> Option<&'static Self> {
        all().find(|row| row.id == id)
    }
}

/// A notification of STARENT-MIB.
#[derive(Debug, Clone, Copy)]
pub struct Trap {
    /// Last arc below `starentTraps`, and the number in `show snmp trap history`.
    pub number: u32,
    /// Name without `star`, as `snmp trap enable` and the history have it.
    pub name: &'static str,
    /// Its variables, in the order of the MIB.
    pub variables: &'static [Variable],
}

/// A variable of a notification.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Object name in the MIB.
    pub object: &'static str,
    /// Where its value comes from.
    pub value: Value,
}

/// Where the value of a variable comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// The event's field of this name.
    Field(&'static str),
    /// Always this number.
    Number(u32),
}

/// What an event does to the list of alarms. Two events speak of the same object when the fields named in `object` are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// Raises an alarm.
    Raise {
        /// `CR`, `MJ` or `MN` in `show alarm`.
        severity: AlarmSeverity,
        /// Fields that identify the object.
        object: &'static [&'static str],
    },
    /// Clears the alarm that the event of this name raised.
    Clear {
        /// Name of the raising event.
        raised_by: &'static str,
        /// Fields that identify the object, the same as in the raising event.
        object: &'static [&'static str],
    },
}

/// How serious an alarm is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmSeverity {
    /// Shown as `CR`.
    Critical,
    /// Shown as `MJ`.
    Major,
    /// Shown as `MN`.
    Minor,
}

/// Every row of the table.
pub fn all() -> impl Iterator<Item = &'static Descriptor> {
    [
        node::ROWS,
        resources::ROWS,
        access::ROWS,
        network::ROWS,
        ike::ROWS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// Declares rows. An event without `<'a>` borrows nothing.
macro_rules! events {
    ($(
        #[doc = $meaning:literal]
        $name:ident $(<$life:lifetime>)? = $facility:ident $number:literal $severity:ident {
            $(#[doc = $field_doc:literal] $field:ident: $type:ty,)*
        } says $text:literal
        $(trap $trap:literal $trap_name:ident [$($object:ident = $source:tt),*])?
        $(raises $alarm:ident for $raised_object:tt)?
        $(clears $cleared:ident for $cleared_object:tt)?
        ;
    )*) => {
        $(
            #[doc = $meaning]
            #[derive(Debug, Clone, Copy)]
            pub struct $name $(<$life>)? {
                $(#[doc = $field_doc] pub $field: $type,)*
            }

            impl $(<$life>)? $crate::events::Event for $name $(<$life>)? {
                const DESCRIPTOR: &'static $crate::events::Descriptor = &$crate::events::Descriptor {
                    id: stringify!($name),
                    meaning: $meaning,
                    number: $number,
                    facility: stringify!($facility),
                    severity: $crate::events::Severity::$severity,
                    text: $text,
                    fields: &[$(stringify!($field)),*],
                    trap: $crate::events::optional!($($crate::events::Trap {
                        number: $trap,
                        name: stringify!($trap_name),
                        variables: &[$($crate::events::Variable {
                            object: stringify!($object),
                            value: $crate::events::source!($source),
                        }),*],
                    })?),
                    alarm: $crate::events::optional!(
                        $($crate::events::Alarm::Raise {
                            severity: $crate::events::AlarmSeverity::$alarm,
                            object: &$crate::events::names!($raised_object),
                        })?
                        $($crate::events::Alarm::Clear {
                            raised_by: stringify!($cleared),
                            object: &$crate::events::names!($cleared_object),
                        })?
                    ),
                };

                fn text(&self) -> String {
                    let Self { $($field),* } = self;
                    // A text need not tell of every field.
                    let _ = ($($field),*);
                    format!($text)
                }

                fn fields(&self) -> Vec<(&'static str, String)> {
                    vec![$((stringify!($field), self.$field.to_string())),*]
                }

                fn gate() -> &'static $crate::events::emit::Gate {
                    static GATE: $crate::events::emit::Gate = $crate::events::emit::Gate::new();
                    &GATE
                }
            }
        )*

        pub(super) const ROWS: &[&$crate::events::Descriptor] =
            &[$(<$name as $crate::events::Event>::DESCRIPTOR),*];
    };
}

/// `Some(x)` for something, `None` for nothing.
macro_rules! optional {
    () => { None };
    ($($some:tt)+) => { Some($($some)+) };
}

/// The source of a trap variable: a number, or the name of a field.
macro_rules! source {
    ($number:literal) => {
        $crate::events::Value::Number($number)
    };
    ($field:ident) => {
        $crate::events::Value::Field(stringify!($field))
    };
}

/// Names of fields: `(facility, instance)`.
macro_rules! names {
    (($($field:ident),*)) => { [$(stringify!($field)),*] };
}

use {events, names, optional, source};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_numbers_and_traps_are_unique() {
        let (mut ids, mut numbers, mut traps) = (HashSet::new(), HashSet::new(), HashSet::new());
        for row in all() {
            assert!(ids.insert(row.id), "{} is declared twice", row.id);
            assert!(numbers.insert(row.number), "number {} is used twice", row.number);
            if let Some(trap) = &row.trap {
                assert!(traps.insert(trap.number), "trap {} is used twice", trap.number);
            }
        }
    }

    #[test]
    fn traps_and_alarms_name_fields_that_exist() {
        for row in all() {
            for variable in row.trap.iter().flat_map(|trap| trap.variables) {
                if let Value::Field(field) = variable.value {
                    assert!(row.fields.contains(&field), "{}: no field {field}", row.id);
                }
            }
            let object = match row.alarm {
                None => continue,
                Some(Alarm::Raise { object, .. }) => object,
                Some(Alarm::Clear { raised_by, object }) => {
                    let raising = Descriptor::find(raised_by).expect(raised_by);
                    let Some(Alarm::Raise { object: raised, .. }) = raising.alarm else {
                        panic!("{raised_by} raises nothing")
                    };
                    assert_eq!(
                        raised, object,
                        "{} and {raised_by} speak of different objects",
                        row.id
                    );
                    object
                }
            };
            for field in object {
                assert!(row.fields.contains(field), "{}: no field {field}", row.id);
            }
        }
    }

    #[test]
    fn an_event_says_its_sentence_and_names_its_fields() {
        let event = TunnelsLost { worker: 3, count: 12 };
        assert_eq!(event.text(), "12 tunnels lost by the restart of ipsecmgr 3");
        assert_eq!(
            event.fields(),
            [("worker", "3".to_owned()), ("count", "12".to_owned())]
        );
    }
}
