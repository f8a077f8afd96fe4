//! AES-CBC encryption of several messages at once.
//!
//! A block of CBC cannot begin before the one ahead of it is done, so that a processor, which could work on many, waits. Messages are independent of each other: one
//! block of each forms a row, and rows are encrypted one after the other.

use aes::cipher::array::Array;
use aes::cipher::consts::U16;
use aes::cipher::inout::InOutBuf;
use aes::cipher::{BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, KeyInit};
use aes::{Aes128Enc, Aes256Enc, Block};

use crate::{CBC_BLOCK_LEN, CBC_LANES};

/// A key prepared for encryption; overwritten with zeros when dropped.
pub(crate) enum LaneKey {
    Aes128(Aes128Enc),
    Aes256(Aes256Enc),
}

impl LaneKey {
    /// `None` when the key has neither 16 nor 32 bytes.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        if let Ok(key) = Aes128Enc::new_from_slice(key) {
            return Some(Self::Aes128(key));
        }
        Aes256Enc::new_from_slice(key).ok().map(Self::Aes256)
    }

    /// Encrypts each of `messages`, whole blocks, in place, with an IV of zero.
    pub(crate) fn encrypt(&self, messages: &mut [&mut [u8]]) {
        for messages in messages.chunks_mut(CBC_LANES) {
            match self {
                Self::Aes128(key) => key.encrypt_with_backend(Rows(messages)),
                Self::Aes256(key) => key.encrypt_with_backend(Rows(messages)),
            }
        }
    }
}

/// At most [`CBC_LANES`] messages.
struct Rows<'m, 'd>(&'m mut [&'d mut [u8]]);

impl BlockSizeUser for Rows<'_, '_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Rows<'_, '_> {
    // Inlined, so that it is compiled for the processor that the backend is for.
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let Self(messages) = self;
        let mut state = [const { Array([0; CBC_BLOCK_LEN]) }; CBC_LANES];
        let Some(state) = state.get_mut(..messages.len()) else {
            return;
        };
        let blocks = |message: &&mut [u8]| message.len() / CBC_BLOCK_LEN;
        for row in 0..messages.iter().map(blocks).max().unwrap_or(0) {
            for (state, message) in state.iter_mut().zip(messages.iter()) {
                if let Some(block) = message.as_chunks().0.get(row) {
                    *state = Array(xor(state.0, *block));
                }
            }
            let (whole, rest) = InOutBuf::<Block>::from(&mut *state).into_chunks();
            for blocks in whole {
                backend.encrypt_par_blocks(blocks);
            }
            backend.encrypt_tail_blocks(rest);
            for (state, message) in state.iter().zip(messages.iter_mut()) {
                if let Some(block) = message.as_chunks_mut().0.get_mut(row) {
                    *block = state.0;
                }
            }
        }
    }
}

#[inline(always)]
fn xor(one: [u8; CBC_BLOCK_LEN], other: [u8; CBC_BLOCK_LEN]) -> [u8; CBC_BLOCK_LEN] {
    (u128::from_ne_bytes(one) ^ u128::from_ne_bytes(other)).to_ne_bytes()
}
