//! What goes through the ports of this context, for the one who watches how busy they are.

use bus::messages::vpnmgr::{PortCount, PortTraffic};
use config::{Config, PortDevice, PortId};

/// Where the kernel counts, for the devices of this process's namespace.
const COUNTERS: &str = "/proc/self/net/dev";

/// The counters of the ports that are bound in a context and in use. A device that has no speed (no link, or no such thing) is left out.
pub fn port_traffic(config: &Config, context: &str) -> PortTraffic {
    let counters = std::fs::read_to_string(COUNTERS).unwrap_or_default();
    let ports = devices(config, context).filter_map(|(id, device)| {
        let (received, sent) = octets(&counters, device)?;
        Some(PortCount {
            slot: id.slot.into(),
            port: id.port.into(),
            speed: netio::interface::speed(device).ok().flatten()?,
            received,
            sent,
        })
    });
    PortTraffic {
        ports: ports.collect(),
    }
}

fn devices<'a>(config: &'a Config, context: &'a str) -> impl Iterator<Item = (PortId, &'a str)> {
    config.ports.iter().filter_map(move |(id, port)| {
        let bound = port.bind.as_ref().is_some_and(|bind| bind.context == context);
        match &port.device {
            PortDevice::Device(name) if bound && !port.shutdown => Some((*id, name.as_str())),
            // The speed of a TUN means nothing.
            _ => None,
        }
    })
}

/// Octets received and sent: the first of eight numbers in either direction, after the name of the device.
fn octets(counters: &str, device: &str) -> Option<(u64, u64)> {
    let line = counters
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(device)?.strip_prefix(':'))?;
    let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
    let received = numbers.next()??;
    Some((received, numbers.nth(7)??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_counters_are_read() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n\
                    \x20 eth1: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n  eth10:123456 9 0 0 0 0 0 0 654321 8 0 0 0 0 0 0\n";
        assert_eq!(octets(text, "eth10"), Some((123_456, 654_321)));
        assert_eq!(octets(text, "eth1"), Some((1, 3)));
        assert_eq!(octets(text, "eth"), None);
        assert!(octets(&std::fs::read_to_string(COUNTERS).unwrap(), "lo").is_some());
    }

    #[test]
    fn ports_in_use_are_those_of_the_context() {
        let config = Config::parse(
            "context isp\nexit\n\
             port ethernet 1/10\ndevice ran0\nbind interface ran isp\nno shutdown\n#exit\n\
             port ethernet 1/11\ndevice core0\nbind interface core local\nno shutdown\n#exit\n\
             port ethernet 1/12\ndevice off0\nbind interface off isp\n#exit\n\
             port ethernet 1/13\ntun\nbind interface tunnels isp\nno shutdown\n#exit\n",
        )
        .unwrap();
        let found: Vec<_> = devices(&config, "isp")
            .map(|(id, name)| (id.port, name))
            .collect();
        assert_eq!(found, [(10, "ran0")]);
        // The loopback device has no speed.
        let lo =
            Config::parse("port ethernet 1/1\ndevice lo\nbind interface lo local\nno shutdown\n").unwrap();
        assert!(port_traffic(&lo, "local").ports.is_empty());
    }
}
