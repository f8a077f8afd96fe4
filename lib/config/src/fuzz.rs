//! Functions for the fuzzer; the property tests call them too.

use crate::{Config, SealError, Sealer, load};

/// Reads arbitrary octets as a configuration file; whatever was understood prints and reads back as the same.
///
/// # Panics
/// When it does not: that is what the fuzzer looks for.
pub fn configuration(octets: &[u8]) {
    // Plain matter of time: a real file may be longer.
    let text = String::from_utf8_lossy(octets.get(..MAX_INPUT).unwrap_or(octets));
    let loaded = load(&text, &Hexadecimal);
    let printed = loaded.config.to_text();
    match Config::parse(&printed) {
        Ok(again) => assert!(again == loaded.config, "reads back as something else:\n{printed}"),
        Err(error) => panic!("does not read back: {error}:\n{printed}"),
    }
    let _ = loaded.config.findings();
}

/// Longest input that is looked at, in octets.
const MAX_INPUT: usize = 65_536;

/// Seals nothing, but looks as if.
struct Hexadecimal;

impl Sealer for Hexadecimal {
    fn seal(&self, plain: &[u8]) -> Result<String, SealError> {
        let digits: String = plain.iter().map(|octet| format!("{octet:02x}")).collect();
        Ok(format!("+B1{digits}"))
    }
}
