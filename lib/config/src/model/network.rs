//! Ports, interfaces, routes.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// The two numbers of a port: `1/10`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId {
    /// Slot of the card.
    pub slot: u8,
    /// Port of the card.
    pub port: u16,
}

/// `port ethernet SLOT/PORT`: a Linux device, given to the context of the interface it is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// `description`.
    pub description: String,
    /// `device NAME` or `tun`: which device of the machine this port is.
    pub device: PortDevice,
    /// `af-xdp`: packets of tunnels, ESP and clear ones, take the short way between the device and the data plane, as far as the device can. Default off.
    pub af_xdp: bool,
    /// `shutdown`, the default: the port is not used.
    pub shutdown: bool,
    /// `bind interface INTERFACE CONTEXT`.
    pub bind: Option<PortBinding>,
}

/// Where a port's packets come from and go to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PortDevice {
    /// Not said yet.
    #[default]
    None,
    /// `device NAME`: an existing device of the machine.
    Device(String),
    /// `tun`: a TUN device made for this port.
    Tun,
}

/// The interface of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortBinding {
    /// Interface name.
    pub interface: String,
    /// Name of its context.
    pub context: String,
}

/// `interface NAME`: addresses of a context.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interface {
    /// `interface NAME loopback`: not bound to any port, always up.
    pub loopback: bool,
    /// `description`.
    pub description: String,
    /// `ip address` or `ipv6 address` without `secondary`: host address and prefix length.
    pub primary: Option<IpNet>,
    /// The addresses with `secondary`.
    pub secondary: Vec<IpNet>,
    /// `ip mtu`: 576 to 2048 octets; `None` leaves the device's own.
    pub mtu: Option<u32>,
}

/// `ip route` or `ipv6 route`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// Next hop; `None` when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Interface to send through; empty for one that has the gateway on its link.
    pub interface: String,
    /// `precedence`: the lowest wins, 0 to 254, default 1.
    pub precedence: u8,
    /// `cost`: 0 to 255, default 0.
    pub cost: u8,
}

/// Precedence of a route when nothing is configured.
pub const DEFAULT_PRECEDENCE: u8 = 1;

impl Default for Port {
    fn default() -> Self {
        Self {
            description: String::new(),
            device: PortDevice::None,
            af_xdp: false,
            shutdown: true,
            bind: None,
        }
    }
}

impl Port {
    /// The device whose packets of tunnels are wanted by AF_XDP, and the context it is in.
    pub fn xdp_device(&self) -> Option<(&str, &str)> {
        match (&self.device, &self.bind) {
            (PortDevice::Device(device), Some(bind)) if self.af_xdp && !self.shutdown => {
                Some((device, &bind.context))
            }
            _ => None,
        }
    }
}

impl Interface {
    /// Every address, primary first.
    pub fn addresses(&self) -> impl Iterator<Item = IpNet> {
        self.primary.iter().chain(&self.secondary).copied()
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.slot, self.port)
    }
}

impl FromStr for PortId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (slot, port) = text.split_once('/').ok_or(())?;
        Ok(Self {
            slot: slot.parse().map_err(|_| ())?,
            port: port.parse().map_err(|_| ())?,
        })
    }
}
