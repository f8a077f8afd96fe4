//! What the tests of configurations share.

use config::{SealError, Sealer};

/// Makes `+secret` of `secret`, so that golden files can be read.
pub struct Visible;

impl Sealer for Visible {
    fn seal(&self, plain: &[u8]) -> Result<String, SealError> {
        let text = String::from_utf8_lossy(plain);
        Ok(format!("+{}", text.replace([' ', '"'], "_")))
    }
}
