//! Configuration files.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::MAX_TEXT;

/// Reads a configuration file. Octets that are no text come as replacement characters.
///
/// # Errors
/// When it cannot be read, or is longer than any configuration: what never ends is not read for ever.
pub fn read(path: &Path) -> io::Result<String> {
    let mut octets = Vec::new();
    let limit = u64::try_from(MAX_TEXT).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_end(&mut octets)?;
    if octets.len() > MAX_TEXT {
        let message = format!("longer than {} MiB, which no configuration is", MAX_TEXT >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_is_refused() {
        let error = read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.to_string(), "longer than 64 MiB, which no configuration is");
        assert_eq!(read(Path::new("/dev/null")).unwrap(), "");
    }
}
