//! Tunnels.

use std::net::IpAddr;

use super::events;

events! {
    /// A tunnel is up: its first child SA is installed.
    IpsecTunnelUp<'a> = ipsecmgr 5001 Info {
        /// Context.
        context: &'a str,
        /// Crypto template or map.
        policy: &'a str,
        /// IKE identity of the peer.
        peer: &'a str,
        /// Our outer address.
        local: IpAddr,
        /// The peer's outer address.
        remote: IpAddr,
    } says "tunnel up: context {context} {policy} peer {peer} local {local} remote {remote}"
      trap 164 IPSECDynTunUp [
          starIPSECContextName = context, starIPSECPolicyName = policy, starIPSECDynPolicyType = 4,
          starIPSECDynPolicyPayloadType = 2, starIPSECLocalGateway = local, starIPSECRemoteGateway = remote
      ];

    /// A tunnel is down: its last child SA is gone.
    IpsecTunnelDown<'a> = ipsecmgr 5002 Info {
        /// Context.
        context: &'a str,
        /// Crypto template or map.
        policy: &'a str,
        /// IKE identity of the peer.
        peer: &'a str,
        /// Our outer address.
        local: IpAddr,
        /// The peer's outer address.
        remote: IpAddr,
        /// Disconnect reason, as `show session disconnect-reasons` spells it.
        reason: &'a str,
    } says "tunnel down: context {context} {policy} peer {peer} local {local} remote {remote}: {reason}"
      trap 165 IPSECDynTunDown [
          starIPSECContextName = context, starIPSECPolicyName = policy, starIPSECDynPolicyType = 4,
          starIPSECDynPolicyPayloadType = 2, starIPSECLocalGateway = local, starIPSECRemoteGateway = remote
      ];

    /// A peer failed to authenticate itself.
    IkeAuthenticationFailed<'a> = ipsecmgr 5003 Warning {
        /// Context.
        context: &'a str,
        /// Crypto template or map.
        policy: &'a str,
        /// IKE identity the peer claims.
        peer: &'a str,
        /// The peer's outer address.
        remote: IpAddr,
        /// Why, as far as it may be told.
        reason: &'a str,
    } says "authentication failed: context {context} {policy} peer {peer} remote {remote}: {reason}";

    /// No proposal of the peer is acceptable.
    NoProposalChosen<'a> = ipsecmgr 5004 Warning {
        /// Context.
        context: &'a str,
        /// Crypto template or map.
        policy: &'a str,
        /// The peer's outer address.
        remote: IpAddr,
        /// `IKE` or `ESP`.
        protocol: &'a str,
        /// The transform type that differs, e.g. `DH group`.
        transform: &'a str,
        /// What the peer offers.
        offered: &'a str,
        /// What we would take.
        accepted: &'a str,
    } says "NO_PROPOSAL_CHOSEN: context {context} {policy} remote {remote}: {protocol} {transform} differs: peer offers {offered}, configured {accepted}";

    /// No traffic selector of the peer is acceptable.
    TsUnacceptable<'a> = ipsecmgr 5005 Warning {
        /// Context.
        context: &'a str,
        /// Crypto template or map.
        policy: &'a str,
        /// The peer's outer address.
        remote: IpAddr,
        /// What the peer offers.
        offered: &'a str,
        /// What we would take.
        accepted: &'a str,
    } says "TS_UNACCEPTABLE: context {context} {policy} remote {remote}: peer offers {offered}, configured {accepted}";

    /// A worker's IKE manager restarted and its tunnels are gone.
    TunnelsLost = ipsecmgr 5006 Error {
        /// The worker.
        worker: u32,
        /// How many tunnels.
        count: u64,
    } says "{count} tunnels lost by the restart of ipsecmgr {worker}";

    /// A worker's IKE manager restarted and goes on with the tunnels of its last life.
    SessionRecoveryComplete = ipsecmgr 5010 Info {
        /// The worker.
        worker: u32,
        /// Records of IKE SAs that were found.
        found: u64,
        /// Of these, IKE SAs that were established.
        established: u64,
        /// IKE SAs that go on, established or not.
        recovered: u64,
        /// Tunnels that go on.
        tunnels: u64,
        /// IKE SAs that do not.
        lost: u64,
        /// From the start of the process until it served IKE again, in milliseconds.
        milliseconds: u64,
    } says "ipsecmgr {worker} restarted: {recovered} of {found} IKE SAs recovered with {tunnels} tunnels, {lost} lost, after {milliseconds} ms"
      trap 183 SessMgrRecoveryComplete [
          starCPUSlot = 1, starCPUNumber = 0, starFecthedFromAAAMgr = found, starPriorToAudit = established,
          starPassedAudits = recovered, starCallsRecovered = tunnels, starAllCallLines = recovered, starElapsedMs = milliseconds
      ];

    /// IKE SAs that outlived their manager are given up, as their service has not come back: it is not configured any more, or something it needs is missing.
    TunnelsWithoutService<'a> = ipsecmgr 5011 Error {
        /// The worker.
        worker: u32,
        /// Context and name of the service.
        service: &'a str,
        /// How many IKE SAs.
        count: u64,
    } says "ipsecmgr {worker}: {count} IKE SAs of service {service} given up: the service is not there";

    /// A peer does not answer any more.
    PeerDead<'a> = ipsecmgr 5007 Unusual {
        /// Context.
        context: &'a str,
        /// IKE identity of the peer.
        peer: &'a str,
        /// The peer's outer address.
        remote: IpAddr,
    } says "peer {peer} at {remote} (context {context}) does not answer, tunnel removed";

    /// Many half-open IKE SAs: cookies are demanded from now on.
    CookieChallengeStarted = ipsecmgr 5008 Warning {
        /// The worker.
        worker: u32,
        /// Half-open IKE SAs.
        half_open: u64,
    } says "worker {worker}: {half_open} half-open IKE SAs, cookie challenge on"
      raises Minor for (worker);

    /// Few half-open IKE SAs again: cookies are not demanded any more.
    CookieChallengeStopped = ipsecmgr 5009 Info {
        /// The worker.
        worker: u32,
        /// Half-open IKE SAs.
        half_open: u64,
    } says "worker {worker}: {half_open} half-open IKE SAs, cookie challenge off"
      clears CookieChallengeStarted for (worker);
}
