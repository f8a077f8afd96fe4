//! The table of attributes: each declared once, with its name, number, vendor and kind of value.

use std::fmt;

/// Who defined an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Vendor {
    /// IETF: plain attributes.
    Standard,
    /// Microsoft (RFC 2548).
    Microsoft,
    /// Starent: type and length of two octets each.
    Starent,
    /// 3GPP (TS 29.061).
    ThreeGpp,
    /// 3GPP2 (X.S0011).
    ThreeGpp2,
}

impl Vendor {
    /// Vendors with attributes in the table.
    pub const SPECIFIC: &'static [Self] = &[Self::Microsoft, Self::Starent, Self::ThreeGpp, Self::ThreeGpp2];

    /// Enterprise number; 0 for plain attributes.
    pub const fn number(self) -> u32 {
        match self {
            Self::Standard => 0,
            Self::Microsoft => 311,
            Self::Starent => 8164,
            Self::ThreeGpp => 10415,
            Self::ThreeGpp2 => 5535,
        }
    }

    /// The vendor with this enterprise number, if it is in the table.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::SPECIFIC
            .iter()
            .copied()
            .find(|vendor| vendor.number() == number)
    }

    /// Octets of the type and of the length field of a sub-attribute (RFC 2865 section 5.26 recommends 1 and 1).
    pub(crate) const fn field_width(self) -> usize {
        match self {
            Self::Starent => 2,
            _ => 1,
        }
    }
}

/// The form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// Octets without further structure.
    Octets,
    /// Unsigned 32-bit number, or seconds since the Unix epoch.
    Integer,
    /// IPv4 address.
    Ipv4,
    /// IPv6 address.
    Ipv6,
    /// Reserved octet, prefix length, prefix (RFC 3162 section 2.3).
    Ipv6Prefix,
    /// Eight octets (RFC 3162 section 2.2).
    InterfaceId,
    /// Hidden with the request authenticator (RFC 2865 section 5.2).
    Password,
    /// Salted and hidden with the request authenticator (RFC 2548 section 2.4.2).
    Salted,
    /// Sixteen octets of keyed digest.
    Authenticator,
}

macro_rules! attributes {
    ($($vendor:ident { $($name:ident = $number:literal, $text:literal, $kind:ident;)* })*) => {
        /// An attribute of the table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Attribute { $($(#[doc = $text] $name,)*)* }

        impl Attribute {
            /// Every attribute of the table.
            pub const ALL: &'static [Self] = &[$($(Self::$name,)*)*];

            /// Who defined it.
            pub const fn vendor(self) -> Vendor {
                match self { $($(Self::$name => Vendor::$vendor,)*)* }
            }

            /// Its number among the attributes of its vendor.
            pub const fn number(self) -> u16 {
                match self { $($(Self::$name => $number,)*)* }
            }

            /// Its name in the usual dictionaries.
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$name => $text,)*)* }
            }

            /// The form of its value.
            pub const fn kind(self) -> Kind {
                match self { $($(Self::$name => Kind::$kind,)*)* }
            }

            /// The attribute with this number, if it is in the table.
            pub const fn find(vendor: Vendor, number: u16) -> Option<Self> {
                match (vendor, number) {
                    $($((Vendor::$vendor, $number) => Some(Self::$name),)*)*
                    _ => None,
                }
            }
        }
    };
}

attributes! {
    Standard {
        UserName = 1, "User-Name", Text;
        UserPassword = 2, "User-Password", Password;
        NasIpAddress = 4, "NAS-IP-Address", Ipv4;
        NasPort = 5, "NAS-Port", Integer;
        ServiceType = 6, "Service-Type", Integer;
        FramedProtocol = 7, "Framed-Protocol", Integer;
        FramedIpAddress = 8, "Framed-IP-Address", Ipv4;
        FramedIpNetmask = 9, "Framed-IP-Netmask", Ipv4;
        FilterId = 11, "Filter-Id", Text;
        FramedMtu = 12, "Framed-MTU", Integer;
        ReplyMessage = 18, "Reply-Message", Text;
        State = 24, "State", Octets;
        Class = 25, "Class", Octets;
        SessionTimeout = 27, "Session-Timeout", Integer;
        IdleTimeout = 28, "Idle-Timeout", Integer;
        TerminationAction = 29, "Termination-Action", Integer;
        CalledStationId = 30, "Called-Station-Id", Text;
        CallingStationId = 31, "Calling-Station-Id", Text;
        NasIdentifier = 32, "NAS-Identifier", Text;
        ProxyState = 33, "Proxy-State", Octets;
        AcctStatusType = 40, "Acct-Status-Type", Integer;
        AcctDelayTime = 41, "Acct-Delay-Time", Integer;
        AcctInputOctets = 42, "Acct-Input-Octets", Integer;
        AcctOutputOctets = 43, "Acct-Output-Octets", Integer;
        AcctSessionId = 44, "Acct-Session-Id", Text;
        AcctAuthentic = 45, "Acct-Authentic", Integer;
        AcctSessionTime = 46, "Acct-Session-Time", Integer;
        AcctInputPackets = 47, "Acct-Input-Packets", Integer;
        AcctOutputPackets = 48, "Acct-Output-Packets", Integer;
        AcctTerminateCause = 49, "Acct-Terminate-Cause", Integer;
        AcctMultiSessionId = 50, "Acct-Multi-Session-Id", Text;
        AcctInputGigawords = 52, "Acct-Input-Gigawords", Integer;
        AcctOutputGigawords = 53, "Acct-Output-Gigawords", Integer;
        EventTimestamp = 55, "Event-Timestamp", Integer;
        NasPortType = 61, "NAS-Port-Type", Integer;
        ConnectInfo = 77, "Connect-Info", Text;
        EapMessage = 79, "EAP-Message", Octets;
        MessageAuthenticator = 80, "Message-Authenticator", Authenticator;
        AcctInterimInterval = 85, "Acct-Interim-Interval", Integer;
        NasPortId = 87, "NAS-Port-Id", Text;
        FramedPool = 88, "Framed-Pool", Text;
        ChargeableUserIdentity = 89, "Chargeable-User-Identity", Octets;
        NasIpv6Address = 95, "NAS-IPv6-Address", Ipv6;
        FramedInterfaceId = 96, "Framed-Interface-Id", InterfaceId;
        FramedIpv6Prefix = 97, "Framed-IPv6-Prefix", Ipv6Prefix;
        FramedIpv6Pool = 100, "Framed-IPv6-Pool", Text;
        ErrorCause = 101, "Error-Cause", Integer;
        EapKeyName = 102, "EAP-Key-Name", Octets;
        DelegatedIpv6Prefix = 123, "Delegated-IPv6-Prefix", Ipv6Prefix;
        FramedIpv6Address = 168, "Framed-IPv6-Address", Ipv6;
        DnsServerIpv6Address = 169, "DNS-Server-IPv6-Address", Ipv6;
    }
    Microsoft {
        MsMppeSendKey = 16, "MS-MPPE-Send-Key", Salted;
        MsMppeRecvKey = 17, "MS-MPPE-Recv-Key", Salted;
        MsChap2Success = 26, "MS-CHAP2-Success", Octets;
        MsPrimaryDnsServer = 28, "MS-Primary-DNS-Server", Ipv4;
        MsSecondaryDnsServer = 29, "MS-Secondary-DNS-Server", Ipv4;
    }
    Starent {
        SnVpnId = 1, "SN-VPN-ID", Integer;
        SnVpnName = 2, "SN-VPN-Name", Text;
        SnDisconnectReason = 3, "SN-Disconnect-Reason", Integer;
        SnPrimaryDnsServer = 5, "SN-Primary-DNS-Server", Ipv4;
        SnSecondaryDnsServer = 6, "SN-Secondary-DNS-Server", Ipv4;
        SnIpPoolName = 8, "SN-IP-Pool-Name", Text;
        SnIpInAcl = 17, "SN-IP-In-ACL", Text;
        SnIpOutAcl = 18, "SN-IP-Out-ACL", Text;
        SnServiceType = 24, "SN-Service-Type", Integer;
        SnIpAllocMethod = 53, "SN-IP-Alloc-Method", Integer;
        SnIpv6PrimaryDns = 101, "SN-IPv6-Primary-DNS", Ipv6;
        SnIpv6SecondaryDns = 102, "SN-IPv6-Secondary-DNS", Ipv6;
        SnSubscriberTemplateName = 158, "SN-Subscriber-Template-Name", Text;
        SnServiceAddress = 169, "SN-Service-Address", Ipv4;
        SnCallId = 251, "SN-Call-Id", Integer;
        SnImsi = 252, "SN-IMSI", Octets;
        SnSoftwareVersion = 288, "SN-Software-Version", Text;
        SnUserPrivilege = 313, "SN-User-Privilege", Integer;
        SnIpv6AllocMethod = 314, "SN-IPv6-Alloc-Method", Integer;
    }
    ThreeGpp {
        ThreeGppImsi = 1, "3GPP-IMSI", Text;
        ThreeGppChargingId = 2, "3GPP-Charging-ID", Integer;
        ThreeGppPdpType = 3, "3GPP-PDP-Type", Integer;
        ThreeGppImsiMccMnc = 8, "3GPP-IMSI-MCC-MNC", Text;
        ThreeGppChargingCharacteristics = 13, "3GPP-Charging-Characteristics", Text;
        ThreeGppIpv6DnsServers = 17, "3GPP-IPv6-DNS-Servers", Octets;
        ThreeGppImeisv = 20, "3GPP-IMEISV", Text;
        ThreeGppRatType = 21, "3GPP-RAT-Type", Octets;
    }
    ThreeGpp2 {
        ThreeGpp2CorrelationId = 44, "3GPP2-Correlation-Id", Text;
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Kind {
    /// Whether these octets can be a value of this kind.
    pub fn accepts(self, value: &[u8]) -> bool {
        match self {
            Self::Text | Self::Octets => true,
            Self::Integer | Self::Ipv4 => value.len() == 4,
            Self::Ipv6 | Self::Authenticator => value.len() == 16,
            Self::InterfaceId => value.len() == 8,
            Self::Ipv6Prefix => match value {
                [_, length, prefix @ ..] => {
                    *length <= 128 && prefix.len() <= 16 && prefix.len() * 8 >= usize::from(*length)
                }
                _ => false,
            },
            Self::Password => (16..=128).contains(&value.len()) && value.len().is_multiple_of(16),
            Self::Salted => value.len() >= 18 && (value.len() - 2).is_multiple_of(16),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_consistent() {
        for attribute in Attribute::ALL.iter().copied() {
            assert_eq!(
                Attribute::find(attribute.vendor(), attribute.number()),
                Some(attribute)
            );
            let wide = attribute.vendor().field_width() == 2;
            assert!(
                wide || attribute.number() <= 255,
                "{attribute} does not fit its vendor's format"
            );
        }
        let mut names: Vec<_> = Attribute::ALL.iter().map(|attribute| attribute.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Attribute::ALL.len());
    }

    #[test]
    fn prefix_must_cover_its_length() {
        assert!(Kind::Ipv6Prefix.accepts(&[0, 64, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0]));
        assert!(!Kind::Ipv6Prefix.accepts(&[0, 64, 0x20, 1]));
        assert!(!Kind::Ipv6Prefix.accepts(&[0, 129, 0x20, 1]));
        assert!(!Kind::Ipv6Prefix.accepts(&[0]));
    }
}
