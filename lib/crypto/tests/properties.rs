//! Properties that hold for any input, and comparison with OpenSSL as an independent implementation.

use crypto::{AeadKey, CbcKey, Cipher, DhGroup, Error, Integrity, Prf, SystemRandom};
use openssl::bn::{BigNum, BigNumContext};
use openssl::derive::Deriver;
use openssl::dh::Dh;
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, Id, PKey, Private};
use openssl::sign::Signer;
use openssl::symm;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn aeads() -> Vec<Cipher> {
    Cipher::ALL
        .into_iter()
        .filter(|cipher| cipher.is_aead())
        .collect()
}

/// Which part of a sealed message to damage.
#[derive(Debug, Clone, Copy)]
enum Part {
    Nonce,
    Aad,
    Text,
    Icv,
}

proptest! {
    #[test]
    fn gcm_equals_openssl(
        cipher in select(aeads()),
        key in vec(any::<u8>(), 32),
        nonce in any::<[u8; 12]>(),
        aad in vec(any::<u8>(), 0..40),
        plain in vec(any::<u8>(), 0..2000),
    ) {
        let key = &key[..cipher.key_len()];
        let ours = &mut AeadKey::new(cipher, key).unwrap();
        let mut data = plain.clone();
        let mut icv = vec![0; cipher.icv_len()];
        ours.seal_in_place(&nonce, &aad, &mut data, &mut icv).unwrap();

        let theirs = if key.len() == 16 { symm::Cipher::aes_128_gcm() } else { symm::Cipher::aes_256_gcm() };
        let mut tag = vec![0; cipher.icv_len()];
        let expected = symm::encrypt_aead(theirs, key, Some(&nonce), &aad, &plain, &mut tag).unwrap();
        prop_assert_eq!(&data, &expected);
        prop_assert_eq!(&icv, &tag);

        ours.open_in_place(&nonce, &aad, &mut data, &icv).unwrap();
        prop_assert_eq!(data, plain);
    }

    #[test]
    fn gcm_detects_any_changed_bit(
        cipher in select(aeads()),
        key in vec(any::<u8>(), 32),
        plain in vec(any::<u8>(), 1..200),
        part in select(vec![Part::Nonce, Part::Aad, Part::Text, Part::Icv]),
        at in any::<prop::sample::Index>(),
        bit in 0..8u32,
    ) {
        let mut key = AeadKey::new(cipher, &key[..cipher.key_len()]).unwrap();
        let (mut nonce, mut aad, mut data) = ([3; 12], [4; 8], plain);
        let mut icv = vec![0; cipher.icv_len()];
        key.seal_in_place(&nonce, &aad, &mut data, &mut icv).unwrap();
        let damaged: &mut [u8] = match part {
            Part::Nonce => &mut nonce,
            Part::Aad => &mut aad,
            Part::Text => &mut data,
            Part::Icv => &mut icv,
        };
        let at = at.index(damaged.len());
        damaged[at] ^= 1 << bit;
        prop_assert_eq!(key.open_in_place(&nonce, &aad, &mut data, &icv), Err(Error::Integrity));
    }

    #[test]
    fn cbc_equals_openssl(
        cipher in select(vec![Cipher::AesCbc128, Cipher::AesCbc256]),
        key in vec(any::<u8>(), 32),
        iv in any::<[u8; 16]>(),
        blocks in 0..100usize,
    ) {
        let key = &key[..cipher.key_len()];
        let plain: Vec<u8> = (0..blocks * 16).map(|i| i as u8).collect();
        let ours = CbcKey::new(cipher, key).unwrap();
        let mut data = plain.clone();
        ours.encrypt(&iv, &mut data).unwrap();

        let theirs = if key.len() == 16 { symm::Cipher::aes_128_cbc() } else { symm::Cipher::aes_256_cbc() };
        let padded = symm::encrypt(theirs, key, Some(&iv), &plain).unwrap();
        prop_assert_eq!(&data[..], &padded[..plain.len()]);

        ours.decrypt(&iv, &mut data).unwrap();
        prop_assert_eq!(data, plain);
    }

    #[test]
    fn cbc_of_several_messages_equals_that_of_each(
        cipher in select(vec![Cipher::AesCbc128, Cipher::AesCbc256]),
        key in vec(any::<u8>(), 32),
        blocks in vec(0..100usize, 0..40),
    ) {
        let key = CbcKey::new(cipher, &key[..cipher.key_len()]).unwrap();
        let message = |(n, blocks): (usize, &usize)| (0..blocks * 16).map(|i| (i + n) as u8).collect();
        let mut messages: Vec<Vec<u8>> = blocks.iter().enumerate().map(message).collect();
        let mut expected = messages.clone();
        for message in &mut expected {
            key.encrypt(&[0; 16], message).unwrap();
        }
        let mut lanes: Vec<_> = messages.iter_mut().map(Vec::as_mut_slice).collect();
        key.encrypt_each(&mut lanes).unwrap();
        prop_assert_eq!(messages, expected);
    }

    #[test]
    fn hmac_equals_openssl_in_any_parts(
        key in vec(any::<u8>(), 64),
        data in vec(any::<u8>(), 0..500),
        cut in any::<prop::sample::Index>(),
    ) {
        let (head, tail) = data.split_at(cut.index(data.len() + 1));
        for (prf, integrity, digest) in [
            (Prf::HmacSha1, Integrity::HmacSha1_96, MessageDigest::sha1()),
            (Prf::HmacSha2_256, Integrity::HmacSha2_256_128, MessageDigest::sha256()),
            (Prf::HmacSha2_384, Integrity::HmacSha2_384_192, MessageDigest::sha384()),
            (Prf::HmacSha2_512, Integrity::HmacSha2_512_256, MessageDigest::sha512()),
        ] {
            let key = &key[..integrity.key_len()];
            let pkey = PKey::hmac(key).unwrap();
            let expected = Signer::new(digest, &pkey).unwrap().sign_oneshot_to_vec(&data).unwrap();
            let mac = prf.prf(key, &[head, tail]);
            prop_assert_eq!(mac.as_bytes(), &expected[..]);

            let prepared = integrity.prepare(key).unwrap();
            let mut icv = vec![0; integrity.icv_len()];
            prepared.sign(&[head, tail], &mut icv).unwrap();
            prop_assert_eq!(&icv[..], &expected[..integrity.icv_len()]);
            prop_assert_eq!(prepared.verify(&[&data], &icv), Ok(()));
            icv[0] ^= 1;
            prop_assert_eq!(prepared.verify(&[&data], &icv), Err(Error::Integrity));
        }
    }

    #[test]
    fn a_peer_value_never_panics(
        group in select(DhGroup::ALL.to_vec()),
        seed in vec(any::<u8>(), 0..600),
        fit in any::<bool>(),
    ) {
        let mut peer = seed;
        if fit {
            peer.resize(group.public_len(), 0x11);
        }
        let key = group.generate(&mut SystemRandom).unwrap();
        match key.agree(&peer) {
            Ok(secret) => prop_assert_eq!(secret.len(), group.secret_len()),
            Err(Error::Length { .. } | Error::PeerValue { .. }) => {}
            Err(other) => return Err(TestCaseError::fail(format!("{other:?}"))),
        }
    }
}

#[test]
fn elliptic_curves_agree_with_openssl() {
    for (group, nid) in [
        (DhGroup::Ecp256, Nid::X9_62_PRIME256V1),
        (DhGroup::Ecp384, Nid::SECP384R1),
        (DhGroup::Ecp521, Nid::SECP521R1),
    ] {
        let curve = EcGroup::from_curve_name(nid).unwrap();
        let theirs = EcKey::generate(&curve).unwrap();
        let ours = group.generate(&mut SystemRandom).unwrap();
        let mut context = openssl::bn::BigNumContext::new().unwrap();
        let point = theirs
            .public_key()
            .to_bytes(
                &curve,
                openssl::ec::PointConversionForm::UNCOMPRESSED,
                &mut context,
            )
            .unwrap();
        let our_point = EcPoint::from_bytes(&curve, &[&[4], ours.public()].concat(), &mut context).unwrap();
        let our_public = EcKey::from_public_key(&curve, &our_point).unwrap();
        let (theirs, our_public) = (
            PKey::from_ec_key(theirs).unwrap(),
            PKey::from_ec_key(our_public).unwrap(),
        );
        let expected = derive(&theirs, &our_public).unwrap();
        assert_eq!(ours.agree(&point[1..]).unwrap().as_bytes(), expected, "{group:?}");
    }
}

#[test]
fn curve25519_agrees_with_openssl() {
    let theirs = PKey::generate_x25519().unwrap();
    let ours = DhGroup::Curve25519.generate(&mut SystemRandom).unwrap();
    let our_public = PKey::public_key_from_raw_bytes(ours.public(), Id::X25519).unwrap();
    let expected = derive(&theirs, &our_public).unwrap();
    assert_eq!(
        ours.agree(&theirs.raw_public_key().unwrap()).unwrap().as_bytes(),
        expected
    );
}

#[test]
fn modp_agrees_with_openssl() {
    let primes = [
        (DhGroup::Modp1024, BigNum::get_rfc2409_prime_1024()),
        (DhGroup::Modp1536, BigNum::get_rfc3526_prime_1536()),
        (DhGroup::Modp2048, BigNum::get_rfc3526_prime_2048()),
        (DhGroup::Modp3072, BigNum::get_rfc3526_prime_3072()),
        (DhGroup::Modp4096, BigNum::get_rfc3526_prime_4096()),
    ];
    for (group, prime) in primes {
        let prime = prime.unwrap();
        let theirs = Dh::from_pqg(prime.to_owned().unwrap(), None, BigNum::from_u32(2).unwrap()).unwrap();
        let theirs = theirs.generate_key().unwrap();
        let ours = group.generate(&mut SystemRandom).unwrap();
        let len = group.public_len();
        // Not `Dh::compute_key`: it drops leading zeros and leaves as many at the end. IKE keeps them.
        let mut shared = BigNum::new().unwrap();
        let public = BigNum::from_slice(ours.public()).unwrap();
        let mut context = BigNumContext::new().unwrap();
        shared
            .mod_exp(&public, theirs.private_key(), &prime, &mut context)
            .unwrap();
        let expected = shared.to_vec_padded(len as i32).unwrap();
        let public = theirs.public_key().to_vec_padded(len as i32).unwrap();
        assert_eq!(ours.agree(&public).unwrap().as_bytes(), expected, "{group:?}");
    }
}

fn derive<T: HasPublic>(private: &PKey<Private>, public: &PKey<T>) -> Result<Vec<u8>, ErrorStack> {
    let mut deriver = Deriver::new(private)?;
    deriver.set_peer(public)?;
    deriver.derive_to_vec()
}
