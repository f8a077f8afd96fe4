//! Commands of exec mode: what the shell runs at its top level, and who answers.
//!
//! A task that answers gets the request `Execute` with the identifier of the command ([`Exec::id`]) and what [`Exec::parameters`] makes of
//! the line. It matches on the enumeration, so that nothing is spelled twice:
//! `Exec::from_id(&request.command)`.

use std::sync::OnceLock;

use command::{Args, Error, Grammar};

use crate::Privilege;

/// Which tasks answer a command. The names are those of the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The shell by itself.
    Shell,
    /// The only instance of this facility.
    One(&'static str),
    /// Every running instance; the shell joins their rows and adds up their totals.
    Every(&'static str),
    /// The instance of the context the shell is in (`vpnmgr`).
    Context(&'static str),
}

macro_rules! exec {
    ($($command:ident, $id:literal $(, $syntax:literal)?: $answer:expr, $privilege:ident, $help:literal;)*) => {
        /// A command of exec mode.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Exec { $(#[doc = concat!("`", $id, "`: ", $help, ".")] $command,)* }

        impl Exec {
            /// Every command, in declaration order.
            pub const ALL: &'static [Exec] = &[$(Exec::$command,)*];

            /// The identifier in messages: the keywords the command begins with.
            pub const fn id(self) -> &'static str {
                match self { $(Exec::$command => $id,)* }
            }

            /// Its whole syntax (see [`command`]).
            pub const fn syntax(self) -> &'static str {
                match self { $(Exec::$command => concat!($id $(, " ", $syntax)?),)* }
            }

            /// Who answers.
            pub const fn answer(self) -> Answer {
                match self { $(Exec::$command => $answer,)* }
            }

            /// The level an administrator needs.
            pub const fn privilege(self) -> Privilege {
                match self { $(Exec::$command => Privilege::$privilege,)* }
            }

            /// What it does.
            pub const fn help(self) -> &'static str {
                match self { $(Exec::$command => $help,)* }
            }
        }
    };
}

use Answer::{Context, Every, One, Shell};

exec! {
    ShowVersion, "show version", "[verbose'More about the build']": Shell, Inspector, "Shows the version of the software";
    ShowClock, "show clock", "[universal'Coordinated universal time']": Shell, Inspector, "Shows date and time";
    ShowTerminal, "show terminal": Shell, Inspector, "Shows the settings of this terminal";
    ShowSystemUptime, "show system uptime": One("sit"), Inspector, "Shows how long the node has been up";
    ShowTaskTable, "show task table", "[facility'Only one facility' <facility:name(20)'Name of a facility'>]":
        One("sit"), Inspector, "Shows every task with its process";
    ShowTaskResources, "show task resources",
        "[facility'Only one facility' <facility:name(20)'Name of a facility'> [all'Every instance' | instance'One instance' <instance:1-65535>]]":
        One("rmctrl"), Inspector, "Shows processor time, memory, files and sessions of every task";
    ShowProcessSecurity, "show process security", "[facility'Only one facility' <facility:name(20)'Name of a facility'>]":
        One("sit"), Operator, "Shows which protections are in force for every process";
    ShowCpuTable, "show cpu table": One("rmctrl"), Inspector, "Shows load, processor time and memory of the node";
    ShowCpuInfo, "show cpu info", "[card'The node is one card' <card:1-1> [cpu <cpu:0-0>]] [crypto-cores'Only the processors of the data plane']":
        One("rmctrl"), Inspector, "Shows the use of every processor";
    ShowCongestionControl, "show congestion-control", "{configuration'Thresholds and policy' | statistics'State, measured values and counters'}":
        One("rmctrl"), Operator, "Shows congestion control";
    ShowThreshold, "show threshold": One("rmctrl"), Operator, "Shows the thresholds of alarms";
    ShowCrashList, "show crash list": One("sit"), Inspector, "Shows the tasks that crashed";
    ShowUpgrade, "show upgrade", "[status'The same']": One("sit"), Inspector, "Shows which software runs, and how far an upgrade is";
    ShowSessionRecovery, "show session recovery status", "[verbose'With the tasks and what is kept']":
        One("sit"), Inspector, "Shows whether sessions outlive the death of a process";
    ShowContext, "show context", "[all'Every context' | name'One context' <name:name(79)'Context name'>]":
        One("sct"), Inspector, "Shows the contexts";
    ShowServiceAll, "show service all": Every("sessmgr"), Inspector, "Shows every service with its sessions";
    ShowConfiguration, "show configuration",
        "[context'One context' <context:name(79)'Context name'> | bulkstats'Bulk statistics']":
        One("sct"), Operator, "Shows the running configuration";
    ShowConfigurationErrors, "show configuration errors", "[verbose'Sections without findings, too']": One("sct"), Operator, "Shows what is inconsistent in the running configuration";
    ShowBoot, "show boot": One("sct"), Operator, "Shows the boot configuration file";
    ShowAdministrators, "show administrators": One("sct"), Operator, "Shows the accounts of the shell";
    ShowLogging, "show logging": One("sct"), Operator, "Shows the log filters and servers";
    ShowCryptoTemplate, "show crypto template",
        "[tag'One template' <tag:name(127)'Template name'> | map-type'Templates of one type' ikev2-dynamic'IKEv2']":
        One("sct"), Operator, "Shows crypto templates";
    ShowIkeTransformSet, "show crypto ikev2-ikesa transform-set", "[<set:name(127)'Name of a transform set'>]":
        One("sct"), Operator, "Shows IKE transform sets";
    ShowCryptoIpsecTransformSet, "show crypto ipsec transform-set", "[<set:name(127)'Name of a transform set'>]":
        One("sct"), Operator, "Shows IPsec transform sets";
    ShowIpsecTransformSet, "show ipsec transform-set", "[<set:name(127)'Name of a transform set'>]":
        One("sct"), Operator, "Shows IPsec transform sets";
    ShowIkeSas, "show crypto ikev2-ikesa security-associations", "[summary'Counts only'] [peer'One peer' <peer:ip'Address of the peer'>]":
        Every("ipsecmgr"), Operator, "Shows IKE SAs";
    ShowIpsecSas, "show crypto ipsec security-associations", "[summary'Counts only'] [peer'One peer' <peer:ip'Address of the peer'>]":
        Every("ipsecmgr"), Operator, "Shows child SAs";
    ShowCryptoManagers, "show crypto managers", "[summary'The sum of all' | [~instance] <instance:1-255'One manager'>]":
        One("rmctrl"), Operator, "Shows the IPsec managers and their slots";
    ShowCryptoSlots, "show crypto slots", "[verbose'Slots without tunnels, too']":
        One("rmctrl"), Operator, "Shows which worker has which slot, and what the slots carry";
    ShowCryptoStatistics, "show crypto statistics", "[ikev2'IKEv2 in detail']":
        Shell, Operator, "Shows counters of IKE and IPsec";
    ShowIpInterface, "show ip interface", "[summary'One line each'] [name'One interface' <name:name(79)'Interface name'>]":
        Context("vpnmgr"), Inspector, "Shows the interfaces of this context";
    ShowIpv6Interface, "show ipv6 interface", "[summary'One line each'] [name'One interface' <name:name(79)'Interface name'>]":
        Context("vpnmgr"), Inspector, "Shows the interfaces of this context";
    ShowIpPool, "show ip pool", "[summary'Counts only' | pool-name'One pool' <name:name(31)'Pool name'>]":
        Context("vpnmgr"), Inspector, "Shows the IPv4 pools of this context";
    ShowIpv6Pool, "show ipv6 pool", "[summary'Counts only' | pool-name'One pool' <name:name(31)'Pool name'>]":
        Context("vpnmgr"), Inspector, "Shows the IPv6 pools of this context";
    ShowIpRoute, "show ip route": Context("vpnmgr"), Inspector, "Shows the IPv4 routes of this context";
    ShowIpv6Route, "show ipv6 route": Context("vpnmgr"), Inspector, "Shows the IPv6 routes of this context";
    ShowIpAccessList, "show ip access-list", "[<list:name(47)'Access list name'>]":
        One("sct"), Inspector, "Shows the IPv4 access lists of this context";
    ShowIpv6AccessList, "show ipv6 access-list", "[<list:name(47)'Access list name'>]":
        One("sct"), Inspector, "Shows the IPv6 access lists of this context";
    ShowPortTable, "show port table": Every("vpnmgr"), Inspector, "Shows the ports";
    ShowWsgService, "show wsg-service", "{all'Every service' [<name:name(63)'Only this one'>] | name'One service' <name:name(63)'Service name'>}":
        One("sct"), Operator, "Shows wsg-services";
    ShowWsgServiceStatistics, "show wsg-service statistics", "[all'Every service' | name'One service' <name:name(63)'Service name'>]":
        Every("sessmgr"), Operator, "Shows counters of wsg-services";
    ShowSubscribers, "show subscribers",
        "{all'One line each' | full'Everything' | summary'Counts only'} [username'One user' <username:text(127)'User name'>] [wsg-service'One service' <service:name(63)'Service name'>]":
        Every("sessmgr"), Operator, "Shows sessions";
    ShowRadiusCounters, "show radius counters", "{all'Every server' | server'One server' <server:ip'Server address'> [port'Its port' <port:1-65535>]}":
        One("aaamgr"), Operator, "Shows counters of RADIUS servers";
    ShowRadiusServers, "show radius servers": One("aaamgr"), Operator, "Shows the state of RADIUS servers";
    ShowAaaStatistics, "show aaa statistics": One("aaamgr"), Operator, "Shows counters of authentication and accounting";
    ShowCertificate, "show certificate", "{all'Every certificate' | name'One certificate' <name:name(129)'Certificate name'>}":
        One("certmgr"), Operator, "Shows our certificates";
    ShowCaCertificate, "show ca-certificate", "{all'Every certificate' | name'One certificate' <name:name(129)'Certificate name'>}":
        One("certmgr"), Operator, "Shows the certificates of authorities";
    ShowBulkstats, "show bulkstats": One("bulkstat"), Operator, "Shows the state of bulk statistics";
    ShowBulkstatsVariables, "show bulkstats variables", "[<schema:name(31)'Schema type'>]":
        One("bulkstat"), Operator, "Shows the variables of schemas";
    ShowBulkstatsData, "show bulkstats data": One("bulkstat"), Operator, "Shows the collected data";
    ShowBulkstatsSchemas, "show bulkstats schemas": One("bulkstat"), Operator, "Shows the schemas";
    ShowSnmpCommunities, "show snmp communities": One("snmp"), Administrator, "Shows the SNMP communities";
    ShowSnmpServer, "show snmp server": One("snmp"), Operator, "Shows the SNMP agent and its counters";
    ShowSnmpNotifies, "show snmp notifies": One("snmp"), Operator, "Shows notifications by trap";
    ShowSnmpTrapHistory, "show snmp trap history", "[verbose'All variables']": One("snmp"), Operator, "Shows the latest traps";
    ShowSnmpTrapStatistics, "show snmp trap statistics", "[verbose'All traps']": One("snmp"), Operator, "Shows counters of traps";
    ShowIftask, "show iftask", "{summary'Counts only' | statistics'All counters'}":
        Every("iftask"), Operator, "Shows the data plane";
    ClearCryptoIkev2, "clear crypto security-association ikev2",
        "{all'Every tunnel' | peer'Tunnels of one peer' <peer:ip'Address of the peer'> | tag'Tunnels of one template' <tag:name(127)'Template name'>}":
        Every("ipsecmgr"), Operator, "Ends IKEv2 tunnels";
    ClearSubscribers, "clear subscribers",
        "{all'Every session' | username'Sessions of one user' <username:text(127)'User name'> | wsg-service'Sessions of one service' <service:name(63)'Service name'>}":
        Every("sessmgr"), Operator, "Ends sessions";
    ClearCrashList, "clear crash list": One("sit"), Operator, "Empties the list of crashes";
    ClearRadiusCounters, "clear radius counters", "all'Every server'": One("aaamgr"), Operator, "Sets counters of RADIUS servers to zero";
    ClearBulkstatsData, "clear bulkstats data": One("bulkstat"), Operator, "Drops collected data and files not yet transferred";
    ClearSnmpTrapHistory, "clear snmp trap history": One("snmp"), Operator, "Empties the trap history";
    ClearSnmpTrapStatistics, "clear snmp trap statistics": One("snmp"), Operator, "Sets counters of traps to zero";
    BulkstatsForceGather, "bulkstats force gather": One("bulkstat"), ConfigAdministrator, "Takes a sample now";
    BulkstatsForceTransfer, "bulkstats force transfer": One("bulkstat"), ConfigAdministrator, "Finishes and transfers the files now";
    TaskKill, "task kill",
        "facility'Its facility' <facility:name(20)'Name of a facility'> instance'Its number' <instance:1-65535> [-noconfirm'Does not ask']":
        One("sit"), Administrator, "Ends the process of a task, which is then started again";
    UpgradeOnline, "upgrade online",
        "[<file:text(1024)'Executable; without it the file that lies now where the running one did'>] [-noconfirm'Does not ask']":
        One("sit"), Administrator, "Replaces the software while the node runs";
    CryptoSlotMove, "crypto slot move",
        "<slot:1-255'Number of the slot'> to <worker:1-255'Number of the worker'> [manager'IKE only' | data-plane'ESP only' | output'Last step of ESP only']":
        One("rmctrl"), Administrator, "Moves a slot to another worker, its tunnels stay up";
    Configure, "configure", "[terminal'From this terminal']": Shell, ConfigAdministrator, "Enters configuration mode";
    Config, "~config": Shell, ConfigAdministrator, "Enters configuration mode";
    SaveConfiguration, "save configuration",
        "[<url:text(1024)'File (/flash/...); without it the boot configuration file'>] [-noconfirm'Overwrites without asking'|~-confirm]":
        Shell, ConfigAdministrator, "Saves the running configuration";
    EnterContext, "context", "<name:name(79)'Context name'>": Shell, Inspector, "Goes to a context";
    TerminalLength, "terminal length", "<lines:0-512'Lines of a page; 0 for no pages'>": Shell, Inspector, "Sets the lines of a page";
    TerminalWidth, "terminal width", "<columns:5-512'Columns'>": Shell, Inspector, "Sets the columns of a line";
    Autoconfirm, "autoconfirm": Shell, Inspector, "Asks no more whether you are sure";
    NoAutoconfirm, "no autoconfirm": Shell, Inspector, "Asks again whether you are sure";
    Timestamps, "timestamps": Shell, Inspector, "Prints the time before the output of each command";
    NoTimestamps, "no timestamps": Shell, Inspector, "Prints no time before the output of commands";
    DefaultTerminalLength, "default terminal length": Shell, Inspector, "Sets the lines of a page to those of the terminal";
    DefaultTerminalWidth, "default terminal width": Shell, Inspector, "Leaves the width of lines to the terminal";
    End, "~end": Shell, Inspector, "Does nothing: it leads here, and scripts say it once more";
    Exit, "exit": Shell, Inspector, "Leaves the shell";
}

/// The kinds of process there are, in the words of `show task table`.
pub const FACILITIES: &[&str] = &[
    "aaamgr", "bulkstat", "certmgr", "iftask", "ipsecmgr", "rmctrl", "sct", "sessmgr", "sit", "snmp",
    "vpnmgr",
];

/// Commands of StarOS that later versions will have.
const UNSUPPORTED: &[&str] = &[
    "clear alarm",
    "clear ca-crl",
    "clear crypto isakmp",
    "clear crypto statistics",
    "cmp",
    "copy",
    "crypto blacklist",
    "crypto whitelist",
    "delete",
    "dir",
    "directory",
    "logging active",
    "mkdir",
    "monitor protocol",
    "monitor subscriber",
    "ping",
    "ping6",
    "reload",
    "rename",
    "rmdir",
    "show alarm",
    "show build",
    "show ca-crl",
    "show card",
    "show cli",
    "show cmp",
    "show configuration verbose",
    "show crypto blacklist",
    "show crypto group",
    "show crypto ikev1",
    "show crypto isakmp",
    "show crypto map",
    "show crypto peer-list",
    "show crypto statistics ikev1",
    "show crypto vendor-policy",
    "show crypto whitelist",
    "show directory",
    "show epdg-service",
    "show fans",
    "show file",
    "show hardware",
    "show hd",
    "show inventory",
    "show ip arp",
    "show ip bgp",
    "show ip ospf",
    "show ipsecdemux",
    "show ipv6 neighbors",
    "show leds",
    "show license",
    "show linecard",
    "show logging active",
    "show logs",
    "show messenger",
    "show ntp",
    "show port datalink",
    "show port info",
    "show power",
    "show rct",
    "show resources",
    "show session counters",
    "show session disconnect-reasons",
    "show session duration",
    "show session progress",
    "show session setuptime",
    "show session subsystem",
    "show session trail",
    "show srp",
    "show ssh",
    "show support",
    "show temperature",
    "show users",
    "show wsg-lookup",
    "srp",
    "test",
    "traceroute",
];

const GLOSSARY: &[(&str, &str)] = &[
    ("show", "Shows state and configuration"),
    ("clear", "Ends sessions and empties lists"),
    ("no", "Switches off"),
    ("default", "Restores the default"),
    ("save", "Saves"),
    ("terminal", "Settings of this terminal"),
    ("bulkstats", "Bulk statistics"),
    ("force", "Does it now"),
    ("aaa", "Authentication, authorization, accounting"),
    ("configuration", "The running configuration"),
    ("cpu", "Processors"),
    ("crash", "Crashes of tasks"),
    ("crypto", "IPsec and IKE"),
    ("ikev2-ikesa", "IKE SAs"),
    ("ip", "Internet protocol version 4"),
    ("kill", "Ends a process"),
    ("ipv6", "Internet protocol version 6"),
    ("ipsec", "IPsec"),
    ("port", "Ports"),
    ("process", "Processes"),
    ("radius", "RADIUS"),
    ("counters", "Counters"),
    ("security-association", "SAs"),
    ("service", "Services"),
    ("slot", "A slot: one of 255 shares of the tunnels"),
    ("move", "Moves it"),
    ("to", "Where to"),
    ("session", "Sessions"),
    ("recovery", "What outlives the death of a process"),
    ("snmp", "Simple network management protocol"),
    ("system", "The node"),
    ("task", "Tasks"),
    ("trap", "Traps"),
    ("upgrade", "Replaces the software"),
    ("wsg-service", "Security gateway services"),
];

impl Exec {
    /// The command with this identifier.
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|command| command.id() == id)
    }

    /// The grammar of exec mode.
    pub fn grammar() -> &'static Grammar<Exec> {
        static GRAMMAR: OnceLock<Grammar<Exec>> = OnceLock::new();
        GRAMMAR.get_or_init(|| {
            let mut grammar = Grammar::default();
            for (word, help) in GLOSSARY {
                grammar.explain(word, help);
            }
            for command in Self::ALL {
                grammar.add(command.syntax(), command.help(), *command);
            }
            for words in UNSUPPORTED {
                let (before, last) = words.rsplit_once(' ').unwrap_or(("", words));
                // The action is never reached: the keyword itself is refused.
                grammar.add(&format!("{before} !{last}"), "", Exec::Exit);
            }
            grammar
        })
    }

    /// What a line said, as it travels to the tasks that answer: each value under its name, and each keyword that names no value with an empty
    /// one. (`facility sct` is one parameter: `facility` with the value `sct`.)
    pub fn parameters(args: &Args<'_>) -> Vec<(String, String)> {
        let values = args
            .values()
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let bare = args.words().filter(|word| args.text(word).is_none());
        values
            .chain(bare.map(|word| (word.to_owned(), String::new())))
            .collect()
    }

    /// Finds the command a line means.
    ///
    /// # Errors
    /// What is wrong with the line, or that the administrator's level is too low.
    pub fn parse(line: &str, level: Privilege) -> Result<(Exec, Args<'static>), Error> {
        let found = Self::grammar().parse(line)?;
        let command = *found.action;
        if level < command.privilege() {
            return Err(Error::NotAuthorized {
                needs: command::Keyword::keyword(command.privilege()),
            });
        }
        Ok((command, found.args))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_sound() {
        assert_eq!(Exec::grammar().defects(), Vec::<String>::new());
        for command in Exec::ALL {
            assert_eq!(
                Exec::from_id(command.id()),
                Some(*command),
                "identifiers are unique"
            );
        }
    }

    #[test]
    fn abbreviations_operators_type() {
        let means = |line: &str| Exec::parse(line, Privilege::Administrator).map(|(command, _)| command);
        assert_eq!(means("sh ver"), Ok(Exec::ShowVersion));
        assert_eq!(means("show conf"), Ok(Exec::ShowConfiguration));
        assert_eq!(means("conf"), Ok(Exec::Configure));
        assert_eq!(means("config"), Ok(Exec::Config));
        assert_eq!(means("show cry ikev2 sec sum"), Ok(Exec::ShowIkeSas));
        assert_eq!(means("show subs sum"), Ok(Exec::ShowSubscribers));
        assert_eq!(
            means("save configuration /flash/a.cfg -noconfirm"),
            Ok(Exec::SaveConfiguration)
        );
    }

    #[test]
    fn what_is_not_built_is_refused() {
        let error = Exec::parse("show crypto map tag x", Privilege::Administrator).unwrap_err();
        assert_eq!(error.to_string(), "not supported: show crypto map");
        for line in [
            "show hd raid verbose",
            "show resources",
            "show cli sessions",
            "show users",
            "show crypto statistics ikev1",
            "show crypto ikev1",
            "show crypto vendor-policy",
            "show logging active",
            "show port info 1/10",
            "show port datalink counters",
            "show ip arp",
            "show ip bgp",
            "show build",
            "show support details",
            "show rct stats",
            "show messenger",
            "show configuration verbose",
        ] {
            let error = Exec::parse(line, Privilege::Administrator).unwrap_err();
            assert!(
                error.to_string().starts_with("not supported: show"),
                "{line}: {error}"
            );
        }
        for (line, what) in [
            ("ping 10.0.0.1", "ping"),
            ("clear crypto statistics ikev2", "clear crypto statistics"),
            ("logging active", "logging active"),
            ("dir /flash", "dir"),
            ("directory /flash", "directory"),
            ("delete /flash/a.cfg", "delete"),
            ("copy /flash/a.cfg /flash/b.cfg", "copy"),
            // Nothing that begins so is supported.
            ("logging", "logging"),
            ("logging x", "logging x"),
            ("crypto whitelist", "crypto whitelist"),
        ] {
            let error = Exec::parse(line, Privilege::Administrator).unwrap_err();
            assert_eq!(error.to_string(), format!("not supported: {what}"), "{line}");
        }
    }

    #[test]
    fn a_value_and_its_keyword_are_one_parameter() {
        let (_, args) = Exec::parse("show task resources facility sct all", Privilege::Operator).unwrap();
        let parameters = Exec::parameters(&args);
        assert_eq!(
            parameters.iter().filter(|(name, _)| name == "facility").count(),
            1
        );
        assert!(parameters.contains(&("facility".to_owned(), "sct".to_owned())));
        assert!(parameters.contains(&("all".to_owned(), String::new())));
    }

    #[test]
    fn every_word_is_explained() {
        let grammar = Exec::grammar();
        for command in Exec::ALL {
            let mut line = String::new();
            for _ in command.id().split(' ') {
                for item in grammar.help(&line).unwrap() {
                    assert!(!item.help.is_empty(), "'{line}{}' has no help", item.word);
                }
                let next = command
                    .id()
                    .split(' ')
                    .nth(line.split_whitespace().count())
                    .unwrap();
                line.push_str(next);
                line.push(' ');
            }
        }
    }

    #[test]
    fn levels() {
        let error = Exec::parse("configure", Privilege::Operator).unwrap_err();
        assert!(error.to_string().contains("config-administrator"), "{error}");
        assert!(Exec::parse("show clock", Privilege::Inspector).is_ok());
    }
}
