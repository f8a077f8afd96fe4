//! Which files a process may reach (landlock(7)): an allow-list of places, which only grows shorter.
//!
//! Every kernel has a version of the interface (ABI), and later ones forbid more: 2 moving files between directories, 3 truncating them, 4 TCP,
//! 5 control calls on devices, 6 signals and abstract sockets to others. Whatever the kernel at hand can forbid is forbidden. From version 1 on
//! a restricted process cannot look into others (ptrace(2), `/proc/PID/mem`), whatever its capabilities.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libc::c_long;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::Error;

/// What a process may do with a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAccess {
    /// Read the file, or the directory with all below it.
    Read,
    /// Read, and write what is there already.
    Change,
    /// All of that, and make and remove files and directories.
    Write,
}

/// Restricts the calling thread, and every thread and process it starts from now on, to these places. One that does not exist or cannot be reached is left out. The
/// process must have forbidden itself new privileges ([`crate::task::forbid_new_privileges`]).
///
/// Returns the version of the interface. [`Error::Unavailable`] when the kernel has none.
pub fn confine(places: &[(PathBuf, FileAccess)]) -> Result<u32, Error> {
    let version = version()?;
    let handled = handled(version);
    let ruleset = Ruleset {
        files: handled,
        // TCP: nobody may bind or connect.
        network: if version >= 4 { BIND_TCP | CONNECT_TCP } else { 0 },
        scoped: if version >= 6 {
            ABSTRACT_SOCKETS | SIGNALS
        } else {
            0
        },
    };
    let action = "restrict the files";
    // SAFETY: pointer and length describe `ruleset`, which the kernel only reads. (An older kernel takes a longer structure if the rest is zero.)
    let fd = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::from_ref(&ruleset),
            size_of::<Ruleset>(),
            0,
        )
    };
    let fd = checked(fd).map_err(|e| Error::system(action, e))?;
    // SAFETY: just opened for us; such descriptors are close-on-exec.
    let rules = unsafe { OwnedFd::from_raw_fd(fd) };
    for (path, access) in places {
        allow(&rules, path, *access, handled)
            .map_err(|e| Error::system(format!("{action} to {}", path.display()), e))?;
    }
    // SAFETY: a system call without pointers.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) };
    checked(result).map_err(|e| Error::system(action, e))?;
    Ok(version)
}

/// The version of the kernel's interface.
fn version() -> Result<u32, Error> {
    // SAFETY: with this flag the kernel looks at no structure.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<Ruleset>(),
            0,
            CREATE_RULESET_VERSION,
        )
    };
    match u32::try_from(version) {
        Ok(version) if version > 0 => Ok(version),
        _ => Err(Error::Unavailable {
            what: "landlock".into(),
            remedy: "use a kernel of version 5.13 or later with 'landlock' among its lsm=",
        }),
    }
}

/// Adds a rule for a place.
fn allow(rules: &OwnedFd, path: &Path, access: FileAccess, handled: u64) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let place = match open(path.as_c_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) {
        // What cannot be reached now is not allowed either.
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::ELOOP) => return Ok(()),
        place => place?,
    };
    let mut access = match access {
        FileAccess::Read => READ,
        FileAccess::Change => READ | CHANGE,
        FileAccess::Write => READ | CHANGE | MAKE,
    };
    let kind = SFlag::from_bits_truncate(fstat(&place)?.st_mode & SFlag::S_IFMT.bits());
    if kind != SFlag::S_IFDIR {
        access &= OF_FILES;
    }
    let rule = PathBeneath {
        access: access & handled,
        place: place.as_raw_fd(),
    };
    // SAFETY: the rule is what this type of rule consists of, and lives through the call, as does the descriptor in it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            rules.as_raw_fd(),
            RULE_PATH_BENEATH,
            std::ptr::from_ref(&rule),
            0,
        )
    };
    checked(result).map(|_| ())
}

fn checked(result: c_long) -> io::Result<i32> {
    i32::try_from(result)
        .ok()
        .filter(|result| *result >= 0)
        .ok_or_else(io::Error::last_os_error)
}

/// What a version can forbid about files.
fn handled(version: u32) -> u64 {
    let last = match version {
        0 | 1 => MAKE_SYM,
        2 => REFER,
        3 | 4 => TRUNCATE,
        _ => IOCTL_DEV,
    };
    (last << 1) - 1
}

/// struct landlock_ruleset_attr.
#[repr(C)]
struct Ruleset {
    files: u64,
    network: u64,
    scoped: u64,
}

/// struct landlock_path_beneath_attr.
#[repr(C, packed)]
struct PathBeneath {
    access: u64,
    place: i32,
}

// linux/landlock.h
const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;
const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SYM: u64 = 1 << 12;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
const BIND_TCP: u64 = 1;
const CONNECT_TCP: u64 = 1 << 1;
const ABSTRACT_SOCKETS: u64 = 1;
const SIGNALS: u64 = 1 << 1;

const READ: u64 = READ_FILE | READ_DIR;
const CHANGE: u64 = WRITE_FILE | TRUNCATE;
const MAKE: u64 = REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG;
/// What a rule about a file may say.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::ErrorKind;

    #[test]
    fn each_version_forbids_what_it_knows() {
        assert_eq!(handled(1), 0x1fff);
        assert_eq!(handled(2), 0x3fff);
        assert_eq!(handled(4), 0x7fff);
        assert_eq!(handled(7), 0xffff);
    }

    /// On a thread of its own, which alone is restricted.
    #[test]
    fn only_the_places_named_are_reached() {
        let folder = std::env::temp_dir().join(format!("netio-landlock-{}", std::process::id()));
        for name in ["read", "change", "write", "other"] {
            fs::create_dir_all(folder.join(name)).unwrap();
            fs::write(folder.join(name).join("file"), "old").unwrap();
        }
        let thread = std::thread::scope(|scope| {
            let work = || {
                crate::task::forbid_new_privileges().unwrap();
                let places = [
                    (folder.join("read/file"), FileAccess::Read),
                    (folder.join("change"), FileAccess::Change),
                    (folder.join("write"), FileAccess::Write),
                    (folder.join("missing"), FileAccess::Write),
                ];
                match confine(&places) {
                    // A kernel without it.
                    Err(Error::Unavailable { .. }) => return,
                    version => assert!(version.unwrap() >= 1),
                }
                let refused = |result: io::Result<()>| {
                    assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
                };
                let read = |name: &str| fs::read(folder.join(name)).map(drop);
                let write = |name: &str| fs::write(folder.join(name), "new");
                read("read/file").unwrap();
                refused(write("read/file"));
                refused(fs::read_dir(folder.join("read")).map(drop));
                fs::OpenOptions::new()
                    .write(true)
                    .open(folder.join("change/file"))
                    .unwrap();
                refused(write("change/another"));
                write("write/another").unwrap();
                fs::rename(folder.join("write/another"), folder.join("write/file")).unwrap();
                fs::create_dir(folder.join("write/below")).unwrap();
                refused(read("other/file"));
                refused(fs::read_dir("/").map(drop));
            };
            scope.spawn(work).join()
        });
        fs::remove_dir_all(&folder).unwrap();
        thread.unwrap();
    }
}
