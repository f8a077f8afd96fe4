//! Key derivation (RFC 7296 2.13-2.18).

use crypto::{Prf, Secret};

use crate::message::Protection;
use crate::negotiate::EspAlgorithms;
use crate::output::ChildKeys;
use crate::record::{Sink, Source, Stored, stored};
use crate::show::IkeAlgorithms;

/// PSK authentication hashes the key with this (RFC 7296 2.15).
const KEY_PAD: &[u8] = b"Key Pad for IKEv2";

/// Nonces and SPIs of an exchange, by role in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchanged<'a> {
    pub initiator_nonce: &'a [u8],
    pub responder_nonce: &'a [u8],
    pub initiator_spi: u64,
    pub responder_spi: u64,
}

/// Keys of an IKE SA for as long as it lives: SK_d, SK_ai, SK_ar, SK_ei, SK_er, in one allocation. They are prepared anew for
/// each message: that costs less than a microsecond, and prepared keys would cost kilobytes for each SA.
#[derive(Debug)]
pub(crate) struct IkeKeys {
    pub algorithms: IkeAlgorithms,
    material: Secret,
}

/// SK_pi and SK_pr: needed until both sides are authenticated.
#[derive(Debug)]
pub(crate) struct AuthKeys {
    pub initiator: Secret,
    pub responder: Secret,
}

stored!(AuthKeys { initiator, responder });

impl Stored for IkeKeys {
    fn store(&self, out: &mut Sink) {
        self.algorithms.store(out);
        self.material.store(out);
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        let algorithms = IkeAlgorithms::load(from)?;
        let material = Secret::load(from)?;
        (material.len() == material_len(&algorithms)).then_some(Self { algorithms, material })
    }
}

/// Derives the keys of a new IKE SA from IKE_SA_INIT (RFC 7296 2.14).
pub(crate) fn initial(
    algorithms: IkeAlgorithms,
    shared: &Secret,
    exchanged: &Exchanged<'_>,
) -> Result<(IkeKeys, AuthKeys), crypto::Error> {
    let mut nonces = Vec::with_capacity(exchanged.initiator_nonce.len() + exchanged.responder_nonce.len());
    nonces.extend_from_slice(exchanged.initiator_nonce);
    nonces.extend_from_slice(exchanged.responder_nonce);
    let seed = algorithms.prf.prf(&nonces, &[shared.as_bytes()]);
    expand(algorithms, &seed, exchanged)
}

/// Derives the keys of an IKE SA that replaces another (RFC 7296 2.18). The PRF of the old one makes SKEYSEED.
pub(crate) fn rekeyed(
    algorithms: IkeAlgorithms,
    shared: &Secret,
    exchanged: &Exchanged<'_>,
    old: &IkeKeys,
) -> Result<IkeKeys, crypto::Error> {
    let seed = old.algorithms.prf.prf(
        old.sk_d(),
        &[
            shared.as_bytes(),
            exchanged.initiator_nonce,
            exchanged.responder_nonce,
        ],
    );
    Ok(expand(algorithms, &seed, exchanged)?.0)
}

fn expand(
    algorithms: IkeAlgorithms,
    seed: &Secret,
    exchanged: &Exchanged<'_>,
) -> Result<(IkeKeys, AuthKeys), crypto::Error> {
    let prf_len = algorithms.prf.output_len();
    let kept = material_len(&algorithms);
    let all = algorithms.prf.prf_plus(
        seed.as_bytes(),
        &[
            exchanged.initiator_nonce,
            exchanged.responder_nonce,
            &exchanged.initiator_spi.to_be_bytes(),
            &exchanged.responder_spi.to_be_bytes(),
        ],
        kept + 2 * prf_len,
    )?;
    let (material, auth) = all.as_bytes().split_at(kept);
    let (initiator, responder) = auth.split_at(prf_len);
    Ok((
        IkeKeys {
            algorithms,
            material: material.into(),
        },
        AuthKeys {
            initiator: initiator.into(),
            responder: responder.into(),
        },
    ))
}

/// Length of SK_d, SK_ai, SK_ar, SK_ei and SK_er together.
fn material_len(algorithms: &IkeAlgorithms) -> usize {
    algorithms.prf.output_len() + 2 * integrity_len(algorithms) + 2 * algorithms.cipher.keymat_len()
}

fn integrity_len(algorithms: &IkeAlgorithms) -> usize {
    algorithms.integrity.map_or(0, |integrity| integrity.key_len())
}

impl IkeKeys {
    fn sk_d(&self) -> &[u8] {
        self.material
            .as_bytes()
            .get(..self.algorithms.prf.output_len())
            .unwrap_or_default()
    }

    /// Protection of what the original initiator (`true`) or responder sends.
    pub fn protection(&self, from_initiator: bool) -> Protection<'_> {
        let algorithms = &self.algorithms;
        let (integrity_len, encryption_len) = (integrity_len(algorithms), algorithms.cipher.keymat_len());
        let base = algorithms.prf.output_len();
        let which = usize::from(!from_initiator);
        let slice = |at: usize, len: usize| self.material.as_bytes().get(at..at + len).unwrap_or_default();
        Protection {
            cipher: algorithms.cipher,
            integrity: algorithms.integrity,
            integrity_key: slice(base + which * integrity_len, integrity_len),
            encryption_key: slice(base + 2 * integrity_len + which * encryption_len, encryption_len),
        }
    }

    /// Keys of a child SA (RFC 7296 2.17): of the direction from, and to, the initiator of the exchange. `shared` is of its
    /// own key exchange, if it had one.
    pub fn child(
        &self,
        algorithms: &EspAlgorithms,
        shared: Option<&Secret>,
        initiator_nonce: &[u8],
        responder_nonce: &[u8],
    ) -> Result<(ChildKeys, ChildKeys), crypto::Error> {
        let (key, salt) = (algorithms.cipher.key_len(), algorithms.cipher.salt_len());
        let integrity = algorithms.integrity.map_or(0, |integrity| integrity.key_len());
        let direction = key + salt + integrity;
        let shared = shared.map(Secret::as_bytes).unwrap_or_default();
        let keymat = self.algorithms.prf.prf_plus(
            self.sk_d(),
            &[shared, initiator_nonce, responder_nonce],
            2 * direction,
        )?;
        let cut = |material: &[u8]| {
            let (encryption, rest) = material.split_at(key);
            let (salt, integrity) = rest.split_at(salt);
            ChildKeys {
                encryption: encryption.into(),
                salt: salt.into(),
                integrity: integrity.into(),
            }
        };
        let (from_initiator, to_initiator) = keymat.as_bytes().split_at(direction);
        Ok((cut(from_initiator), cut(to_initiator)))
    }
}

/// The octets that a peer signs (RFC 7296 2.15): its first message, the other's nonce, prf(SK_p, its identity).
pub(crate) fn signed_octets(
    prf: Prf,
    message: &[u8],
    nonce: &[u8],
    sk_p: &Secret,
    id_body: &[u8],
) -> Vec<u8> {
    let maced = prf.prf(sk_p.as_bytes(), &[id_body]);
    let mut octets = Vec::with_capacity(message.len() + nonce.len() + maced.len());
    octets.extend_from_slice(message);
    octets.extend_from_slice(nonce);
    octets.extend_from_slice(maced.as_bytes());
    octets
}

/// AUTH with a shared secret: a PSK, an MSK, or SK_p itself (RFC 7296 2.15, 2.16).
pub(crate) fn shared_key_auth(prf: Prf, key: &[u8], octets: &[u8]) -> Secret {
    let padded = prf.prf(key, &[KEY_PAD]);
    prf.prf(padded.as_bytes(), &[octets])
}

#[cfg(test)]
mod tests {
    use crypto::{Cipher, DhGroup, Integrity};

    use super::*;

    fn exchanged() -> Exchanged<'static> {
        Exchanged {
            initiator_nonce: &[1; 32],
            responder_nonce: &[2; 32],
            initiator_spi: 3,
            responder_spi: 4,
        }
    }

    /// The layout of RFC 7296 2.14: SK_d, SK_ai, SK_ar, SK_ei, SK_er, SK_pi, SK_pr, cut from one prf+.
    #[test]
    fn keys_are_cut_in_the_order_of_the_rfc() {
        let algorithms = IkeAlgorithms {
            cipher: Cipher::AesCbc128,
            integrity: Some(Integrity::HmacSha2_384_192),
            prf: Prf::HmacSha2_256,
            group: DhGroup::Curve25519,
        };
        let shared = Secret::from([9; 32].as_slice());
        let (keys, auth) = initial(algorithms, &shared, &exchanged()).unwrap();
        let nonces = [[1; 32], [2; 32]].concat();
        let seed = Prf::HmacSha2_256.prf(&nonces, &[shared.as_bytes()]);
        let spis = [3u64.to_be_bytes(), 4u64.to_be_bytes()].concat();
        let all = Prf::HmacSha2_256
            .prf_plus(seed.as_bytes(), &[&nonces, &spis], 32 + 2 * 48 + 2 * 16 + 2 * 32)
            .unwrap();
        let all = all.as_bytes();
        assert_eq!(keys.sk_d(), &all[..32]);
        assert_eq!(keys.protection(true).integrity_key, &all[32..80]);
        assert_eq!(keys.protection(false).integrity_key, &all[80..128]);
        assert_eq!(keys.protection(true).encryption_key, &all[128..144]);
        assert_eq!(keys.protection(false).encryption_key, &all[144..160]);
        assert_eq!(auth.initiator.as_bytes(), &all[160..192]);
        assert_eq!(auth.responder.as_bytes(), &all[192..224]);
    }

    #[test]
    fn child_keys_are_cut_by_direction_then_encryption_before_integrity() {
        let algorithms = IkeAlgorithms {
            cipher: Cipher::AesGcm128Icv16,
            integrity: None,
            prf: Prf::HmacSha1,
            group: DhGroup::Modp2048,
        };
        let (keys, _) = initial(algorithms, &Secret::from([9; 32].as_slice()), &exchanged()).unwrap();
        let esp = EspAlgorithms {
            cipher: Cipher::AesCbc256,
            integrity: Some(Integrity::HmacSha1_96),
            group: None,
            esn: false,
        };
        let (from, to) = keys.child(&esp, None, &[5; 16], &[6; 16]).unwrap();
        let keymat = Prf::HmacSha1
            .prf_plus(keys.sk_d(), &[&[5; 16], &[6; 16]], 2 * 52)
            .unwrap();
        assert_eq!(from.encryption.as_bytes(), &keymat.as_bytes()[..32]);
        assert_eq!(from.integrity.as_bytes(), &keymat.as_bytes()[32..52]);
        assert_eq!(to.encryption.as_bytes(), &keymat.as_bytes()[52..84]);
        assert_eq!(to.integrity.as_bytes(), &keymat.as_bytes()[84..]);
        assert!(from.salt.is_empty());
    }
}
