//! What every task answers and publishes.

use std::fmt::Display;

use prost::bytes::Bytes;

use crate::Facility;
use crate::message::{events, requests};

requests! {
    0x0001 idempotent Ping => Pong;
    0x0002 once Execute => Output;
    0x0003 idempotent Replay => Replayed;
}

events! {
    0x0080 Notice retains 1024;
}

/// Are you there?
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ping {}

/// I am.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Pong {
    /// Process id of the one who answers.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    /// The version of the configuration that it has applied, 0 before the first; absent if it follows none.
    #[prost(uint64, optional, tag = "2")]
    pub applied: Option<u64>,
}

/// Tell me again what you have published since then. Asked and answered by the bus itself, of events that are retained
/// ([`crate::Event::RETAINED`]).
#[derive(Clone, PartialEq, prost::Message)]
pub struct Replay {
    /// Type of the events.
    #[prost(uint32, tag = "1")]
    pub message: u32,
    /// The life of the publisher that `from` counts in.
    #[prost(fixed64, tag = "2")]
    pub incarnation: u64,
    /// Number of the first event wanted. In another life of the publisher it means nothing: then all are wanted.
    #[prost(uint64, tag = "3")]
    pub from: u64,
}

/// What is still retained of it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Replayed {
    /// The present life of the publisher.
    #[prost(fixed64, tag = "1")]
    pub incarnation: u64,
    /// Number of the next event to be published.
    #[prost(uint64, tag = "2")]
    pub next: u64,
    /// The frames as they were published, in order and without a gap up to `next`.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub frames: Vec<Bytes>,
}

/// Run an exec-mode command (`show ...`, `clear ...`) and return one bounded piece of its output.
///
/// The shell repeats the request with the cursor of the last answer until `more` is false.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Execute {
    /// Identifier of the command in the table of `config`.
    #[prost(string, tag = "1")]
    pub command: String,
    /// Parameters by name, as the table names them.
    #[prost(message, repeated, tag = "2")]
    pub parameters: Vec<Parameter>,
    /// Where the last piece ended; empty to begin.
    #[prost(bytes = "vec", tag = "3")]
    pub cursor: Vec<u8>,
    /// The context the shell is in.
    #[prost(string, tag = "4")]
    pub context: String,
    /// Administrator name, for events.
    #[prost(string, tag = "5")]
    pub user: String,
}

impl Execute {
    /// A command with these parameters (name and value; a keyword has an empty value), asked from no context, by nobody.
    pub fn new(command: &str, parameters: &[(&str, &str)]) -> Self {
        let parameter = |(name, value): &(&str, &str)| Parameter {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        };
        Self {
            command: command.to_owned(),
            parameters: parameters.iter().map(parameter).collect(),
            ..Self::default()
        }
    }

    /// Was the keyword or the parameter of this name typed?
    pub fn has(&self, name: &str) -> bool {
        self.parameters.iter().any(|parameter| parameter.name == name)
    }

    /// The value typed for the parameter of this name. A keyword may have the same name: it has no value.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|parameter| parameter.name == name && !parameter.value.is_empty())
            .map(|parameter| parameter.value.as_str())
    }

    /// What a task says to a command that is not one of its own.
    pub fn unknown_to(&self, task: Facility) -> String {
        format!("'{}' is not answered by {task}", self.command)
    }
}

/// One parameter of a command.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Parameter {
    /// Its name in the table.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value as typed.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// One piece of output.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Output {
    /// Text, whole lines.
    #[prost(string, tag = "1")]
    pub text: String,
    /// Ask again with this cursor if `more`.
    #[prost(bytes = "vec", tag = "2")]
    pub cursor: Vec<u8>,
    /// There is more.
    #[prost(bool, tag = "3")]
    pub more: bool,
    /// Heading, printed once by the shell before the text of the first instance that has any.
    #[prost(string, tag = "4")]
    pub heading: String,
    /// Totals, added over instances by the shell and printed as `label: value` at the end, in the order of the first answer.
    #[prost(message, repeated, tag = "5")]
    pub totals: Vec<Total>,
    /// Set when the command failed: the sentence after `Failure: `.
    #[prost(string, tag = "6")]
    pub failure: String,
}

impl Output {
    /// The command failed; `reason` is the sentence after `Failure: `.
    pub fn failed(reason: impl Display) -> Self {
        Self {
            failure: reason.to_string(),
            ..Self::default()
        }
    }

    /// Totals and nothing else.
    pub fn of_totals<L: Into<String>>(totals: impl IntoIterator<Item = (L, u64)>) -> Self {
        Self {
            totals: Total::all(totals),
            ..Self::default()
        }
    }
}

/// All there is to say.
impl From<String> for Output {
    fn from(text: String) -> Self {
        Self {
            text,
            ..Self::default()
        }
    }
}

/// What there is to say, or the sentence after `Failure: `.
impl<T: Into<Output>, E: Display> From<Result<T, E>> for Output {
    fn from(result: Result<T, E>) -> Self {
        result.map_or_else(Self::failed, Into::into)
    }
}

/// A number to be added up over instances.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Total {
    /// As printed.
    #[prost(string, tag = "1")]
    pub label: String,
    /// The share of this instance.
    #[prost(uint64, tag = "2")]
    pub value: u64,
}

impl Total {
    /// A list of them, from label and value.
    pub fn all<L: Into<String>>(totals: impl IntoIterator<Item = (L, u64)>) -> Vec<Self> {
        let total = |(label, value): (L, u64)| Self {
            label: label.into(),
            value,
        };
        totals.into_iter().map(total).collect()
    }
}

/// An event of the telemetry table, as published by the task where it happened.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Notice {
    /// Identifier in the table of `telemetry::events`.
    #[prost(string, tag = "1")]
    pub event: String,
    /// When: milliseconds since the Unix epoch.
    #[prost(uint64, tag = "2")]
    pub time: u64,
    /// The sentence that went to the log.
    #[prost(string, tag = "3")]
    pub text: String,
    /// Named values, for trap variables and filters.
    #[prost(message, repeated, tag = "4")]
    pub fields: Vec<Parameter>,
}
