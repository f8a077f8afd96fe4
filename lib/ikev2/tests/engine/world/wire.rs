//! What was ever sent: nobody may contradict himself.

use std::collections::{BTreeMap, BTreeSet};

use super::Side;

/// A side's messages of one IKE SA: its SPIs, and who sends.
type Sender = (Vec<u8>, u8);

/// Every datagram of a world.
#[derive(Debug, Default)]
pub struct Log {
    /// By exchange, flags, Message ID and fragment.
    messages: BTreeMap<(Sender, Vec<u8>), Vec<u8>>,
    /// By IV, which is what makes the nonce of an AEAD.
    ivs: BTreeMap<(Sender, [u8; 8]), Vec<u8>>,
    /// Initiator SPIs of IKE_SA_INIT requests.
    pub begun: BTreeSet<Vec<u8>>,
}

impl Log {
    /// A message that is sent again is the same, octet for octet, and no key encrypts two with one IV.
    pub(super) fn note(&mut self, from: Side, bytes: &[u8]) {
        const IKE_SA_INIT: u8 = 34;
        const SK: u8 = 46;
        const SKF: u8 = 53;
        let (Some(header), Some(&next)) = (bytes.get(..24), bytes.get(16)) else {
            return;
        };
        let (spis, kind) = header.split_at(16);
        let (exchange, is_response) = (kind[2], kind[3] & 0x20 != 0);
        if exchange == IKE_SA_INIT {
            if !is_response {
                self.begun.insert(spis[..8].to_vec());
            }
            return;
        }
        if next != SK && next != SKF {
            return;
        }
        let sender = (spis.to_vec(), from as u8);
        let fragment = if next == SKF { &bytes[32..36] } else { &[] };
        let name = [kind, fragment].concat();
        let before = self.messages.insert((sender.clone(), name), bytes.to_vec());
        assert!(
            before.is_none_or(|before| before == bytes),
            "another message with the same ID"
        );
        let at = 32 + fragment.len();
        let iv = bytes[at..].first_chunk::<8>().unwrap();
        let before = self.ivs.insert((sender, *iv), bytes.to_vec());
        assert!(
            before.is_none_or(|before| before == bytes),
            "another message with the same IV"
        );
    }
}
