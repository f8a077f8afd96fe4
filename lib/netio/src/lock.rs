//! A lock file: one node per run directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::Error;

/// A held lock. Released when dropped, and by the kernel when the process ends in whatever way. The file itself stays.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    lock: Flock<File>,
}

impl LockFile {
    /// Takes the lock at `path` (made if missing) and writes our process number into it. [`Error::Locked`] when another process holds it.
    pub fn acquire(path: &Path) -> Result<Self, Error> {
        let action = || format!("lock {}", path.display());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path)
            .map_err(|e| Error::system(action(), e))?;
        Self::take(path, file)
    }

    /// Takes over a lock that a program before this one took, in this process, with its open file.
    pub fn adopt(path: &Path, file: OwnedFd) -> Result<Self, Error> {
        Self::take(path, file.into())
    }

    fn take(path: &Path, file: File) -> Result<Self, Error> {
        let action = || format!("lock {}", path.display());
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                // Only for the message: without it the lock is just as taken.
                let _ = file.read_to_string(&mut text);
                return Err(Error::Locked {
                    path: path.to_owned(),
                    holder: text.trim().parse().ok(),
                });
            }
            Err((_, errno)) => return Err(Error::system(action(), errno)),
        };
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(|e| Error::system(action(), e))?;
        Ok(Self {
            path: path.to_owned(),
            lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for LockFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_who_was_first() {
        let path = std::env::temp_dir().join(format!("swn-lock-{}", std::process::id()));
        let lock = LockFile::acquire(&path).unwrap();
        let error = LockFile::acquire(&path).unwrap_err();
        assert!(
            matches!(error, Error::Locked { holder: Some(pid), .. } if pid == std::process::id()),
            "{error}"
        );
        drop(lock);
        assert_eq!(LockFile::acquire(&path).unwrap().path(), path);
        std::fs::remove_file(path).unwrap();
    }
}
