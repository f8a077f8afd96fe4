//! What the configuration asks for.

use std::time::Duration;

use config::bulkstats::{Format, Kind};

/// `bulkstats mode` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `bulkstats collection`.
    pub collecting: bool,
    /// `sample-interval`.
    pub sample_interval: Duration,
    /// `transfer-interval`.
    pub transfer_interval: Duration,
    /// `limit`: octets that may await transfer in a file; older records make room for newer ones.
    pub limit: u64,
    /// The files, by number.
    pub files: Vec<FileSettings>,
}

/// `file N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    /// Its number, 1-4.
    pub number: u32,
    /// `remotefile format`.
    pub remote_file: String,
    /// `header format`; empty: none.
    pub header: String,
    /// `footer format`; empty: none.
    pub footer: String,
    /// Its schema lines.
    pub schemas: Vec<SchemaSettings>,
}

/// A schema line: `[KIND] schema NAME format FORMAT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaSettings {
    /// What it samples.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its format.
    pub format: Format,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            collecting: false,
            sample_interval: Duration::from_secs(15 * 60),
            transfer_interval: Duration::from_secs(480 * 60),
            limit: 1_000 * 1_024,
            files: Vec::new(),
        }
    }
}

/// Where records go when `remotefile format` is not configured.
pub const DEFAULT_REMOTE_FILE: &str = "%host%_bulkstats_%date%_%time%.csv";
