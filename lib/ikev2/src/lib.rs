//! ikev2.
