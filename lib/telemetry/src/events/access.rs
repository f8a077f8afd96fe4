//! Who operates the node and who asks about it.

use super::events;

events! {
    /// An operator opened a shell.
    CliSessionStart<'a> = sct 12001 Info {
        /// Administrator.
        user: &'a str,
        /// Privilege level, in words.
        level: &'a str,
        /// Terminal.
        tty: &'a str,
        /// Number of the session: index of the CLI table.
        session: u32,
    } says "CLI session started: user {user} privilege level {level} ttyname {tty}"
      trap 52 CLISessionStart [starCLIUsername = user, starCLIPrivs = level, starCLITtyname = tty];

    /// An operator left a shell.
    CliSessionEnd<'a> = sct 12002 Info {
        /// Administrator.
        user: &'a str,
        /// Privilege level, in words.
        level: &'a str,
        /// Terminal.
        tty: &'a str,
        /// Number of the session: index of the CLI table.
        session: u32,
    } says "CLI session ended: user {user} privilege level {level} ttyname {tty}"
      trap 53 CLISessionEnd [starCLIUsername = user, starCLIPrivs = level, starCLITtyname = tty];

    /// An SNMP request carried a community that is not configured.
    SnmpAuthenticationFailure = snmp 11001 Warning {
        /// Requests refused since the last report.
        count: u64,
    } says "{count} SNMP requests with an unknown community refused";

    /// The agent cannot open its socket.
    SnmpSocketFailed<'a> = snmp 11003 Error {
        /// Port of the agent.
        port: u16,
        /// Why it failed and what would be right.
        reason: &'a str,
    } says "SNMP agent cannot use UDP port {port}: {reason}";

    /// Traps could not be sent, or were not answered.
    TrapsDiscarded = snmp 11002 Warning {
        /// How many since the last report.
        count: u64,
    } says "{count} traps discarded: they could not be sent, or were not answered";
}
