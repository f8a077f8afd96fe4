//! Real strongSwan as peer.

mod initiator;
