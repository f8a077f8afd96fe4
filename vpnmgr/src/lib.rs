//! vpnmgr.
