//! eap.
