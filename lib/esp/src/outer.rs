//! The outer header: DSCP, ECN, DF, and how long an inner packet may be.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use sadb::{DfPolicy, DscpPolicy, Encapsulation};

use crate::packet::{IPV4_HEADER, IPV6_HEADER, Packet, set_traffic_class};
use crate::{Cause, Transform};

const UDP_HEADER: usize = 8;
const ECN_MASK: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const CE: u8 = 0b11;
/// RFC 8200 5: no link of IPv6 is narrower.
pub(crate) const IPV6_LEAST_MTU: usize = 1280;
/// RFC 791: every host takes that much.
pub(crate) const IPV4_LEAST_MTU: usize = 576;

/// The traffic class of the outer header (RFC 4301 5.1.2, RFC 6040 4.1: ECN is always copied).
pub fn traffic_class(policy: DscpPolicy, inner: u8) -> u8 {
    match policy {
        DscpPolicy::Copy => inner,
        DscpPolicy::Fixed(dscp) => dscp << 2 | inner & ECN_MASK,
    }
}

/// Carries the ECN field of the outer header over to the inner packet (RFC 6040 4.2), and returns the inner packet's traffic class from now on. Its DSCP stays
/// (RFC 4301 5.1.2.1).
///
/// # Errors
/// [`Cause::Ecn`] when congestion must be told and cannot be: the packet is to be dropped.
pub fn propagate_ecn(outer: u8, packet: &mut [u8], inner: &Packet) -> Result<u8, Cause> {
    let (outer, own) = (outer & ECN_MASK, inner.traffic_class & ECN_MASK);
    let ecn = match (own, outer) {
        (NOT_ECT, CE) => return Err(Cause::Ecn),
        (NOT_ECT | CE, _) => own,
        (_, CE) => CE,
        (_, ECT_1) => ECT_1,
        _ => own,
    };
    let class = inner.traffic_class & !ECN_MASK | ecn;
    if ecn != own {
        set_traffic_class(packet, class).ok_or(Cause::NotIp)?;
    }
    Ok(class)
}

/// The DF bit of an outer IPv4 header (RFC 4301 8.1).
fn dont_fragment(policy: DfPolicy, inner: &Packet) -> bool {
    match policy {
        DfPolicy::Copy => inner.dont_fragment,
        DfPolicy::Set => true,
        DfPolicy::Clear => false,
    }
}

/// RFC 1191 7.1 and what is usual today: how wide links are, in octets, where nobody says.
const PLATEAUS: [usize; 8] = [9000, 4352, 2002, 1492, 1400, 1280, 1006, IPV4_LEAST_MTU];

/// The width of the next narrower usual link, for a packet of `length` octets that did not fit.
pub(crate) fn narrower(length: usize) -> Option<usize> {
    PLATEAUS.into_iter().find(|mtu| *mtu < length)
}

/// How long inner packets of an SA may be. Small, as there is one for every SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    transform: Transform,
    /// Of the outer IP header, and of UDP if there is one.
    headers: u8,
    fits: u16,
    /// Longer IPv4 packets that may be are fragmented into pieces of this; `None` = never.
    pre_fragment: Option<NonZeroU16>,
    df: DfPolicy,
    /// Routers may fragment the outer packet (IPv4); otherwise only its sender may.
    outer_is_v4: bool,
}

/// What to do with an inner packet of a certain length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Send it.
    Whole,
    /// Cut it into IPv4 fragments of at most that many bytes first.
    Fragment(usize),
    /// Drop it and tell its sender that so many bytes fit.
    TooBig(u16),
}

impl Limits {
    /// `outer_mtu` counts the outer IP header; `fragment_mtu` 0 = never fragment before encryption. `local` tells the outer family.
    pub fn new(
        transform: Transform,
        encapsulation: Encapsulation,
        local: SocketAddr,
        outer_mtu: u16,
        fragment_mtu: u16,
        df: DfPolicy,
    ) -> Self {
        let ip = if local.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER };
        let udp = match encapsulation {
            Encapsulation::Udp => UDP_HEADER,
            Encapsulation::Esp => 0,
        };
        let outer_mtu = match outer_mtu {
            0 => usize::from(u16::MAX),
            mtu => usize::from(mtu),
        };
        let fits = short(transform.max_inner(outer_mtu.saturating_sub(ip + udp)));
        Self {
            transform,
            headers: (ip + udp) as u8,
            fits,
            pre_fragment: (fragment_mtu != 0)
                .then(|| at_least_ipv4(fragment_mtu.min(fits)))
                .flatten(),
            df,
            outer_is_v4: local.is_ipv4(),
        }
    }

    /// The longest inner packet that may be and whose outer packet is within the outer MTU, in bytes.
    pub fn fits(&self) -> usize {
        self.fits.into()
    }

    /// The same, and inner packets are no longer than `inner_mtu`; 0 = that is no limit.
    pub fn within(self, inner_mtu: u16) -> Self {
        match inner_mtu {
            0 => self,
            mtu => self.bounded(mtu.into()),
        }
    }

    /// The same on a path that takes outer packets of up to `mtu` octets.
    pub fn on_path(self, mtu: u16) -> Self {
        let room = usize::from(mtu).saturating_sub(self.headers.into());
        self.bounded(self.transform.max_inner(room))
    }

    /// How wide to take the link to be that does not take an ESP packet of `sealed` octets in one piece; `None` when no link is as narrow.
    pub fn narrower(&self, sealed: usize) -> Option<u16> {
        let mtu = narrower(sealed + usize::from(self.headers))?;
        let least = if self.outer_is_v4 {
            IPV4_LEAST_MTU
        } else {
            IPV6_LEAST_MTU
        };
        u16::try_from(mtu.max(least)).ok()
    }

    fn bounded(self, most: usize) -> Self {
        let fits = self.fits.min(short(most));
        Self {
            fits,
            pre_fragment: self
                .pre_fragment
                .and_then(|most| at_least_ipv4(most.get().min(fits))),
            ..self
        }
    }

    /// What to do with a packet of `length` bytes: its own, or that of each segment of a super-packet.
    pub fn fit(&self, packet: &Packet, length: usize) -> Fit {
        let pre_fragment = self.pre_fragment.map(|most| usize::from(most.get()));
        if length <= self.fits() && pre_fragment.is_none_or(|most| length <= most) {
            return Fit::Whole;
        }
        if !packet.dont_fragment
            && let Some(most) = pre_fragment
        {
            return Fit::Fragment(most);
        }
        if length <= self.fits() {
            return Fit::Whole;
        }
        let is_v6 = packet.next_header() == crate::packet::IPV6;
        let least = if is_v6 { IPV6_LEAST_MTU } else { IPV4_LEAST_MTU };
        // The outer packet may be cut by us or on its way: always when it is IPv6 or has no DF, and when the inner one is as short as
        // its sender can make it.
        if !self.outer_is_v4 && !packet.dont_fragment
            || self.outer_is_v4 && !dont_fragment(self.df, packet)
            || length <= least
        {
            return Fit::Whole;
        }
        Fit::TooBig(self.fits.max(short(least)))
    }

    /// The outer DF bit for a packet of `length` bytes that is sent whole. What cannot get through in one piece must be allowed to be cut.
    pub fn dont_fragment(&self, packet: &Packet, length: usize) -> bool {
        length <= self.fits() && dont_fragment(self.df, packet)
    }
}

/// A length of an IP packet.
fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// No fragment has to be shorter than every host takes.
fn at_least_ipv4(length: u16) -> Option<NonZeroU16> {
    NonZeroU16::new(length.max(IPV4_LEAST_MTU as u16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::tests::{ipv4, ipv6};
    use crate::packet::{IPV4, UDP};
    use crypto::Cipher;

    fn inner(traffic_class: u8, v6: bool, df: bool) -> (Vec<u8>, Packet) {
        let mut data = if v6 {
            ipv6(UDP, &[0; 8])
        } else {
            ipv4(UDP, [1; 4], [2; 4], &[0; 8])
        };
        if df && !v6 {
            data[6] = 0x40;
        }
        set_traffic_class(&mut data, traffic_class).unwrap();
        let packet = Packet::parse(&data).unwrap();
        (data, packet)
    }

    #[test]
    fn dscp_is_copied_or_set_and_ecn_always_copied() {
        assert_eq!(traffic_class(DscpPolicy::Copy, 0xb9), 0xb9);
        assert_eq!(traffic_class(DscpPolicy::Fixed(46), 0x02), 46 << 2 | 2);
    }

    #[test]
    fn ecn_of_figure_4() {
        // RFC 6040 figure 4: rows inner, columns outer Not-ECT, ECT(0), ECT(1), CE.
        const ECT_0: u8 = 0b10;
        let table = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
        ];
        for v6 in [false, true] {
            for (own, row) in table {
                for (outer, expected) in [NOT_ECT, ECT_0, ECT_1, CE].into_iter().zip(row) {
                    let (mut data, packet) = inner(0xb8 | own, v6, false);
                    let result = propagate_ecn(0x50 | outer, &mut data, &packet);
                    match expected {
                        None => assert_eq!(result, Err(Cause::Ecn)),
                        Some(ecn) => {
                            assert_eq!(result, Ok(0xb8 | ecn));
                            assert_eq!(Packet::parse(&data).unwrap().traffic_class, 0xb8 | ecn);
                        }
                    }
                }
            }
        }
    }

    fn limits(outer_mtu: u16, fragment_mtu: u16, df: DfPolicy, outer: &str) -> Limits {
        let gcm = Transform::new(Cipher::AesGcm128Icv16, None).unwrap();
        Limits::new(
            gcm,
            Encapsulation::Udp,
            outer.parse().unwrap(),
            outer_mtu,
            fragment_mtu,
            df,
        )
    }

    #[test]
    fn what_fits() {
        let limits = limits(1500, 1400, DfPolicy::Copy, "192.0.2.1:4500");
        assert_eq!(limits.fits(), 1438);
        let (_, free) = inner(0, false, false);
        let (_, fixed) = inner(0, false, true);
        let (_, v6) = inner(0, true, true);
        assert_eq!(limits.fit(&free, 1400), Fit::Whole);
        assert_eq!(limits.fit(&free, 1401), Fit::Fragment(1400));
        assert_eq!(limits.fit(&fixed, 1438), Fit::Whole, "DF: as long as it fits");
        assert_eq!(limits.fit(&fixed, 1439), Fit::TooBig(1438));
        assert_eq!(limits.fit(&v6, 1439), Fit::TooBig(1438));
        assert_eq!(free.next_header(), IPV4);
    }

    #[test]
    fn without_pre_fragmentation_the_outer_packet_is_cut_unless_df_says_otherwise() {
        let (_, free) = inner(0, false, false);
        let (_, fixed) = inner(0, false, true);
        for (df, outer, of_free, of_fixed) in [
            (DfPolicy::Copy, "192.0.2.1:4500", Fit::Whole, Fit::TooBig(1438)),
            (DfPolicy::Clear, "192.0.2.1:4500", Fit::Whole, Fit::Whole),
            (
                DfPolicy::Set,
                "192.0.2.1:4500",
                Fit::TooBig(1438),
                Fit::TooBig(1438),
            ),
            (
                DfPolicy::Copy,
                "[2001:db8::1]:4500",
                Fit::Whole,
                Fit::TooBig(1418),
            ),
        ] {
            let limits = limits(1500, 0, df, outer);
            assert_eq!(
                (limits.fit(&free, 1500), limits.fit(&fixed, 1500)),
                (of_free, of_fixed),
                "{df:?} {outer}"
            );
        }
    }

    #[test]
    fn the_template_bounds_packets_that_must_not_be_cut() {
        let (_, fixed) = inner(0, false, true);
        let (_, v6) = inner(0, true, true);
        let limits = limits(1500, 1400, DfPolicy::Copy, "192.0.2.1:4500");
        assert_eq!(limits.within(0), limits);
        let limits = limits.within(1300);
        for packet in [fixed, v6] {
            assert_eq!(limits.fit(&packet, 1300), Fit::Whole);
            assert_eq!(limits.fit(&packet, 1301), Fit::TooBig(1300));
        }
        let (_, free) = inner(0, false, false);
        assert_eq!(limits.fit(&free, 1301), Fit::Fragment(1300));
        assert_eq!(limits.within(1400), limits, "never wider");
    }

    #[test]
    fn a_narrow_link_is_found_step_by_step() {
        let (_, fixed) = inner(0, false, true);
        let mut limits = limits(1500, 0, DfPolicy::Copy, "192.0.2.1:4500");
        let mut found = Vec::new();
        // The link takes 1300.
        while limits.transform.sealed_len(limits.fits()) + usize::from(limits.headers) > 1300 {
            let sealed = limits.transform.sealed_len(limits.fits());
            limits = limits.on_path(limits.narrower(sealed).unwrap());
            found.push(limits.fits());
        }
        assert_eq!(found, [1430, 1338, 1218]);
        assert_eq!(limits.fit(&fixed, 1219), Fit::TooBig(1218));
        assert_eq!(limits.narrower(100), None);
        assert_eq!(limits.on_path(9000), limits, "never wider");
        assert_eq!(limits.on_path(0).fits, 0);
    }

    #[test]
    fn ipv6_of_1280_always_passes() {
        let (_, v6) = inner(0, true, true);
        let narrow = limits(1300, 0, DfPolicy::Copy, "192.0.2.1:4500");
        assert!(narrow.fits() < 1280);
        assert_eq!(narrow.fit(&v6, 1280), Fit::Whole);
        assert_eq!(narrow.fit(&v6, 1281), Fit::TooBig(1280));
        assert!(!narrow.dont_fragment(&v6, 1280) && narrow.dont_fragment(&v6, narrow.fits()));
    }
}
