//! Shared configuration task.

use zeroize::Zeroize as _;

use crate::message::{events, link_messages, requests};

requests! {
    0x0201 idempotent GetConfig => ConfigText;
    0x0202 once Configure => Configured;
    0x0203 once SaveConfig => Saved;
    0x0204 once OpenSession => SessionOpened;
    0x0205 idempotent CloseSession => SessionClosed;
}

link_messages! {
    0x0240 RevealSecret => Revealed;
}

events! {
    0x0280 ConfigChanged;
}

/// The running configuration, please.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetConfig {}

/// The running configuration as canonical text; secrets stay sealed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ConfigText {
    /// Grows with every change.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// What `show configuration` prints.
    #[prost(string, tag = "2")]
    pub text: String,
}

/// The running configuration has a new version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ConfigChanged {
    /// The new version.
    #[prost(uint64, tag = "1")]
    pub version: u64,
}

/// Apply one configuration line typed in a shell.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Configure {
    /// The configuration lines that lead to the mode the shell is in (`context isp`, `wsg-service enb`), outermost first.
    #[prost(string, repeated, tag = "1")]
    pub path: Vec<String>,
    /// The line.
    #[prost(string, tag = "2")]
    pub line: String,
    /// Administrator name.
    #[prost(string, tag = "3")]
    pub user: String,
}

/// What became of a line.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Configured {
    /// Empty when it was applied, otherwise the sentence after `Failure: `.
    #[prost(string, tag = "1")]
    pub failure: String,
    /// Offset in the line of the token at fault.
    #[prost(uint32, optional, tag = "2")]
    pub column: Option<u32>,
    /// The mode path after the line.
    #[prost(string, repeated, tag = "3")]
    pub path: Vec<String>,
    /// Warnings to show (weak algorithm, object not yet defined).
    #[prost(string, repeated, tag = "4")]
    pub warnings: Vec<String>,
    /// Version of the running configuration after the line.
    #[prost(uint64, tag = "5")]
    pub version: u64,
    /// The line left configuration mode (`end`, or `exit` at the top).
    #[prost(bool, tag = "6")]
    pub ended: bool,
}

/// Save the running configuration.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SaveConfig {
    /// Where to (`/flash/...`); empty: the boot configuration file.
    #[prost(string, tag = "1")]
    pub url: String,
    /// Administrator name.
    #[prost(string, tag = "2")]
    pub user: String,
    /// Nothing is written: the answer says only whether there is such a file.
    #[prost(bool, tag = "3")]
    pub probe: bool,
}

/// What became of it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Saved {
    /// Empty when saved, otherwise the sentence after `Failure: `.
    #[prost(string, tag = "1")]
    pub failure: String,
    /// The file written.
    #[prost(string, tag = "2")]
    pub file: String,
    /// The file was there before.
    #[prost(bool, tag = "3")]
    pub existed: bool,
}

/// A shell begins: what may this administrator do?
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenSession {
    /// Administrator name.
    #[prost(string, tag = "1")]
    pub user: String,
    /// Terminal of a person; empty for a script, whose sessions are not listed.
    #[prost(string, tag = "2")]
    pub tty: String,
    /// Process of the shell: the session ends with it at the latest.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
}

/// The level of an administrator.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionOpened {
    /// `inspector`, `operator`, `administrator`, `security-administrator`; empty when unknown.
    #[prost(string, tag = "1")]
    pub level: String,
    /// Number of the session; 0 if it is not listed.
    #[prost(uint32, tag = "2")]
    pub session: u32,
}

/// A shell ends.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CloseSession {
    /// Number of the session.
    #[prost(uint32, tag = "1")]
    pub session: u32,
}

/// It is no longer listed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionClosed {}

/// What does this sealed text of the configuration say? (over a link)
#[derive(Clone, PartialEq, prost::Message)]
pub struct RevealSecret {
    /// The sealed form as printed after `encrypted key`.
    #[prost(string, tag = "1")]
    pub sealed: String,
}

/// The plain secret; wiped when dropped.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Revealed {
    /// Plain octets; empty with a failure.
    #[prost(bytes = "vec", tag = "1")]
    pub secret: Vec<u8>,
    /// Why not.
    #[prost(string, tag = "2")]
    pub failure: String,
}

impl Drop for Revealed {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}
