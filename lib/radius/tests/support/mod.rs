//! An EAP-MSCHAPv2 peer (RFC 2759, RFC 3079 and the EAP method of type 26), small and for tests only.

use openssl::hash::{MessageDigest, hash};
use openssl::symm::{Cipher, Crypter, Mode};

/// A peer that knows its password.
pub struct Peer {
    user: Vec<u8>,
    password_hash: [u8; 16],
    msk: [u8; 64],
}

impl Peer {
    pub fn new(user: &str, password: &str) -> Self {
        let unicode: Vec<u8> = password.encode_utf16().flat_map(u16::to_le_bytes).collect();
        Self {
            user: user.as_bytes().to_vec(),
            password_hash: md4(&unicode),
            msk: [0; 64],
        }
    }

    /// Answers an EAP request.
    pub fn answer(&mut self, request: &[u8]) -> Vec<u8> {
        let packet = eap::Packet::decode(request).expect("an EAP packet");
        assert_eq!(packet.code, eap::Code::Request);
        let body = match packet.method {
            Some(eap::Method::IDENTITY) => [&[1], self.user.as_slice()].concat(),
            Some(eap::Method::MSCHAPV2) => [&[26], self.mschapv2(packet.data).as_slice()].concat(),
            _ => vec![3, 26],
        };
        let length = (4 + body.len()) as u16;
        [&[2, packet.identifier], length.to_be_bytes().as_slice(), &body].concat()
    }

    /// The keys after success.
    pub fn msk(&self) -> [u8; 64] {
        self.msk
    }

    fn mschapv2(&mut self, data: &[u8]) -> Vec<u8> {
        match data {
            [1, id, _, _, 16, rest @ ..] => self.respond(*id, &rest[..16]),
            [3, ..] => vec![3],
            [4, ..] => vec![4],
            other => panic!("unknown MSCHAPv2 packet {other:?}"),
        }
    }

    fn respond(&mut self, id: u8, challenge: &[u8]) -> Vec<u8> {
        let peer_challenge = [0x5a; 16];
        let digest = sha1(&[&peer_challenge, challenge, &self.user]);
        let nt_response = challenge_response(&digest[..8], &self.password_hash);
        self.derive(&nt_response);
        let length = (5 + 49 + self.user.len()) as u16;
        let head = [2, id, (length >> 8) as u8, length as u8, 49];
        [
            &head,
            peer_challenge.as_slice(),
            &[0; 8],
            &nt_response,
            &[0],
            &self.user,
        ]
        .concat()
    }

    /// RFC 3079 section 3.4; the receive key of the authenticator comes first.
    fn derive(&mut self, nt_response: &[u8]) {
        let master = sha1(&[
            &md4(&self.password_hash),
            nt_response,
            b"This is the MPPE Master Key",
        ]);
        let key = |magic: &[u8]| sha1(&[&master[..16], &[0; 40], magic, &[0xf2; 40]]);
        let client_send =
            key(b"On the client side, this is the send key; on the server side, it is the receive key.");
        let client_recv =
            key(b"On the client side, this is the receive key; on the server side, it is the send key.");
        self.msk[..16].copy_from_slice(&client_send[..16]);
        self.msk[16..32].copy_from_slice(&client_recv[..16]);
    }
}

fn sha1(pieces: &[&[u8]]) -> [u8; 20] {
    hash(MessageDigest::sha1(), &pieces.concat())
        .unwrap()
        .as_ref()
        .try_into()
        .unwrap()
}

/// RFC 2759 section 8.5.
fn challenge_response(challenge: &[u8], password_hash: &[u8; 16]) -> Vec<u8> {
    let mut key = password_hash.to_vec();
    key.resize(21, 0);
    key.chunks(7).flat_map(|part| des(part, challenge)).collect()
}

/// DES of one block, as triple DES with three equal keys.
fn des(key: &[u8], block: &[u8]) -> Vec<u8> {
    let bits = key.iter().fold(0u64, |bits, &octet| bits << 8 | u64::from(octet));
    let single: Vec<u8> = (0..8)
        .map(|i| ((bits >> (49 - 7 * i)) as u8 & 0x7f) << 1)
        .collect();
    let mut crypter = Crypter::new(Cipher::des_ede3(), Mode::Encrypt, &single.repeat(3), None).unwrap();
    crypter.pad(false);
    let mut out = vec![0; 16];
    let count = crypter.update(block, &mut out).unwrap();
    out.truncate(count);
    out
}

/// RFC 1320.
fn md4(message: &[u8]) -> [u8; 16] {
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((message.len() as u64 * 8).to_le_bytes());
    let mut state = [0x6745_2301u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in padded.chunks(64) {
        let x: Vec<u32> = block
            .chunks(4)
            .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
            .collect();
        let [mut a, mut b, mut c, mut d] = state;
        for step in 0..48 {
            let (f, k, constant, shift) = match step / 16 {
                0 => ((b & c) | (!b & d), step, 0, [3, 7, 11, 19][step % 4]),
                1 => (
                    (b & c) | (b & d) | (c & d),
                    step % 4 * 4 + (step - 16) / 4,
                    0x5a82_7999,
                    [3, 5, 9, 13][step % 4],
                ),
                _ => {
                    let order = [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15];
                    (b ^ c ^ d, order[step - 32], 0x6ed9_eba1, [3, 9, 11, 15][step % 4])
                }
            };
            let next = a
                .wrapping_add(f)
                .wrapping_add(x[k])
                .wrapping_add(constant)
                .rotate_left(shift);
            (a, d, c, b) = (d, c, b, next);
        }
        state = [
            state[0].wrapping_add(a),
            state[1].wrapping_add(b),
            state[2].wrapping_add(c),
            state[3].wrapping_add(d),
        ];
    }
    state
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect::<Vec<u8>>()
        .try_into()
        .unwrap()
}

/// RFC 2759 section 9.2.
#[test]
fn nt_response_of_rfc2759() {
    let peer = Peer::new("User", "clientPass");
    let hash = b"\x44\xeb\xba\x8d\x53\x12\xb8\xd6\x11\x47\x44\x11\xf5\x69\x89\xae";
    assert_eq!(peer.password_hash, *hash);
    let response = challenge_response(b"\xd0\x2e\x43\x86\xbc\xe9\x12\x26", &peer.password_hash);
    let expected =
        b"\x82\x30\x9e\xcd\x8d\x70\x8b\x5e\xa0\x8f\xaa\x39\x81\xcd\x83\x54\x42\x33\x11\x4a\x3d\x85\xd6\xdf";
    assert_eq!(response, expected);
}
