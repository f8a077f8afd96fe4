//! Administrators, logging, SNMP.

use command::{Command, Keyword, Tree, lens, quote};

use super::network::ContextMode;
use super::{absent, put, remove, secret, secret_syntax};
use crate::{
    Administrator, Config, Context, DEFAULT_SNMP_PORT, DEFAULT_SYSLOG_PORT, DEFAULT_TRAP_PORT, LogLevel,
    Privilege, SnmpCommunity, SnmpTarget, SnmpVersion, SyslogServer,
};

pub(super) fn declare(tree: &mut Tree<Config>) {
    tree.root()
        .explain("logging", "Logging")
        .explain("snmp", "Simple network management protocol")
        .explain("server", "The agent")
        .explain("trap", "Traps")
        .explain("facility", "A facility")
        .add(filter())
        .add(Command::value(
            "snmp server port <value:1-65535'UDP port'>",
            "Sets the port of the SNMP agent",
            lens!(snmp.port),
            DEFAULT_SNMP_PORT,
        ))
        .add(Command::flag(
            "snmp authentication-failure-trap",
            "Sends a trap when a request has a wrong community",
            lens!(snmp.authentication_failure_trap),
            false,
        ))
        .add(community())
        .add(target())
        .add(trap())
        .unsupported(&[
            "logging active",
            "logging console",
            "logging disable",
            "logging display",
            "logging filter active",
            "snmp engine-id",
            "snmp heartbeat",
            "snmp history",
            "snmp mib",
            "snmp notif-threshold",
            "snmp runtime-debug",
            "snmp trap-pdu-v1tov2",
            "snmp trap-timestamps",
            "snmp user",
        ]);
}

/// The accounts and syslog servers of a context.
pub(super) fn declare_context(tree: &mut Tree<Config>) {
    let mut context = tree.context_mode();
    for level in Privilege::ALL {
        context.add(account(*level));
    }
    context.print(|context, out| {
        for (name, account) in &context.administrators {
            let password = match &account.password {
                Some(sealed) => format!("encrypted password {}", sealed.sealed()),
                None => "nopassword".to_owned(),
            };
            out.line(format!("{} {name} {password}", account.level));
        }
    });
    context.add(syslog());
}

fn account(level: Privilege) -> Command<Context> {
    let word = level.keyword();
    Command::<Context>::new(
        format!(
            "{word} <user:name(32)'User name'> {{nopassword'No password' | {}}} [~noconsole] [~ftp] [~noecs] [~ecs]",
            secret_syntax("password", "password", 63).trim_matches(['{', '}'])
        ),
        level.help(),
    )
    .no(format!("{word} <user:name(32)>"))
    .set(move |context, args| {
        let password = match args.has("nopassword") {
            true => None,
            false => Some(secret(args, "password")?),
        };
        context.administrators.insert(args.need("user")?, Administrator { level, password });
        Ok(())
    })
    .unset(move |context, args| {
        let user = args.text("user").unwrap_or_default();
        if context.administrators.get(user).is_none_or(|account| account.level != level) {
            return Err(absent(args, "user"));
        }
        remove(&mut context.administrators, args, "user")
    })
}

fn filter() -> Command<Config> {
    Command::<Config>::new(
        format!(
            "logging filter'What is logged' runtime'While the node runs' facility <facility:name(32)'Name of a facility, or all'> \
             level'From this level on' {{{}}} [!critical-info|!no-critical-info]",
            LogLevel::alternatives()
        ),
        "Sets from which level on events are logged",
    )
    .undo("logging filter runtime facility <facility:name(32)> [level]")
    .set(|config, args| {
        let level = args.need_keyword()?;
        config.logging.filters.insert(args.need("facility")?, level);
        Ok(())
    })
    .unset(|config, args| remove(&mut config.logging.filters, args, "facility"))
    .reset(|config, args| {
        // The default of what was never set is what it is.
        config.logging.filters.remove(args.text("facility").unwrap_or_default());
        Ok(())
    })
    .show(|config, out| {
        for (facility, level) in &config.logging.filters {
            out.line(format!("logging filter runtime facility {facility} level {level}"));
        }
    })
}

fn syslog() -> Command<Context> {
    let facilities: Vec<String> = (0..8)
        .map(|number| format!("local{number}'Syslog facility'"))
        .collect();
    Command::<Context>::new(
        format!(
            "logging syslog <address:ip'Server address'> [port'UDP port' <port:1-65535>] [facility'Syslog facility' {{{}}}] \
             [!event-verbosity] [!msg-format] [!pdu-data] [!pdu-verbosity] [!rate]",
            facilities.join("|")
        ),
        "Sends events to a syslog server",
    )
    .no("logging syslog <address:ip> [port <port:1-65535>]")
    .set(|context, args| {
        let local = args.words().find_map(|word| word.strip_prefix("local")?.parse().ok());
        let server = SyslogServer {
            address: args.need("address")?,
            port: args.get("port")?.unwrap_or(DEFAULT_SYSLOG_PORT),
            local: local.unwrap_or(DEFAULT_LOCAL),
        };
        put(&mut context.syslog, server, MAX_SYSLOG_SERVERS, |one, other| {
            (one.address, one.port) == (other.address, other.port)
        })
        .map_err(|message| args.refuse("address", message))
    })
    .unset(|context, args| {
        let (address, port): (std::net::IpAddr, Option<u16>) = (args.need("address")?, args.get("port")?);
        let before = context.syslog.len();
        // As it is printed a line without a port means the usual one; if there is none, a server of this address is meant.
        let is_printed = |server: &SyslogServer| {
            server.address == address && server.port == port.unwrap_or(DEFAULT_SYSLOG_PORT)
        };
        let exactly = port.is_some() || context.syslog.iter().any(is_printed);
        context.syslog.retain(|server| if exactly { !is_printed(server) } else { server.address != address });
        if context.syslog.len() == before { Err(absent(args, "address")) } else { Ok(()) }
    })
    .show(|context, out| {
        for server in &context.syslog {
            let mut line = format!("logging syslog {}", server.address);
            if server.port != DEFAULT_SYSLOG_PORT {
                line.push_str(&format!(" port {}", server.port));
            }
            if server.local != DEFAULT_LOCAL {
                line.push_str(&format!(" facility local{}", server.local));
            }
            out.line(line);
        }
    })
}

/// Syslog facility when nothing is configured.
const DEFAULT_LOCAL: u8 = 7;
/// Most syslog servers of a context.
const MAX_SYSLOG_SERVERS: usize = 16;
/// Most SNMP communities.
const MAX_COMMUNITIES: usize = 32;

fn community() -> Command<Config> {
    Command::<Config>::new(
        "snmp community {encrypted'As printed by show configuration' name'Encrypted form' <community:sealed> | \
         [~name] <community:secret(31)'Community'>} [read-only'May read (default)' | read-write'May read and write'] [!context] [!view] [!version]",
        "Adds an SNMP community",
    )
    .no("snmp community {all'Every community' | encrypted name <community:sealed> | <community:secret(31)>}")
    .set(|config, args| {
        let community = SnmpCommunity {
            name: secret(args, "community")?,
            read_write: args.has("read-write"),
        };
        put(&mut config.snmp.communities, community, MAX_COMMUNITIES, |one, other| one.name == other.name)
            .map_err(|message| args.refuse("community", message))
    })
    .unset(|config, args| {
        let sealed = args.text("community");
        let before = config.snmp.communities.len();
        config.snmp.communities.retain(|community| sealed.is_some_and(|sealed| community.name.sealed() != sealed));
        if config.snmp.communities.len() == before && !args.has("all") {
            // Without the word itself: it is a secret, and sealed by now.
            return Err(args.refuse("community", "there is no such community"));
        }
        Ok(())
    })
    .show(|config, out| {
        for community in &config.snmp.communities {
            let access = if community.read_write { "read-write" } else { "read-only" };
            out.line(format!("snmp community encrypted name {} {access}", community.name.sealed()));
        }
    })
}

fn target() -> Command<Config> {
    Command::<Config>::new(
        format!(
            "snmp target <target:name(31)'Name of the manager'> <address:ip'Its address'> [port'UDP port' <port:1-65535>] \
             [security-name'Community' <community:secret(31)> | encrypted'As printed by show configuration' security-name'Encrypted form' \
             <community:sealed>] [version'Version' {{{}|!3|~2}}] [traps'Traps (default)'|informs'Informs'] [~non-default] [!engine-id]",
            SnmpVersion::alternatives()
        ),
        "Sends notifications to a manager",
    )
    .no("snmp target <target:name(31)>")
    .set(|config, args| {
        let target = SnmpTarget {
            address: args.need("address")?,
            port: args.get("port")?.unwrap_or(DEFAULT_TRAP_PORT),
            community: super::optional_secret(args, "community"),
            version: args.keyword().unwrap_or(SnmpVersion::V2c),
            informs: args.has("informs"),
        };
        config.snmp.targets.insert(args.need("target")?, target);
        Ok(())
    })
    .unset(|config, args| remove(&mut config.snmp.targets, args, "target"))
    .show(|config, out| {
        for (name, target) in &config.snmp.targets {
            let mut line = format!("snmp target {name} {}", target.address);
            if target.port != DEFAULT_TRAP_PORT {
                line.push_str(&format!(" port {}", target.port));
            }
            if let Some(community) = &target.community {
                line.push_str(&format!(" encrypted security-name {}", community.sealed()));
            }
            if target.version != SnmpVersion::V2c {
                line.push_str(&format!(" version {}", target.version));
            }
            line.push_str(if target.informs { " informs" } else { " traps" });
            out.line(line);
        }
    })
}

/// Is there an event that sends this trap?
pub(crate) fn is_trap(name: &str) -> bool {
    telemetry::events::all().any(|event| event.trap.is_some_and(|trap| trap.name == name))
}

fn trap() -> Command<Config> {
    let names = "<trap:name(63)'Name of a trap, without star'>*20";
    Command::<Config>::new(
        format!("snmp trap {{suppress'These are not sent' {names} | enable'These are sent' {names}}}"),
        "Chooses the traps that are sent",
    )
    .set(|config, args| {
        let suppress = args.has("suppress");
        for trap in args.all("trap") {
            if suppress {
                config.snmp.suppressed.insert(trap.to_owned());
            } else if !config.snmp.suppressed.remove(trap) && !is_trap(trap) {
                return Err(args.refuse("trap", format!("this version sends no trap {trap}")));
            }
        }
        Ok(())
    })
    .no(format!("snmp trap suppress {names}"))
    .unset(|config, args| {
        for trap in args.all("trap") {
            if !config.snmp.suppressed.remove(trap) {
                return Err(absent(args, "trap"));
            }
        }
        Ok(())
    })
    .show(|config, out| {
        for trap in &config.snmp.suppressed {
            out.line(format!("snmp trap suppress {}", quote(trap)));
        }
    })
}
