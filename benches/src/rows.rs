//! The rows: what is measured, in which unit, and what ours must reach.

use crate::gateway::Kind;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Row {
    SetupRateGroup31,
    SetupCpuGroup31,
    SetupRateGroup19,
    SetupCpuGroup19,
    SetupRateRsa,
    SetupCpuRsa,
    SetupRateEcdsa,
    SetupCpuEcdsa,
    MemoryPerTunnel,
    ThroughputUp,
    ThroughputDown,
    PacketRate,
    PacketRateFlows,
    PacketRateGso,
    CpuReceive,
    CpuSend,
    ManyTunnels,
    IpsecmgrTunnels,
    IpsecmgrPackets,
    IpsecmgrTime,
    IftaskTunnels,
    IftaskTime,
    MovePackets,
    MoveHeld,
    MoveGap,
    OutputUp,
    OutputDown,
    ShowTime,
    FloodHonest,
    FloodMemory,
}

/// A row in words.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// For machines.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    pub unit: &'static str,
    /// Whether more is better.
    pub higher: bool,
    /// What ours must reach.
    pub goal: Option<f64>,
    /// Who else is measured.
    pub peers: &'static [Kind],
}

const NOBODY: &[Kind] = &[];
const GATEWAYS: &[Kind] = &[Kind::Strongswan];
const TUNNELS: &[Kind] = &[Kind::Strongswan, Kind::WireguardGo, Kind::Boringtun];

impl Row {
    /// All of them, as they are printed.
    pub const ALL: [Self; 30] = [
        Self::SetupRateGroup31,
        Self::SetupCpuGroup31,
        Self::SetupRateGroup19,
        Self::SetupCpuGroup19,
        Self::SetupRateRsa,
        Self::SetupCpuRsa,
        Self::SetupRateEcdsa,
        Self::SetupCpuEcdsa,
        Self::MemoryPerTunnel,
        Self::ThroughputUp,
        Self::ThroughputDown,
        Self::PacketRate,
        Self::PacketRateFlows,
        Self::PacketRateGso,
        Self::CpuReceive,
        Self::CpuSend,
        Self::ManyTunnels,
        Self::IpsecmgrTunnels,
        Self::IpsecmgrPackets,
        Self::IpsecmgrTime,
        Self::IftaskTunnels,
        Self::IftaskTime,
        Self::MovePackets,
        Self::MoveHeld,
        Self::MoveGap,
        Self::OutputUp,
        Self::OutputDown,
        Self::ShowTime,
        Self::FloodHonest,
        Self::FloodMemory,
    ];

    /// What is to be known of it.
    pub fn facts(self) -> Facts {
        let more = |name, title, unit, goal, peers| Facts {
            name,
            title,
            unit,
            higher: true,
            goal,
            peers,
        };
        let less = |name, title, unit, goal, peers| Facts {
            higher: false,
            ..more(name, title, unit, Some(goal), peers)
        };
        let rate = |name, title, goal| more(name, title, "1/s", goal, GATEWAYS);
        let cpu = |name, title, goal| less(name, title, "ms", goal, GATEWAYS);
        let tcp = |name, title| more(name, title, "Mbit/s", Some(8500.0), TUNNELS);
        let udp = |name, title, goal| more(name, title, "packets/s", Some(goal), TUNNELS);
        let ours = |name, title, unit, goal| less(name, title, unit, goal, NOBODY);
        match self {
            Self::SetupRateGroup31 => rate("setup_rate_psk_group31", "set-ups, PSK, group 31", Some(2400.0)),
            Self::SetupCpuGroup31 => cpu("setup_cpu_psk_group31", "CPU of a set-up, PSK, group 31", 0.08),
            Self::SetupRateGroup19 => rate("setup_rate_psk_group19", "set-ups, PSK, group 19", Some(1655.0)),
            Self::SetupCpuGroup19 => cpu("setup_cpu_psk_group19", "CPU of a set-up, PSK, group 19", 0.48),
            Self::SetupRateRsa => rate("setup_rate_rsa2048", "set-ups, RSA-2048 both ways", Some(552.0)),
            Self::SetupCpuRsa => cpu("setup_cpu_rsa2048", "CPU of a set-up, RSA-2048", 0.40),
            Self::SetupRateEcdsa => rate("setup_rate_ecdsa_p256", "set-ups, ECDSA P-256 both ways", None),
            Self::SetupCpuEcdsa => cpu("setup_cpu_ecdsa_p256", "CPU of a set-up, ECDSA P-256", 0.20),
            Self::MemoryPerTunnel => less("memory_per_tunnel", "memory of a tunnel", "KiB", 3.0, GATEWAYS),
            Self::ThroughputUp => tcp("throughput_tcp_up", "TCP, one stream, to the host"),
            Self::ThroughputDown => tcp("throughput_tcp_down", "TCP, one stream, from the host"),
            Self::PacketRate => udp("packet_rate_udp64", "64-octet UDP, one flow", 350_000.0),
            Self::PacketRateFlows => udp("packet_rate_udp64_60_flows", "64-octet UDP, 60 flows", 230_000.0),
            Self::PacketRateGso => udp("packet_rate_udp64_gso", "64-octet UDP, GSO sender", 900_000.0),
            Self::CpuReceive => less(
                "cpu_per_packet_receive",
                "CPU of a received 64-octet packet",
                "us",
                1.7,
                TUNNELS,
            ),
            Self::CpuSend => less(
                "cpu_per_packet_send",
                "CPU of a sent 64-octet packet",
                "us",
                2.2,
                TUNNELS,
            ),
            Self::ManyTunnels => more(
                "throughput_many_tunnels",
                "packets per CPU, many tunnels to 100",
                "ratio",
                Some(0.9),
                NOBODY,
            ),
            Self::IpsecmgrTunnels => ours("kill_ipsecmgr_tunnels", "kill -9 ipsecmgr: tunnels lost", "", 0.0),
            Self::IpsecmgrPackets => ours("kill_ipsecmgr_packets", "kill -9 ipsecmgr: packets lost", "", 0.0),
            Self::IpsecmgrTime => ours(
                "kill_ipsecmgr_time",
                "kill -9 ipsecmgr: longest set-up",
                "ms",
                1000.0,
            ),
            Self::IftaskTunnels => ours("kill_iftask_tunnels", "kill -9 iftask: tunnels lost", "", 0.0),
            Self::IftaskTime => ours("kill_iftask_time", "kill -9 iftask: longest gap", "ms", 100.0),
            Self::MovePackets => ours("move_packets", "slot moves: packets lost", "", 0.0),
            Self::MoveHeld => Facts {
                higher: false,
                ..more("move_held", "slot moves: packets held", "", None, NOBODY)
            },
            Self::MoveGap => ours("move_gap", "slot moves: longest gap", "ms", 100.0),
            Self::OutputUp => Facts {
                higher: false,
                ..more(
                    "output_handed_on_up",
                    "output handed on: CPU left, to the host",
                    "part",
                    None,
                    NOBODY,
                )
            },
            Self::OutputDown => Facts {
                higher: false,
                ..more(
                    "output_handed_on_down",
                    "output handed on: CPU left, from the host",
                    "part",
                    None,
                    NOBODY,
                )
            },
            Self::ShowTime => ours("show_added_p99", "show beside set-ups: added p99", "ms", 5.0),
            Self::FloodHonest => more(
                "flood_honest",
                "flood: honest set-ups that succeed",
                "%",
                Some(100.0),
                NOBODY,
            ),
            Self::FloodMemory => ours("flood_memory", "flood: memory taken", "MiB", 256.0),
        }
    }

    /// Title for people.
    pub fn title(self) -> &'static str {
        self.facts().title
    }

    /// Unit of its values.
    pub fn unit(self) -> &'static str {
        self.facts().unit
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own() {
        let names: HashSet<_> = Row::ALL.map(|row| row.facts().name).into_iter().collect();
        let titles: HashSet<_> = Row::ALL.map(Row::title).into_iter().collect();
        assert_eq!((names.len(), titles.len()), (Row::ALL.len(), Row::ALL.len()));
        // Nobody is compared with himself.
        assert!(
            Row::ALL
                .iter()
                .all(|row| !row.facts().peers.contains(&Kind::Ours))
        );
    }
}
