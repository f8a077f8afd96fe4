//! `starward sim pki`: an authority for measurements, with a gateway and any number of peers.

use std::path::{Path, PathBuf};

use clap::value_parser;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name};
use serde_json::json;

use crate::progress::{print, tell};

/// Certificates of a measurement are good for so many days.
const DAYS: u32 = 365;
/// A clock that is late by less than this finds them valid.
const EARLIER: i64 = 3600;

/// An authority, a certificate for a gateway and certificates for its peers: PEM files in one folder.
#[derive(Debug, clap::Args)]
pub struct Pki {
    /// Folder to be filled: root.pem, gateway.pem and .key, peers/*.pem with *.key
    #[arg(long, value_name = "DIR")]
    pub folder: PathBuf,
    /// Kind of every key
    #[arg(long, value_enum, default_value_t = KeyKind::EcdsaP256)]
    pub key: KeyKind,
    /// Number of peers
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=100_000))]
    pub peers: u32,
    /// Make one key for all peers (for --key of the other commands): thousands of RSA keys take long
    #[arg(long)]
    pub shared_key: bool,
    /// Host name of the gateway
    #[arg(long, default_value = "secgw.example")]
    pub gateway: String,
}

/// What keys are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum KeyKind {
    /// RSA with 2048 bits
    #[value(name = "rsa-2048")]
    Rsa2048,
    /// ECDSA on P-256
    #[value(name = "ecdsa-p256")]
    EcdsaP256,
}

/// A name and its key.
struct Party {
    name: String,
    key: PKey<Private>,
}

impl Pki {
    /// Fills the folder.
    pub(crate) fn run(self) -> Result<bool, String> {
        let wrong = |error: ErrorStack| format!("certificate: {error}");
        let peers = self.folder.join("peers");
        std::fs::create_dir_all(&peers).map_err(|error| format!("{}: {error}", peers.display()))?;
        let root = Party::new("Starward measurement root", self.key).map_err(wrong)?;
        let certificate = root.certificate(&root, 1, true).map_err(wrong)?;
        write(
            &self.folder.join("root.pem"),
            &certificate.to_pem().map_err(wrong)?,
        )?;
        let gateway = Party::new(&self.gateway, self.key).map_err(wrong)?;
        gateway.write(&root, 2, &self.folder.join("gateway"), true)?;
        let mut peer = Party::new("", self.key).map_err(wrong)?;
        if self.shared_key {
            write_key(&self.folder.join("peer.key"), &peer.key)?;
        }
        for number in 0..self.peers {
            if !self.shared_key {
                peer = Party::new("", self.key).map_err(wrong)?;
            }
            peer.name = format!("peer{number}.sim.test");
            let file = peers.join(format!("peer{number:06}"));
            peer.write(&root, number + 3, &file, !self.shared_key)?;
        }
        tell(&format!("{} certificates in {}", self.peers, peers.display()));
        print(&json!({ "folder": self.folder.display().to_string(), "peers": self.peers }));
        Ok(true)
    }
}

impl Party {
    fn new(name: &str, kind: KeyKind) -> Result<Self, ErrorStack> {
        let key = match kind {
            KeyKind::Rsa2048 => PKey::from_rsa(Rsa::generate(2048)?)?,
            KeyKind::EcdsaP256 => {
                let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
                PKey::from_ec_key(EcKey::generate(&group)?)?
            }
        };
        Ok(Self {
            name: name.to_owned(),
            key,
        })
    }

    /// Writes its certificate, and its key if wanted: `file` with .pem and .key.
    fn write(&self, issuer: &Self, serial: u32, file: &Path, with_key: bool) -> Result<(), String> {
        let pem = self
            .certificate(issuer, serial, false)
            .and_then(|certificate| certificate.to_pem())
            .map_err(|error| format!("certificate: {error}"))?;
        write(&file.with_extension("pem"), &pem)?;
        if with_key {
            write_key(&file.with_extension("key"), &self.key)?;
        }
        Ok(())
    }

    /// Its certificate by `issuer`.
    fn certificate(&self, issuer: &Self, serial: u32, is_authority: bool) -> Result<X509, ErrorStack> {
        let mut builder = X509Builder::new()?;
        builder.set_version(2)?;
        let serial = BigNum::from_u32(serial)?.to_asn1_integer()?;
        builder.set_serial_number(&serial)?;
        let (subject, by) = (name(&self.name)?, name(&issuer.name)?);
        builder.set_subject_name(&subject)?;
        builder.set_issuer_name(&by)?;
        builder.set_not_before(Asn1Time::from_unix(now() - EARLIER)?.as_ref())?;
        builder.set_not_after(Asn1Time::days_from_now(DAYS)?.as_ref())?;
        builder.set_pubkey(&self.key)?;
        if is_authority {
            builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
            builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
        } else {
            builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
            builder.append_extension(ExtendedKeyUsage::new().server_auth().client_auth().build()?)?;
            let names = SubjectAlternativeName::new()
                .dns(&self.name)
                .build(&builder.x509v3_context(None, None))?;
            builder.append_extension(names)?;
        }
        builder.sign(&issuer.key, MessageDigest::sha256())?;
        Ok(builder.build())
    }
}

fn name(common_name: &str) -> Result<X509Name, ErrorStack> {
    let mut builder = X509Name::builder()?;
    builder.append_entry_by_nid(Nid::ORGANIZATIONNAME, "Starward measurement")?;
    builder.append_entry_by_nid(Nid::COMMONNAME, common_name)?;
    Ok(builder.build())
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs().cast_signed())
}

fn write_key(file: &Path, key: &PKey<Private>) -> Result<(), String> {
    let pem = key
        .private_key_to_pem_pkcs8()
        .map_err(|error| format!("key: {error}"))?;
    write(file, &pem)?;
    let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(file, owner_only).map_err(|error| format!("{}: {error}", file.display()))
}

fn write(file: &Path, contents: &[u8]) -> Result<(), String> {
    std::fs::write(file, contents).map_err(|error| format!("{}: {error}", file.display()))
}
