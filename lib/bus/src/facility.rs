//! The facilities of the node: one row per kind of process, in the words `show task table` uses.

use std::fmt;
use std::str::FromStr;

macro_rules! facilities {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// A kind of process. The number travels in bus frames and as `starTaskFacility`; it never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Facility { $($(#[$doc])* $name = $number,)* }

        impl Facility {
            /// Every facility, in number order.
            pub const ALL: &'static [Facility] = &[$(Facility::$name,)*];

            /// The name in `show task table`, in socket names and on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Facility::$name => $text,)* }
            }

            /// The facility with this number, if there is one.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Facility::$name),)* _ => None }
            }
        }
    };
}

facilities! {
    /// System initiation: owns every descriptor, starts and watches the others.
    Sit = 1, "sit";
    /// Shared configuration task.
    Sct = 2, "sct";
    /// Resource manager: slots to workers.
    Rmctrl = 3, "rmctrl";
    /// Network of one context.
    Vpnmgr = 4, "vpnmgr";
    /// IKE for the slots of one worker.
    Ipsecmgr = 5, "ipsecmgr";
    /// Data plane of one worker.
    Iftask = 6, "iftask";
    /// Sessions of one worker.
    Sessmgr = 7, "sessmgr";
    /// Authentication and accounting.
    Aaamgr = 8, "aaamgr";
    /// Private keys and certificates.
    Certmgr = 9, "certmgr";
    /// Bulk statistics.
    Bulkstat = 10, "bulkstat";
    /// SNMP agent.
    Snmp = 11, "snmp";
    /// A shell.
    Cli = 12, "cli";
}

impl fmt::Display for Facility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Facility {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|facility| facility.name() == text)
            .ok_or_else(|| format!("no facility is called '{text}'"))
    }
}

/// One process on the bus: a facility and its instance number, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// What kind of process.
    pub facility: Facility,
    /// Which of them; a shell uses its process id.
    pub instance: u32,
}

impl Address {
    /// The address of `facility` number `instance`.
    pub const fn new(facility: Facility, instance: u32) -> Self {
        Self { facility, instance }
    }

    /// The address of a facility that exists once.
    pub const fn only(facility: Facility) -> Self {
        Self::new(facility, 1)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.facility, self.instance)
    }
}
