//! Services.

use std::net::IpAddr;

command::keywords! {
    /// How a wsg-service is used.
    pub enum DeploymentMode {
        RemoteAccess = "remote-access", "Peers are hosts that ask for an address";
        SiteToSite = "site-to-site", "Peers are routers with networks behind them";
    }
}

/// `wsg-service NAME`: a security gateway service. Changes take effect when it is bound again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WsgService {
    /// `bind address ADDRESS crypto-template NAME`: the service runs when this is set.
    pub bind: Option<ServiceBinding>,
    /// `deployment-mode`, default remote-access.
    pub deployment_mode: DeploymentMode,
    /// `ip access-group NAME`.
    pub ip_access_group: Option<String>,
    /// `ipv6 access-group NAME`.
    pub ipv6_access_group: Option<String>,
    /// `ip address pool name NAME`, in order, at most [`MAX_SERVICE_POOLS`]: the first with a free address wins.
    pub ip_pools: Vec<String>,
    /// `ipv6 address prefix-pool NAME`, in order, at most [`MAX_SERVICE_POOLS`].
    pub ipv6_pools: Vec<String>,
    /// `pre_fragment mtu`: IPv4 packets from the clear side above it are fragmented before encryption; 576 to 2048 octets.
    pub pre_fragment_mtu: u16,
    /// `duplicate-session-detection`: a new session of the same identity ends the old one. Default off.
    pub duplicate_session_detection: bool,
    /// `max-sessions`: what congestion control measures its sessions by; 1 to 1000000.
    pub max_sessions: Option<u32>,
    /// `policy overload redirect`: gateways that new peers are sent to in congestion (RFC 5685), at most [`MAX_OVERLOAD_GATEWAYS`].
    pub overload_gateways: Vec<OverloadGateway>,
}

/// Another gateway, and how many peers it gets in proportion to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverloadGateway {
    /// Its address of the encrypted side.
    pub address: IpAddr,
    /// 1 to 10.
    pub weight: u32,
}

/// The address of a service and its policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceBinding {
    /// Local address of the encrypted side.
    pub address: IpAddr,
    /// Name of the crypto template.
    pub template: String,
}

/// Most pools of a kind in a service.
pub const MAX_SERVICE_POOLS: usize = 16;
/// Most gateways of `policy overload redirect`.
pub const MAX_OVERLOAD_GATEWAYS: usize = 16;
/// `weight` of one when nothing is configured.
pub const DEFAULT_OVERLOAD_WEIGHT: u32 = 1;
/// `pre_fragment mtu` when nothing is configured.
pub const DEFAULT_PRE_FRAGMENT_MTU: u16 = 1_400;

impl Default for WsgService {
    fn default() -> Self {
        Self {
            bind: None,
            deployment_mode: DeploymentMode::RemoteAccess,
            ip_access_group: None,
            ipv6_access_group: None,
            ip_pools: Vec::new(),
            ipv6_pools: Vec::new(),
            pre_fragment_mtu: DEFAULT_PRE_FRAGMENT_MTU,
            duplicate_session_detection: false,
            max_sessions: None,
            overload_gateways: Vec::new(),
        }
    }
}
