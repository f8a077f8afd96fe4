//! Administrators, logging, SNMP, bulk statistics.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::SecretText;

/// An account of the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Administrator {
    /// What it may do.
    pub level: Privilege,
    /// `password`; `None` is `nopassword`.
    pub password: Option<SecretText>,
}

command::keywords! {
    /// Levels of administrators, from least to most. The keywords are those of the account commands.
    pub enum Privilege {
        Inspector = "inspector", "Inspector: may look at a few things";
        Operator = "operator", "Operator: may look at everything and clear sessions";
        ConfigAdministrator = "config-administrator", "Administrator: may configure all but accounts";
        Administrator = "administrator", "Security administrator: may do everything";
    }
}

/// `logging filter runtime ...`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Logging {
    /// Level per facility; the facility `all` is the default of the others.
    pub filters: BTreeMap<String, LogLevel>,
}

command::keywords! {
    /// Severity of log events, from most to least severe.
    pub enum LogLevel {
        Critical = "critical", "Events that need attention at once";
        Error = "error", "Failures";
        Warning = "warning", "Events that may lead to failures";
        Unusual = "unusual", "Unexpected events that are not failures";
        Info = "info", "Ordinary events";
        Trace = "trace", "Steps of the work";
        Debug = "debug", "Everything";
    }
}

/// Level of facilities without a filter.
pub const DEFAULT_LOG_LEVEL: LogLevel = LogLevel::Info;

impl Logging {
    /// The level of a facility.
    pub fn level(&self, facility: &str) -> LogLevel {
        self.filters
            .get(facility)
            .or_else(|| self.filters.get("all"))
            .copied()
            .unwrap_or(DEFAULT_LOG_LEVEL)
    }
}

/// `logging syslog ADDRESS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyslogServer {
    /// Where to.
    pub address: IpAddr,
    /// `port`, default 514.
    pub port: u16,
    /// `facility local0` to `local7`: 0 to 7, default 7.
    pub local: u8,
}

/// `snmp ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snmp {
    /// `snmp server port`: UDP port of the agent in context local.
    pub port: u16,
    /// `snmp community`.
    pub communities: Vec<SnmpCommunity>,
    /// `snmp target NAME`.
    pub targets: BTreeMap<String, SnmpTarget>,
    /// `snmp trap suppress`: names of traps that are not sent, without the prefix `star`.
    pub suppressed: BTreeSet<String>,
    /// `snmp authentication-failure-trap`. Default off.
    pub authentication_failure_trap: bool,
}

/// A community that may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnmpCommunity {
    /// Its name.
    pub name: SecretText,
    /// `read-write`; default `read-only`.
    pub read_write: bool,
}

/// Where traps go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnmpTarget {
    /// Address of the manager.
    pub address: IpAddr,
    /// `port`, default 162.
    pub port: u16,
    /// `security-name`: the community; `None` is `public`.
    pub community: Option<SecretText>,
    /// `version`.
    pub version: SnmpVersion,
    /// `informs` instead of `traps`.
    pub informs: bool,
}

command::keywords! {
    /// Version of notifications.
    pub enum SnmpVersion {
        V1 = "1", "SNMPv1";
        V2c = "2c", "SNMPv2c";
    }
}

/// UDP port of the SNMP agent.
pub const DEFAULT_SNMP_PORT: u16 = 161;
/// UDP port of SNMP managers.
pub const DEFAULT_TRAP_PORT: u16 = 162;
/// UDP port of syslog servers.
pub const DEFAULT_SYSLOG_PORT: u16 = 514;

impl Default for Snmp {
    fn default() -> Self {
        Self {
            port: DEFAULT_SNMP_PORT,
            communities: Vec::new(),
            targets: BTreeMap::new(),
            suppressed: BTreeSet::new(),
            authentication_failure_trap: false,
        }
    }
}

/// `bulkstats ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bulkstats {
    /// `bulkstats collection`. Default off.
    pub collection: bool,
    /// `sample-interval`: 1 to 1440 minutes.
    pub sample_interval: u32,
    /// `transfer-interval`: 1 to 999999 minutes.
    pub transfer_interval: u32,
    /// `limit`: 20 to 4000 kilobytes of collected data.
    pub limit: u32,
    /// `file NUMBER`, 1 to 4. What is said outside any file belongs to file 1.
    pub files: BTreeMap<u8, BulkstatsFile>,
}

/// `file NUMBER`: one file that is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BulkstatsFile {
    /// `remotefile format`: its name.
    pub remotefile: Option<String>,
    /// `header format`: its first line.
    pub header: Option<String>,
    /// `footer format`: its last line.
    pub footer: Option<String>,
    /// `receiver ADDRESS primary|secondary`.
    pub receivers: Vec<BulkstatsReceiver>,
    /// `[TYPE] schema NAME format FORMAT`, in the order of types and names; type `system` has no prefix.
    pub schemas: BTreeMap<(String, String), String>,
}

/// Where a file is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkstatsReceiver {
    /// Address of the server.
    pub address: IpAddr,
    /// `primary`, otherwise `secondary`.
    pub primary: bool,
    /// How.
    pub mechanism: TransferMechanism,
}

/// How a file is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferMechanism {
    /// `tftp`.
    Tftp,
    /// `ftp login USER password ...`.
    Ftp(String, SecretText),
    /// `sftp login USER password ...`.
    Sftp(String, SecretText),
}

/// Name of the schema type that is written without a prefix.
pub const SYSTEM_SCHEMA: &str = "system";

impl Default for Bulkstats {
    fn default() -> Self {
        Self {
            collection: false,
            sample_interval: 15,
            transfer_interval: 480,
            limit: 1_000,
            files: BTreeMap::new(),
        }
    }
}
