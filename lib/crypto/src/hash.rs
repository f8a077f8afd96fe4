//! Hash functions. Each takes the message in parts, hashed as if they were one.

use aws_lc_rs::digest;
use openssl::md_ctx::MdCtx;

/// SHA-1. Only where a standard demands it: NAT detection (RFC 7296, 2.23), CERTREQ hashes (RFC 7296, 3.7).
pub fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    sha(&digest::SHA1_FOR_LEGACY_USE_ONLY, parts)
}

/// SHA2-256 (FIPS 180-4).
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    sha(&digest::SHA256, parts)
}

/// SHA2-384 (FIPS 180-4).
pub fn sha384(parts: &[&[u8]]) -> [u8; 48] {
    sha(&digest::SHA384, parts)
}

/// SHA2-512 (FIPS 180-4).
pub fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    sha(&digest::SHA512, parts)
}

/// MD5. Only for RADIUS authenticators (RFC 2865, 3) and EAP-MD5.
pub fn md5(parts: &[&[u8]]) -> [u8; 16] {
    md5_hash(parts)
}

/// HMAC-MD5 (RFC 2104). Only for RADIUS Message-Authenticator (RFC 3579, 3.2).
pub fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut block = [0u8; MD5_BLOCK_LEN];
    if key.len() > MD5_BLOCK_LEN {
        block[..16].copy_from_slice(&md5_hash(&[key]));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner_pad = block.map(|b| b ^ 0x36);
    let outer_pad = block.map(|b| b ^ 0x5c);
    let mut inner: Vec<&[u8]> = Vec::with_capacity(parts.len() + 1);
    inner.push(&inner_pad);
    inner.extend_from_slice(parts);
    md5_hash(&[&outer_pad, &md5_hash(&inner)])
}

fn sha<const N: usize>(algorithm: &'static digest::Algorithm, parts: &[&[u8]]) -> [u8; N] {
    let mut context = digest::Context::new(algorithm);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; N];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[expect(
    clippy::expect_used,
    reason = "MD5 over memory fails only if the library was built without it"
)]
fn md5_hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut out = [0; 16];
    let mut context = MdCtx::new().expect("a digest context can be allocated");
    context
        .digest_init(openssl::md::Md::md5())
        .expect("MD5 is available");
    for part in parts {
        context.digest_update(part).expect("MD5 accepts any bytes");
    }
    context.digest_final(&mut out).expect("an MD5 digest is 16 bytes");
    out
}

const MD5_BLOCK_LEN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    #[test]
    fn sha_of_abc_in_any_parts() {
        // FIPS 180-4 examples.
        let cases: [&[&[u8]]; 3] = [&[b"abc"], &[b"a", b"", b"bc"], &[b"a", b"b", b"c"]];
        for parts in cases {
            assert_eq!(
                sha1(parts).to_vec(),
                hex("a9993e364706816aba3e25717850c26c9cd0d89d")
            );
            assert_eq!(
                sha256(parts).to_vec(),
                hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
            );
            assert_eq!(
                sha384(parts).to_vec(),
                hex("cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed
                     8086072ba1e7cc2358baeca134c825a7")
            );
            assert_eq!(
                sha512(parts).to_vec(),
                hex("ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a
                     2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f")
            );
        }
    }

    #[test]
    fn md5_vectors() {
        // RFC 1321, A.5.
        assert_eq!(md5(&[]).to_vec(), hex("d41d8cd98f00b204e9800998ecf8427e"));
        assert_eq!(
            md5(&[b"message ", b"digest"]).to_vec(),
            hex("f96b697d7cb7938d525a2f31aaf161d0")
        );
    }

    #[test]
    fn hmac_md5_vectors() {
        // RFC 2202, 2: test cases 1, 2 and 6 (a key longer than a block).
        assert_eq!(
            hmac_md5(&[0x0b; 16], &[b"Hi There"]).to_vec(),
            hex("9294727a3638bb1c13f48ef8158bfc9d")
        );
        assert_eq!(
            hmac_md5(b"Jefe", &[b"what do ya want ", b"for nothing?"]).to_vec(),
            hex("750c783e6ab0b503eaa86e310a5db738")
        );
        assert_eq!(
            hmac_md5(
                &[0xaa; 80],
                &[b"Test Using Larger Than Block-Size Key - Hash Key First"]
            )
            .to_vec(),
            hex("6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd")
        );
    }
}
