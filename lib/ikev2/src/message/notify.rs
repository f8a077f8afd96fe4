//! Notify message types (RFC 7296 3.10.1 and IANA "IKEv2 Notify Message Types").

use std::fmt;

/// A notify message type. Below 16384 it is an error.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NotifyKind(pub u16);

/// Declares the known types once, for constants and names.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl NotifyKind {
            $($(#[$doc])* pub const $name: NotifyKind = NotifyKind($value);)*

            /// Its name in the standards, if it has one here.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// A critical payload is not understood; the data is its type.
    UNSUPPORTED_CRITICAL_PAYLOAD = 1;
    /// A message for an IKE SA that does not exist.
    INVALID_IKE_SPI = 4;
    /// The major version is not supported.
    INVALID_MAJOR_VERSION = 5;
    /// The message is malformed.
    INVALID_SYNTAX = 7;
    /// A Message ID outside the window; the data is the ID.
    INVALID_MESSAGE_ID = 9;
    /// An ESP packet with an unknown SPI.
    INVALID_SPI = 11;
    /// None of the proposals is acceptable.
    NO_PROPOSAL_CHOSEN = 14;
    /// Another group is wanted; the data is its number.
    INVALID_KE_PAYLOAD = 17;
    /// The peer did not prove who it is.
    AUTHENTICATION_FAILED = 24;
    /// A single pair of addresses is wanted.
    SINGLE_PAIR_REQUIRED = 34;
    /// No more child SAs on this IKE SA.
    NO_ADDITIONAL_SAS = 35;
    /// No address can be assigned.
    INTERNAL_ADDRESS_FAILURE = 36;
    /// A configuration request is required.
    FAILED_CP_REQUIRED = 37;
    /// None of the traffic selectors is acceptable.
    TS_UNACCEPTABLE = 38;
    /// A packet that does not fit the selectors of its SA.
    INVALID_SELECTORS = 39;
    /// RFC 4555.
    UNACCEPTABLE_ADDRESSES = 40;
    /// RFC 4555.
    UNEXPECTED_NAT_DETECTED = 41;
    /// Cannot be done now, try again later.
    TEMPORARY_FAILURE = 43;
    /// The child SA to be rekeyed does not exist.
    CHILD_SA_NOT_FOUND = 44;
    /// No more child SAs with these traffic selectors (RFC 9611 5.2).
    TS_MAX_QUEUE = 48;
    /// The only IKE SA between these identities.
    INITIAL_CONTACT = 16384;
    /// A window larger than 1 is possible.
    SET_WINDOW_SIZE = 16385;
    /// Other selectors would be acceptable too.
    ADDITIONAL_TS_POSSIBLE = 16386;
    /// IP compression.
    IPCOMP_SUPPORTED = 16387;
    /// Hash of the sender's address and port.
    NAT_DETECTION_SOURCE_IP = 16388;
    /// Hash of the receiver's address and port.
    NAT_DETECTION_DESTINATION_IP = 16389;
    /// A cookie to be returned.
    COOKIE = 16390;
    /// Transport mode is wanted.
    USE_TRANSPORT_MODE = 16391;
    /// Hash-and-URL certificates can be looked up.
    HTTP_CERT_LOOKUP_SUPPORTED = 16392;
    /// The child SA to be rekeyed.
    REKEY_SA = 16393;
    /// No traffic flow confidentiality padding.
    ESP_TFC_PADDING_NOT_SUPPORTED = 16394;
    /// Non-first fragments go through this SA too.
    NON_FIRST_FRAGMENTS_ALSO = 16395;
    /// RFC 4555.
    MOBIKE_SUPPORTED = 16396;
    /// RFC 4555.
    ADDITIONAL_IP4_ADDRESS = 16397;
    /// RFC 4555.
    ADDITIONAL_IP6_ADDRESS = 16398;
    /// RFC 4555.
    NO_ADDITIONAL_ADDRESSES = 16399;
    /// RFC 4555.
    UPDATE_SA_ADDRESSES = 16400;
    /// RFC 4555.
    COOKIE2 = 16401;
    /// RFC 4555.
    NO_NATS_ALLOWED = 16402;
    /// RFC 4739.
    MULTIPLE_AUTH_SUPPORTED = 16404;
    /// RFC 4739.
    ANOTHER_AUTH_FOLLOWS = 16405;
    /// RFC 5685: the sender can be redirected.
    REDIRECT_SUPPORTED = 16406;
    /// RFC 5685: go to this gateway.
    REDIRECT = 16407;
    /// RFC 5685: the gateway that the sender was sent here by.
    REDIRECTED_FROM = 16408;
    /// RFC 5998.
    EAP_ONLY_AUTHENTICATION = 16417;
    /// RFC 6023.
    CHILDLESS_IKEV2_SUPPORTED = 16418;
    /// RFC 7383.
    IKEV2_FRAGMENTATION_SUPPORTED = 16430;
    /// RFC 7427.
    SIGNATURE_HASH_ALGORITHMS = 16431;
    /// One of several child SAs with the same traffic selectors, each for a resource of its sender, such as a processor (RFC 9611 5.1).
    /// The data is for people.
    SA_RESOURCE_INFO = 16444;
}

impl NotifyKind {
    /// True for errors, false for status types.
    pub fn is_error(self) -> bool {
        self.0 < 16384
    }
}

impl fmt::Display for NotifyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "notify {}", self.0),
        }
    }
}

impl fmt::Debug for NotifyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
