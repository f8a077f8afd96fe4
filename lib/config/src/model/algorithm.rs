//! Algorithms and transform sets.

command::keywords! {
    /// A cipher of an IKE SA or a child SA. The last number of a GCM cipher is the length of its integrity check value in bits.
    pub enum Encryption {
        AesCbc128 = "aes-cbc-128", "AES in CBC mode, 128 bits";
        AesCbc256 = "aes-cbc-256", "AES in CBC mode, 256 bits";
        Aes128Gcm64 = "aes-128-gcm-64", "AES-GCM, 128 bits, check value of 64 bits";
        Aes128Gcm96 = "aes-128-gcm-96", "AES-GCM, 128 bits, check value of 96 bits";
        Aes128Gcm128 = "aes-128-gcm-128", "AES-GCM, 128 bits, check value of 128 bits";
        Aes256Gcm64 = "aes-256-gcm-64", "AES-GCM, 256 bits, check value of 64 bits";
        Aes256Gcm96 = "aes-256-gcm-96", "AES-GCM, 256 bits, check value of 96 bits";
        Aes256Gcm128 = "aes-256-gcm-128", "AES-GCM, 256 bits, check value of 128 bits";
        Null = "null", "No encryption, integrity only";
    }
}

command::keywords! {
    /// An integrity algorithm.
    pub enum Hmac {
        Sha1 = "sha1-96", "HMAC-SHA1 cut to 96 bits";
        Sha2_256 = "sha2-256-128", "HMAC-SHA2-256 cut to 128 bits";
        Sha2_384 = "sha2-384-192", "HMAC-SHA2-384 cut to 192 bits";
        Sha2_512 = "sha2-512-256", "HMAC-SHA2-512 cut to 256 bits";
        None = "none", "None: the cipher has its own integrity check";
    }
}

command::keywords! {
    /// A pseudo-random function.
    pub enum Prf {
        Sha1 = "sha1", "HMAC-SHA1";
        Sha2_256 = "sha2-256", "HMAC-SHA2-256";
        Sha2_384 = "sha2-384", "HMAC-SHA2-384";
        Sha2_512 = "sha2-512", "HMAC-SHA2-512";
    }
}

command::keywords! {
    /// A Diffie-Hellman group.
    pub enum Group {
        Group2 = "2", "1024-bit MODP (weak)";
        Group5 = "5", "1536-bit MODP (weak)";
        Group14 = "14", "2048-bit MODP";
        Group15 = "15", "3072-bit MODP";
        Group16 = "16", "4096-bit MODP";
        Group19 = "19", "256-bit elliptic curve";
        Group20 = "20", "384-bit elliptic curve";
        Group21 = "21", "521-bit elliptic curve";
        Group31 = "31", "Curve25519";
    }
}

impl Encryption {
    /// A cipher with its own integrity check: needs `hmac none`.
    pub fn is_aead(self) -> bool {
        !matches!(self, Self::AesCbc128 | Self::AesCbc256 | Self::Null)
    }

    /// Key length in bits; 0 for `null`.
    pub fn key_bits(self) -> u16 {
        match self {
            Self::AesCbc128 | Self::Aes128Gcm64 | Self::Aes128Gcm96 | Self::Aes128Gcm128 => 128,
            Self::AesCbc256 | Self::Aes256Gcm64 | Self::Aes256Gcm96 | Self::Aes256Gcm128 => 256,
            Self::Null => 0,
        }
    }

    /// Length of the integrity check value in octets; 0 for a cipher that has none.
    pub fn icv_octets(self) -> u8 {
        match self {
            Self::Aes128Gcm64 | Self::Aes256Gcm64 => 8,
            Self::Aes128Gcm96 | Self::Aes256Gcm96 => 12,
            Self::Aes128Gcm128 | Self::Aes256Gcm128 => 16,
            Self::AesCbc128 | Self::AesCbc256 | Self::Null => 0,
        }
    }
}

impl Group {
    /// Transform number (IANA, Transform Type 4).
    pub fn number(self) -> u16 {
        match self {
            Self::Group2 => 2,
            Self::Group5 => 5,
            Self::Group14 => 14,
            Self::Group15 => 15,
            Self::Group16 => 16,
            Self::Group19 => 19,
            Self::Group20 => 20,
            Self::Group21 => 21,
            Self::Group31 => 31,
        }
    }

    /// Too short for new installations; existing configurations still load, with a warning.
    pub fn is_weak(self) -> bool {
        matches!(self, Self::Group2 | Self::Group5)
    }
}

/// Lifetime of an SA when nothing is configured, in seconds.
pub const DEFAULT_LIFETIME: u32 = 86_400;

/// `ikev2-ikesa transform-set NAME`: one proposal for IKE SAs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IkeTransformSet {
    /// `encryption`, default AES-CBC-128. `null` cannot be chosen.
    pub encryption: Encryption,
    /// `hmac`, default SHA1-96; `none` with a GCM cipher.
    pub hmac: Hmac,
    /// `prf`, default SHA1.
    pub prf: Prf,
    /// `group`, default 2.
    pub group: Group,
    /// `lifetime` in seconds, 60 to 86400.
    pub lifetime: u32,
}

/// `ipsec transform-set NAME`: one proposal for child SAs. Tunnel mode always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpsecTransformSet {
    /// `encryption`, default AES-CBC-128.
    pub encryption: Encryption,
    /// `hmac`, default SHA1-96; `none` with a GCM cipher.
    pub hmac: Hmac,
    /// `group`: perfect forward secrecy when rekeying; `None` is `group none`, the default.
    pub group: Option<Group>,
    /// `esn`: extended sequence numbers are offered and accepted besides normal ones. Default off.
    pub esn: bool,
}

impl Default for IkeTransformSet {
    fn default() -> Self {
        Self {
            encryption: Encryption::AesCbc128,
            hmac: Hmac::Sha1,
            prf: Prf::Sha1,
            group: Group::Group2,
            lifetime: DEFAULT_LIFETIME,
        }
    }
}

impl Default for IpsecTransformSet {
    fn default() -> Self {
        Self {
            encryption: Encryption::AesCbc128,
            hmac: Hmac::Sha1,
            group: None,
            esn: false,
        }
    }
}
