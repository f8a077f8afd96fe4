//! Why a session ended, by the numbers and words of `show session disconnect-reasons`.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Why a session ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum DisconnectReason { $($(#[$doc])* $name = $number,)* }

        impl DisconnectReason {
            /// Every reason that occurs here, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The words for it.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// An operator, or the node is stopping.
    Admin = 1, "Admin-disconnect";
    /// The peer deleted it.
    Remote = 2, "Remote-disconnect";
    /// This node, for a reason without a number of its own.
    Local = 3, "Local-disconnect";
    /// No address, or another limit.
    NoResource = 4, "No-resource";
    /// Silence for too long.
    IdleTimeout = 24, "Idle-Inactivity-timeout";
    /// The longest session time is over.
    AbsoluteTimeout = 25, "Absolute-timeout";
    /// The set-up was not finished in time.
    SetupTimeout = 34, "Session-setup-timeout";
    /// Something failed within the node.
    Internal = 49, "internal-error";
    /// The `ipsecmgr` of the session died.
    IpsecmgrDeath = 287, "ikev2-subscriber-ipsecmgr-death";
    /// A rekeying failed.
    Rekeying = 320, "SA-Rekeying-Failure";
    /// The peer's proposals or selectors are not ours.
    PolicyMismatch = 325, "auth_policy_mismatch";
    /// The SA's lifetime is over.
    Lifetime = 326, "ike/ipsec-sa-lifetime-expired";
    /// The peer does not answer liveness checks.
    Liveness = 341, "ike-keep-alive-failed";
    /// The same peer has a newer session.
    Duplicate = 344, "duplicate-session-detected";
    /// The peer does not answer.
    NoResponse = 363, "No-response";
    /// The peer failed to authenticate itself to a wsg-service.
    WsgAuthFailed = 511, "WSG-Auth-failed";
}

impl DisconnectReason {
    /// Its number.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The reason with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.number() == number)
    }

    /// The reason with these words.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.text() == text)
    }
}

impl std::fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_find_their_reason() {
        for &reason in DisconnectReason::ALL {
            assert_eq!(DisconnectReason::from_number(reason.number()), Some(reason));
            assert_eq!(DisconnectReason::from_text(reason.text()), Some(reason));
        }
        assert_eq!(DisconnectReason::from_number(0), None);
    }
}
