//! Disconnect reasons: numbers and names as `show session disconnect-reasons` has them, and what they count as.

use telemetry::Counter;
use telemetry::counters::wsg;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $cause:literal, [$($counter:ident),*];)*) => {
        /// Why a session ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
            /// Another one, by its number.
            Other(u32),
        }

        impl Reason {
            /// The reason with this number.
            pub fn from_number(number: u32) -> Self {
                match number {
                    $($number => Self::$name,)*
                    other => Self::Other(other),
                }
            }

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Other(_) => "misc",
                }
            }

            /// Acct-Terminate-Cause (RFC 2866 section 5.10).
            pub fn terminate_cause(self) -> u32 {
                match self {
                    $(Self::$name => $cause,)*
                    Self::Other(_) => NAS_ERROR,
                }
            }

            /// What it counts as, besides the total.
            pub fn counters(self) -> &'static [Counter] {
                match self {
                    $(Self::$name => &[$(wsg::$counter),*],)*
                    Self::Other(_) => &[wsg::DISCONNECTED_LOCALLY, wsg::DISC_MISC],
                }
            }
        }
    };
}

/// NAS Error.
const NAS_ERROR: u32 = 9;

reasons! {
    /// An operator ended it.
    Admin = 1, "Admin-disconnect", 6, [DISCONNECTED_LOCALLY, DISC_ADMIN];
    /// The peer ended it.
    Remote = 2, "Remote-disconnect", 1, [DISCONNECTED_REMOTELY, DISC_REMOTE_IPSEC];
    /// We ended it.
    Local = 3, "Local-disconnect", 10, [DISCONNECTED_LOCALLY, DISC_MISC];
    /// Something ran out.
    NoResource = 4, "No-resource", 15, [DISCONNECTED_LOCALLY, DISC_NO_RESOURCE];
    /// No traffic for too long.
    IdleTimeout = 24, "Idle-Inactivity-timeout", 4, [DISCONNECTED_LOCALLY, DISC_IDLE_TIMEOUT];
    /// The longest time is over.
    AbsoluteTimeout = 25, "Absolute-timeout", 5, [DISCONNECTED_LOCALLY, DISC_ABSOLUTE_TIMEOUT];
    /// It did not come up in time.
    SetupTimeout = 34, "Session-setup-timeout", 9, [DISCONNECTED_LOCALLY, DISC_SETUP_TIMEOUT];
    /// Authentication failed.
    AuthFailed = 194, "Auth-failed", 17, [DISCONNECTED_LOCALLY, DISC_AUTH_FAILURE];
    /// The `ipsecmgr` died with the tunnel.
    IpsecmgrDeath = 287, "ikev2-subscriber-ipsecmgr-death", 9, [DISCONNECTED_LOCALLY, DISC_MISC];
    /// A lifetime ended without rekeying.
    LifetimeExpired = 326, "ike/ipsec-sa-lifetime-expired", 5, [DISCONNECTED_LOCALLY, DISC_MISC];
    /// The peer no longer answers.
    PeerDead = 341, "ike-keep-alive-failed", 2, [DISCONNECTED_LOCALLY, DISC_MISC];
    /// A newer session of the same identity.
    Duplicate = 344, "duplicate-session-detected", 13, [DISCONNECTED_LOCALLY, DISC_DUPLICATE];
    /// Authentication of a WSG peer failed.
    WsgAuthFailed = 511, "WSG-Auth-failed", 17, [DISCONNECTED_LOCALLY, DISC_AUTH_FAILURE];
}
