//! From our messages to RADIUS attributes and back.

use std::net::{IpAddr, Ipv6Addr};

use bus::messages::aaamgr::{AccountingKind, AccountingRecord};
use bus::messages::sessmgr::Authorization;
use radius::{Attribute, AttributeList, EncodeError, Packet, Reply, Request};

use crate::settings::Nas;

/// An Access-Request that carries an EAP response. `last` is the reply that it continues.
pub fn access_request(
    nas: &Nas,
    user: &[u8],
    calling_station: &str,
    eap: &[u8],
    last: Option<&Reply>,
) -> Result<Request, EncodeError> {
    let mut request = Request {
        server: last.map(Reply::server),
        ..Request::default()
    };
    let list = &mut request.attributes;
    list.octets(Attribute::UserName, user)?;
    describe(list, nas)?;
    list.integer(Attribute::ServiceType, FRAMED)?;
    list.integer(Attribute::FramedMtu, EAP_MTU)?;
    list.text(Attribute::CallingStationId, calling_station)?;
    // RFC 2865 section 5.24: State goes back unchanged, and only to the server that sent it.
    if let Some(state) = last.and_then(|last| last.packet().value(Attribute::State)) {
        list.octets(Attribute::State, state)?;
    }
    list.eap(eap)?;
    Ok(request)
}

/// An Accounting-Request.
pub fn accounting_request(nas: &Nas, record: &AccountingRecord) -> Result<Request, EncodeError> {
    let mut request = Request::default();
    let list = &mut request.attributes;
    list.integer(Attribute::AcctStatusType, record.kind.cast_unsigned())?;
    list.text(Attribute::AcctSessionId, &record.session)?;
    list.octets(Attribute::UserName, &record.user)?;
    describe(list, nas)?;
    list.integer(Attribute::ServiceType, FRAMED)?;
    list.integer(Attribute::AcctAuthentic, BY_RADIUS)?;
    list.text(Attribute::CallingStationId, &record.calling_station)?;
    list.text(Attribute::ConnectInfo, &record.service)?;
    match ip(&record.ipv4) {
        Some(IpAddr::V4(address)) => list.ipv4(Attribute::FramedIpAddress, address)?,
        _ => list,
    };
    let list = &mut request.attributes;
    if let Some(IpAddr::V6(address)) = ip(&record.ipv6) {
        list.ipv6_prefix(Attribute::FramedIpv6Prefix, address, PREFIX)?;
    }
    for class in &record.class {
        list.octets(Attribute::Class, class)?;
    }
    list.integer(
        Attribute::EventTimestamp,
        u32::try_from(record.time).unwrap_or(u32::MAX),
    )?;
    if record.kind == AccountingKind::Start as i32 {
        return Ok(request);
    }
    list.integer(Attribute::AcctSessionTime, record.seconds)?;
    for (octets, gigawords, value) in [
        (
            Attribute::AcctInputOctets,
            Attribute::AcctInputGigawords,
            record.bytes_in,
        ),
        (
            Attribute::AcctOutputOctets,
            Attribute::AcctOutputGigawords,
            record.bytes_out,
        ),
    ] {
        list.integer(octets, (value & 0xffff_ffff) as u32)?;
        list.integer(gigawords, (value >> 32) as u32)?;
    }
    list.integer(
        Attribute::AcctInputPackets,
        (record.packets_in & 0xffff_ffff) as u32,
    )?;
    list.integer(
        Attribute::AcctOutputPackets,
        (record.packets_out & 0xffff_ffff) as u32,
    )?;
    if record.kind == AccountingKind::Stop as i32 && record.terminate_cause != 0 {
        list.integer(Attribute::AcctTerminateCause, record.terminate_cause)?;
    }
    Ok(request)
}

/// What an Access-Accept authorises.
pub fn authorization(packet: Packet<'_>) -> Authorization {
    let dns_of = |attribute: Attribute| {
        packet
            .ipv4(attribute)
            .map(IpAddr::from)
            .or_else(|| packet.ipv6(attribute).map(IpAddr::from))
    };
    let mut dns: Vec<Vec<u8>> = Vec::new();
    for server in DNS.iter().filter_map(|attribute| dns_of(*attribute)).map(octets) {
        if !dns.contains(&server) {
            dns.push(server);
        }
    }
    let prefix = packet
        .ipv6_prefix(Attribute::FramedIpv6Prefix)
        .map(|(prefix, length)| match length {
            128 => prefix,
            // Of a prefix the peer is told the address with interface identifier 1.
            _ => Ipv6Addr::from(u128::from(prefix) | 1),
        });
    let ipv6 = packet.ipv6(Attribute::FramedIpv6Address).or(prefix);
    let seconds = |attribute| packet.integer(attribute).unwrap_or(0);
    let pool = packet
        .text(Attribute::SnIpPoolName)
        .or_else(|| packet.text(Attribute::FramedPool));
    Authorization {
        framed_ipv4: packet
            .ipv4(Attribute::FramedIpAddress)
            .map_or_else(Vec::new, |address| octets(address.into())),
        framed_ipv6: ipv6.map_or_else(Vec::new, |address| octets(address.into())),
        session_timeout: seconds(Attribute::SessionTimeout),
        idle_timeout: seconds(Attribute::IdleTimeout),
        class: packet.values(Attribute::Class).map(<[u8]>::to_vec).collect(),
        dns,
        pool: pool.unwrap_or("").to_owned(),
        interim_interval: seconds(Attribute::AcctInterimInterval),
    }
}

/// Who we are.
fn describe(list: &mut AttributeList, nas: &Nas) -> Result<(), EncodeError> {
    match nas.address {
        Some(IpAddr::V4(address)) => drop(list.ipv4(Attribute::NasIpAddress, address)?),
        Some(IpAddr::V6(address)) => drop(list.ipv6(Attribute::NasIpv6Address, address)?),
        None => {}
    }
    list.text(Attribute::NasIdentifier, &nas.identifier)?;
    list.integer(Attribute::NasPortType, VIRTUAL)?;
    Ok(())
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Name servers, in the order in which the peer is told of them.
const DNS: &[Attribute] = &[
    Attribute::SnPrimaryDnsServer,
    Attribute::SnSecondaryDnsServer,
    Attribute::MsPrimaryDnsServer,
    Attribute::MsSecondaryDnsServer,
    Attribute::SnIpv6PrimaryDns,
    Attribute::SnIpv6SecondaryDns,
    Attribute::DnsServerIpv6Address,
];
/// Service-Type Framed.
const FRAMED: u32 = 2;
/// NAS-Port-Type Virtual.
const VIRTUAL: u32 = 5;
/// Acct-Authentic RADIUS.
const BY_RADIUS: u32 = 1;
/// Longest EAP packet that fits into an IKE message without trouble: what EAP-TLS servers cut their messages to.
const EAP_MTU: u32 = 1_300;
/// Length of the prefixes of peers.
const PREFIX: u8 = 64;
