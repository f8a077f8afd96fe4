//! services.
