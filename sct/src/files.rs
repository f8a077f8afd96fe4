//! Files: names as operators write them, and writing that never leaves half a file.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The devices of a chassis; here folders of the state directory.
const DEVICES: [&str; 3] = ["flash", "hd-raid", "usb1"];

/// The file that `/flash/...` means.
///
/// # Errors
/// A name that is not on one of the devices, or that would lead out of it.
pub(crate) fn locate(state_dir: &Path, name: &str) -> Result<PathBuf, Error> {
    let wrong = || Error::Name(name.to_owned());
    let path = name.strip_prefix("file:").unwrap_or(name);
    let mut parts = path.strip_prefix('/').ok_or_else(wrong)?.split('/');
    let device = parts
        .next()
        .filter(|device| DEVICES.contains(device))
        .ok_or_else(wrong)?;
    let rest: Vec<&str> = parts.collect();
    let bad = rest.is_empty()
        || rest
            .iter()
            .any(|part| matches!(*part, "" | "." | "..") || part.contains('\0'));
    if bad {
        Err(wrong())
    } else {
        Ok(state_dir.join(device).join(rest.join("/")))
    }
}

/// Replaces a file as a whole: afterwards it has the old content or the new one, also when the power fails. Only the node may read it.
///
/// # Errors
/// When the file system refuses.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let failed = |action| move |error| Error::File(action, path.to_owned(), error);
    let folder = path
        .parent()
        .ok_or_else(|| Error::Name(path.display().to_string()))?;
    fs::create_dir_all(folder).map_err(failed("create the folder of"))?;
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(failed("write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_on_their_device() {
        let state = Path::new("/state");
        assert_eq!(
            locate(state, "/flash/a.cfg").unwrap(),
            Path::new("/state/flash/a.cfg")
        );
        assert_eq!(
            locate(state, "file:/hd-raid/x/y").unwrap(),
            Path::new("/state/hd-raid/x/y")
        );
        for name in [
            "a.cfg",
            "/etc/passwd",
            "/flash",
            "/flash/",
            "/flash/../x",
            "/flash/./x",
            "/flash//x",
            "",
        ] {
            assert!(locate(state, name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let folder = std::env::temp_dir().join(format!("sct-files-{}", std::process::id()));
        let path = folder.join("deep/a.cfg");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "nothing is left behind"
        );
        fs::remove_dir_all(folder).unwrap();
    }
}
