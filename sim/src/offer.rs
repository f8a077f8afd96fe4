//! The algorithms that simulated eNodeBs offer.

use crypto::{Cipher, DhGroup, Integrity, Prf};
use ikev2::{EspProposal, IkeProposal};

/// What is offered to the gateway.
#[derive(Debug, Clone, clap::Args)]
pub struct Offer {
    /// Diffie-Hellman group: 2, 5, 14, 15, 16, 19, 20, 21 or 31
    #[arg(long, default_value = "31", value_parser = group)]
    pub group: DhGroup,
    /// Algorithms of the IKE SA, most preferred first
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Suite::Aes128gcm16, Suite::Aes128Sha256])]
    pub ike: Vec<Suite>,
    /// Algorithms of the child SA, most preferred first
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Suite::Aes128gcm16])]
    pub esp: Vec<Suite>,
}

/// Encryption and integrity, in strongSwan's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Suite {
    /// AES-GCM with a key of 128 bits
    Aes128gcm16,
    /// AES-GCM with a key of 256 bits
    Aes256gcm16,
    /// AES-CBC with a key of 128 bits, HMAC-SHA2-256
    Aes128Sha256,
    /// AES-CBC with a key of 256 bits, HMAC-SHA2-256
    Aes256Sha256,
}

impl Offer {
    /// One IKE proposal for each suite.
    pub(crate) fn ike(&self) -> Vec<IkeProposal> {
        let proposal = |suite: &Suite| IkeProposal {
            ciphers: vec![suite.cipher()],
            integrities: suite.integrity(),
            prfs: vec![Prf::HmacSha2_256],
            groups: vec![self.group],
        };
        self.ike.iter().map(proposal).collect()
    }

    /// One ESP proposal for each suite.
    pub(crate) fn esp(&self) -> Vec<EspProposal> {
        let proposal = |suite: &Suite| EspProposal {
            ciphers: vec![suite.cipher()],
            integrities: suite.integrity(),
            groups: vec![],
            esn: vec![false],
        };
        self.esp.iter().map(proposal).collect()
    }
}

impl Suite {
    fn cipher(self) -> Cipher {
        match self {
            Suite::Aes128gcm16 => Cipher::AesGcm128Icv16,
            Suite::Aes256gcm16 => Cipher::AesGcm256Icv16,
            Suite::Aes128Sha256 => Cipher::AesCbc128,
            Suite::Aes256Sha256 => Cipher::AesCbc256,
        }
    }

    fn integrity(self) -> Vec<Integrity> {
        match self {
            Suite::Aes128gcm16 | Suite::Aes256gcm16 => vec![],
            Suite::Aes128Sha256 | Suite::Aes256Sha256 => vec![Integrity::HmacSha2_256_128],
        }
    }
}

fn group(number: &str) -> Result<DhGroup, String> {
    let known = number.parse().ok().and_then(DhGroup::from_transform_id);
    known.ok_or_else(|| "not a supported group".to_owned())
}
