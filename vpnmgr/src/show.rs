//! `show` commands: text from the state and, for devices and routes, from the kernel. No other task is asked.

mod pools;
mod routes;

use bus::Facility;
use bus::messages::common::{Execute, Output, Total};
use config::{Exec, PortDevice};
use ipnet::IpNet;

use crate::plan::{Interface, LOOPBACK};
use crate::state::State;
use pools::pools;
use routes::routes;

/// Runs a command of the table. Ports are shown by every `vpnmgr`, everything else by the one whose context the operator is in.
pub fn execute(state: &mut State, request: &Execute) -> Output {
    let name = request.value("name");
    // Devices come and go without us.
    if let Err(error) = state.network.refresh() {
        return Output::failed(error);
    }
    match Exec::from_id(&request.command) {
        Some(Exec::ShowPortTable) => ports(state),
        Some(_) if request.context != state.context => Output::default(),
        Some(Exec::ShowIpInterface) if request.has("summary") => interface_summary(state, name, false),
        Some(Exec::ShowIpv6Interface) if request.has("summary") => interface_summary(state, name, true),
        Some(Exec::ShowIpInterface) => interfaces(state, name, false),
        Some(Exec::ShowIpv6Interface) => interfaces(state, name, true),
        Some(Exec::ShowIpRoute) => routes(state, false, &request.cursor),
        Some(Exec::ShowIpv6Route) => routes(state, true, &request.cursor),
        Some(Exec::ShowIpPool) => pools(state, name, request.has("summary"), false),
        Some(Exec::ShowIpv6Pool) => pools(state, name, request.has("summary"), true),
        _ => Output::failed(request.unknown_to(Facility::Vpnmgr)),
    }
}

/// The interfaces with an address of the family, or without any.
fn chosen<'a>(
    state: &'a State,
    name: Option<&'a str>,
    ipv6: bool,
) -> impl Iterator<Item = (&'a String, &'a Interface, Vec<IpNet>)> {
    let named = state
        .plan
        .interfaces
        .iter()
        .filter(move |(other, _)| name.is_none_or(|name| name == *other));
    named.filter_map(move |(name, interface)| {
        let all = &interface.addresses;
        let addresses: Vec<IpNet> = all
            .iter()
            .copied()
            .filter(|own| own.addr().is_ipv6() == ipv6)
            .collect();
        (all.is_empty() || !addresses.is_empty()).then_some((name, interface, addresses))
    })
}

fn interfaces(state: &State, name: Option<&str>, ipv6: bool) -> Output {
    let mut text = String::new();
    let mut count = 0;
    for (name, interface, addresses) in chosen(state, name, ipv6) {
        let loopback = interface.device.as_deref() == Some(LOOPBACK);
        let binding = match (&interface.port, &interface.device) {
            (Some(port), Some(device)) => format!(" (Bound to {port}, device {device})"),
            (None, Some(device)) => format!(" (Bound to device {device})"),
            _ => " (Not bound to a port)".to_owned(),
        };
        let link = interface
            .device
            .as_ref()
            .and_then(|device| state.network.links().get(device));
        let mut line = |label: &str, value: &str| text.push_str(&format!("{label:<19}{value}\n"));
        line("Intf Name:", name);
        line("Intf Type:", if loopback { "Loopback" } else { "Broadcast" });
        line("Description:", &interface.description);
        line(
            "IP State:",
            &format!("{}{binding}", if is_up(state, interface) { "UP" } else { "DOWN" }),
        );
        let (primary, secondary) = addresses
            .split_first()
            .map_or((None, &[][..]), |(first, rest)| (Some(first), rest));
        if let Some(primary) = primary {
            line("IP Address:", &primary.addr().to_string());
            line("Subnet Mask:", &mask(primary));
        }
        line(
            "MTU:",
            &link.map_or_else(|| "unknown".to_owned(), |link| link.mtu.to_string()),
        );
        line("Number of Secondary Addresses:", &format!(" {}", secondary.len()));
        secondary
            .iter()
            .for_each(|address| line("", &address.to_string()));
        text.push('\n');
        count += 1;
    }
    Output {
        text,
        totals: count_of_interfaces(count),
        ..Output::default()
    }
}

fn interface_summary(state: &State, name: Option<&str>, ipv6: bool) -> Output {
    let heading = format!(
        "{:<30} {:<27} {:<16} Status\n{:=<30} {:=<27} {:=<16} ======\n",
        "Interface Name", "Address/Mask", "Port", "", "", ""
    );
    let mut text = String::new();
    let mut count = 0;
    for (name, interface, addresses) in chosen(state, name, ipv6) {
        let address = addresses
            .first()
            .map_or_else(|| "-".to_owned(), ToString::to_string);
        let port = match (&interface.port, &interface.device) {
            (Some(port), _) => port.to_string(),
            (None, Some(device)) if device == LOOPBACK => "Loopback".to_owned(),
            _ => "-".to_owned(),
        };
        let status = if is_up(state, interface) { "UP" } else { "DOWN" };
        text.push_str(&format!("{name:<30} {address:<27} {port:<16} {status}\n"));
        count += 1;
    }
    Output {
        heading,
        text,
        totals: count_of_interfaces(count),
        ..Output::default()
    }
}

/// Each vpnmgr answers for the ports bound in its context, the one of `local` also for those bound nowhere.
fn ports(state: &State) -> Output {
    let heading = format!(
        "{:<6} {:<16} {:<16} {:<20} {:<8} {:<4} {:<4} MTU\n{:-<6} {:-<16} {:-<16} {:-<20} {:-<8} {:-<4} {:-<4} -----\n",
        "Port", "Device", "Context", "Interface", "Admin", "Oper", "Link", "", "", "", "", "", "", ""
    );
    let mut text = String::new();
    for (id, port) in &state.config.ports {
        let (context, interface) = match &port.bind {
            Some(bind) if bind.context == state.context => (bind.context.as_str(), bind.interface.as_str()),
            None if state.context == config::LOCAL => ("-", "-"),
            _ => continue,
        };
        let device = match (&port.device, state.plan.interfaces.get(interface)) {
            (PortDevice::Device(name), _) => name.as_str(),
            (PortDevice::Tun, Some(interface)) => interface.device.as_deref().unwrap_or("tun"),
            (PortDevice::Tun, None) => "tun",
            (PortDevice::None, _) => "-",
        };
        let link = state.network.links().get(device);
        let word = |on: bool| if on { "Up" } else { "Down" };
        let admin = if port.shutdown { "Disabled" } else { "Enabled" };
        let oper = word(link.is_some_and(|link| link.enabled) && !port.shutdown);
        let carrier = word(link.is_some_and(|link| link.running));
        let mtu = link.map_or_else(|| "-".to_owned(), |link| link.mtu.to_string());
        text.push_str(&format!(
            "{:<6} {device:<16} {context:<16} {interface:<20} {admin:<8} {oper:<4} {carrier:<4} {mtu}\n",
            id.to_string()
        ));
    }
    Output {
        heading,
        text,
        ..Output::default()
    }
}

fn is_up(state: &State, interface: &Interface) -> bool {
    let link = interface
        .device
        .as_ref()
        .and_then(|device| state.network.links().get(device));
    link.is_some_and(|link| link.enabled && link.running) && !interface.shutdown
}

fn count_of_interfaces(value: u64) -> Vec<Total> {
    Total::all([("Total interface count", value)])
}

fn mask(network: &IpNet) -> String {
    match network {
        IpNet::V4(network) => network.netmask().to_string(),
        IpNet::V6(network) => format!("/{}", network.prefix_len()),
    }
}
