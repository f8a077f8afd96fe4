//! Addresses, routes, servers, certificates.

use std::net::IpAddr;

use super::events;

events! {
    /// The kernel refused something that the configuration of a context asks for.
    NetworkFailed<'a> = vpnmgr 4001 Error {
        /// Context.
        context: &'a str,
        /// What was tried, e.g. `ip address 10.0.0.1/24 on eth1`.
        what: &'a str,
        /// Why it failed and what would be right.
        reason: &'a str,
    } says "context {context}: {what}: {reason}";

    /// A pool has no address left.
    PoolExhausted<'a> = vpnmgr 4002 Error {
        /// Context.
        context: &'a str,
        /// Pool.
        pool: &'a str,
    } says "context {context}: ip pool {pool} has no free address"
      raises Major for (context, pool);

    /// A pool that was exhausted has addresses again.
    PoolAvailable<'a> = vpnmgr 4003 Info {
        /// Context.
        context: &'a str,
        /// Pool.
        pool: &'a str,
    } says "context {context}: ip pool {pool} has free addresses again"
      clears PoolExhausted for (context, pool);

    /// A stray ring between two workers is full: packets on the wrong worker are lost.
    StrayRingFull = iftask 6001 Warning {
        /// The worker that lost them.
        worker: u32,
        /// How many since the last report.
        count: u64,
    } says "worker {worker}: {count} packets for other workers lost, their stray rings are full";

    /// A session was refused.
    SessionRejected<'a> = sessmgr 7001 Unusual {
        /// Context of the service.
        context: &'a str,
        /// Service.
        service: &'a str,
        /// IKE identity of the peer.
        peer: &'a str,
        /// Why.
        reason: &'a str,
    } says "{context} {service}: session of {peer} rejected: {reason}";

    /// A RADIUS authentication server does not answer.
    AaaAuthServerUnreachable = aaamgr 8001 Error {
        /// Number of the server in the list of its kind, from 1.
        index: u32,
        /// Its address.
        address: IpAddr,
    } says "radius authentication server {address} is unreachable"
      trap 39 AAAAuthServerUnreachable [radiusAuthServerIndex = index, radiusAuthServerAddress = address]
      raises Major for (address);

    /// A RADIUS authentication server answers again.
    AaaAuthServerReachable = aaamgr 8002 Info {
        /// Number of the server in the list of its kind, from 1.
        index: u32,
        /// Its address.
        address: IpAddr,
    } says "radius authentication server {address} is reachable"
      trap 40 AAAAuthServerReachable [radiusAuthServerIndex = index, radiusAuthServerAddress = address]
      clears AaaAuthServerUnreachable for (address);

    /// A RADIUS accounting server does not answer.
    AaaAccServerUnreachable = aaamgr 8003 Error {
        /// Number of the server in the list of its kind, from 1.
        index: u32,
        /// Its address.
        address: IpAddr,
    } says "radius accounting server {address} is unreachable"
      trap 42 AAAAccServerUnreachable [radiusAccServerIndex = index, radiusAccServerAddress = address]
      raises Major for (address);

    /// A RADIUS accounting server answers again.
    AaaAccServerReachable = aaamgr 8004 Info {
        /// Number of the server in the list of its kind, from 1.
        index: u32,
        /// Its address.
        address: IpAddr,
    } says "radius accounting server {address} is reachable"
      trap 43 AAAAccServerReachable [radiusAccServerIndex = index, radiusAccServerAddress = address]
      clears AaaAccServerUnreachable for (address);

    /// A RADIUS server answered with a wrong authenticator: the shared secrets differ.
    AaaServerMisconfigured = aaamgr 8005 Error {
        /// Number of the server in the list of its kind, from 1.
        index: u32,
        /// Its address.
        address: IpAddr,
    } says "radius server {address} answers with a wrong authenticator: check the shared secret on both sides"
      trap 41 AAAAuthServerMisconfigured [radiusAuthServerIndex = index, radiusAuthServerAddress = address];

    /// Accounting records were lost.
    AccountingLost = aaamgr 8006 Error {
        /// How many records.
        count: u64,
    } says "{count} accounting records lost: no server answered in time";

    /// A certificate of this node expires soon.
    CertShortLifetime<'a> = certmgr 9001 Warning {
        /// Name in the configuration.
        name: &'a str,
        /// Serial number, hexadecimal.
        serial: &'a str,
        /// Issuer, RFC 4514 text.
        issuer: &'a str,
        /// End of validity, RFC 3339 in UTC.
        expiry: &'a str,
    } says "certificate {name} (serial {serial}) expires at {expiry}"
      trap 1043 CertShortLifetime [
          starCertSerialNumber = serial, starCertIssuer = issuer, starCertExpiryTime = expiry
      ]
      raises Minor for (serial);

    /// A certificate of this node has expired.
    CertExpired<'a> = certmgr 9002 Error {
        /// Name in the configuration.
        name: &'a str,
        /// Serial number, hexadecimal.
        serial: &'a str,
        /// Issuer, RFC 4514 text.
        issuer: &'a str,
        /// End of validity, RFC 3339 in UTC.
        expiry: &'a str,
    } says "certificate {name} (serial {serial}) expired at {expiry}"
      trap 1044 CertExpired [
          starCertSerialNumber = serial, starCertIssuer = issuer, starCertExpiryTime = expiry
      ]
      raises Major for (serial);

    /// A certificate of this node was loaded and is valid.
    CertValid<'a> = certmgr 9003 Info {
        /// Name in the configuration.
        name: &'a str,
        /// Serial number, hexadecimal.
        serial: &'a str,
        /// Issuer, RFC 4514 text.
        issuer: &'a str,
        /// End of validity, RFC 3339 in UTC.
        expiry: &'a str,
    } says "certificate {name} (serial {serial}) is valid until {expiry}"
      trap 1045 CertValid [
          starCertSerialNumber = serial, starCertIssuer = issuer, starCertExpiryTime = expiry
      ]
      clears CertExpired for (serial);

    /// A certificate, key or trust anchor of the configuration cannot be used.
    CertificateUnusable<'a> = certmgr 9004 Error {
        /// Name in the configuration.
        name: &'a str,
        /// What is wrong and what would be right.
        reason: &'a str,
    } says "certificate {name} cannot be used: {reason}";

    /// The certificate of a peer was refused.
    PeerCertificateRefused<'a> = certmgr 9005 Unusual {
        /// Subject of the certificate, as the peer gave it.
        subject: &'a str,
        /// Why.
        reason: &'a str,
    } says "certificate of peer {subject} refused: {reason}";
}
