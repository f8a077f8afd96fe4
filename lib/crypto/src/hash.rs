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
