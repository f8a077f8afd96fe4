//! ipsecmgr.
