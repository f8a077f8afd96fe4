//! The node itself, and its ports.

use command::{Args, Command, Error, Tree, lens};

use super::mode;
use crate::{Config, Port, PortBinding, PortDevice, PortId, System};

pub(super) fn declare(tree: &mut Tree<Config>) {
    let initial = System::default();
    let initial_recovery = Config::default().session_recovery;
    tree.root()
        .explain("system", "Who and where this node is")
        .add(Command::value(
            "system hostname <value:name(63)'Name of the node'>",
            "Names the node",
            lens!(system.hostname),
            initial.hostname,
        ))
        .add(Command::value(
            "system contact <value:text(255)'Who is responsible'>",
            "Says who is responsible for the node",
            lens!(system.contact),
            initial.contact,
        ))
        .add(Command::value(
            "system location <value:text(255)'Where the node is'>",
            "Says where the node is",
            lens!(system.location),
            initial.location,
        ))
        .explain("session", "Sessions")
        .add(Command::flag(
            "require session recovery",
            "Keeps tunnels over the death of the process that manages them",
            lens!(session_recovery),
            initial_recovery,
        ))
        .unsupported_modes(UNSUPPORTED_MODES)
        .unsupported(UNSUPPORTED);
}

pub(super) fn declare_ports(tree: &mut Tree<Config>) {
    tree.root().explain("port", "Ports").add(
        Command::<Config>::new(
            "port ethernet <port:port'Slot and port'>",
            "Goes to a port and creates it",
        )
        .enter(
            mode::PORT,
            lens!(ports),
            |config, args| {
                let port = port_id(args)?;
                config.ports.entry(port).or_default();
                Ok(port)
            },
            |port, _| format!("port ethernet {port}"),
        )
        .no("port ethernet <port:port>")
        .unset(|config, args| {
            let port = port_id(args)?;
            config
                .ports
                .remove(&port)
                .map(|_| ())
                .ok_or_else(|| super::absent(args, "port"))
        }),
    );
    tree.mode::<Port>(mode::PORT, "Ethernet port configuration mode", |port| {
        format!("config-port-{port}")
    })
    .add(Command::value(
        "description <value:text(79)'Text'>",
        "Describes the port",
        lens!(description),
        String::new(),
    ))
    .add(device())
    .add(tun())
    .add(Command::flag(
        "af-xdp",
        "Takes packets of tunnels straight from the device, and sends them so, past the kernel's network stack and its firewall",
        lens!(af_xdp),
        false,
    ))
    .add(Command::flag(
        "shutdown",
        "Takes the port out of use",
        lens!(shutdown),
        true,
    ))
    .add(bind())
    .explain("bind", "Binds to an interface")
    .unsupported_modes(&[("!vlan", &[])])
    .unsupported(&[
        "medium",
        "flow-control",
        "ingress-mode",
        "media",
        "preferred",
        "srp",
        "threshold",
    ]);
}

fn device() -> Command<Port> {
    Command::<Port>::new(
        "device <device:name(15)'Name of a network device of this machine'>",
        "Says which network device this port is",
    )
    .no("device")
    .set(|port, args| {
        port.device = PortDevice::Device(args.need("device")?);
        Ok(())
    })
    .unset(|port, _| {
        port.device = PortDevice::None;
        Ok(())
    })
    .show(|port, out| {
        if let PortDevice::Device(name) = &port.device {
            out.quoted("device", name);
        }
    })
}

fn tun() -> Command<Port> {
    Command::<Port>::new("tun", "Makes a TUN device for this port")
        .no("tun")
        .set(|port, _| {
            port.device = PortDevice::Tun;
            Ok(())
        })
        .unset(|port, _| {
            port.device = PortDevice::None;
            Ok(())
        })
        .show(|port, out| {
            if port.device == PortDevice::Tun {
                out.line("tun");
            }
        })
}

fn bind() -> Command<Port> {
    Command::<Port>::new(
        "bind interface <interface:name(79)'Interface name'> <context:name(79)'Its context'>",
        "Gives the port to an interface of a context",
    )
    .no("bind interface [<interface:name(79)> <context:name(79)>]")
    .set(|port, args| {
        port.bind = Some(PortBinding {
            interface: args.need("interface")?,
            context: args.need("context")?,
        });
        Ok(())
    })
    .unset(|port, _| {
        port.bind = None;
        Ok(())
    })
    .show(|port, out| {
        if let Some(bind) = &port.bind {
            out.line(format!("bind interface {} {}", bind.interface, bind.context));
        }
    })
}

fn port_id(args: &Args<'_>) -> Result<PortId, Error> {
    args.need("port")
}

/// Global commands of StarOS that later versions will have, and that lead to modes: with the commands of each that lead on to another.
const UNSUPPORTED_MODES: &[(&str, &[&str])] = &[
    (
        "!active-charging !service",
        &[
            "charging-action",
            "group-of-ruledefs",
            "host-pool",
            "port-map",
            "rulebase",
            "ruledef",
            "rulebase-list",
            "bandwidth-policy",
            "edr-format",
            "udr-format",
        ],
    ),
    ("!apn-profile", &[]),
    ("!apn-remap-table", &[]),
    ("!call-control-profile", &[]),
    ("!card", &[]),
    ("!connectedapps", &[]),
    ("!global-title-translation !address-map", &[]),
    ("!hd !storage-policy", &[]),
    ("!imei-profile", &[]),
    ("!local-policy-service", &["actiondef", "eventbase", "ruledef"]),
    (
        "!lte-policy",
        &["ho-restrict-list", "mme-paging", "subscriber-map", "tai-mgmt-db"],
    ),
    ("!network-service-entity", &[]),
    ("!ntp", &[]),
    ("!operator-policy", &[]),
    ("!orbem", &[]),
    ("!peer-profile", &[]),
    ("!profile-id-qci-mapping !table", &[]),
    ("!ps-network", &[]),
    ("!quality-of-service-profile", &[]),
    ("!ran-peer-map", &[]),
    ("!rohc-profile", &[]),
    ("!sgsn-global", &[]),
    ("!ss7-routing-domain", &["asp", "peer-server"]),
    ("!tacacs !mode", &[]),
    ("!wsg-lookup", &[]),
];

/// Global commands of StarOS that later versions will have.
const UNSUPPORTED: &[&str] = &[
    "aaa",
    "active-charging",
    "alarm",
    "arp",
    "autoconfirm",
    "autologout",
    "autosave",
    "banner",
    "boot",
    "ca-crl",
    "cdr-multi-mode",
    "cli",
    "clock",
    "cmp",
    "content-filtering",
    "crash",
    "crypto blacklist",
    "crypto ca",
    "crypto whitelist",
    "css",
    "diameter-proxy",
    "enforce",
    "fabric",
    "fips",
    "global-title-translation",
    "gtpp",
    "hd",
    "high-availability",
    "ikesa",
    "license",
    "link-aggregation",
    "local-policy",
    "local-user",
    "mediation-device",
    "network-overload-protection",
    "ocsp",
    "pac-standby",
    "profile-id-qci-mapping",
    "qos",
    "reveal",
    "session",
    "slm",
    "ssh",
    "statistics-backup",
    "support",
    "suspend",
    "tacacs",
    "timestamps",
    "traffic-optimization",
    "upgrade",
    "url-blacklisting",
];
