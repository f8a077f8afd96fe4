//! Another program in our place: execve(2) with descriptors that stay open across it.
//!
//! The one that goes packs duplicates ([`Luggage`]): its own descriptors are untouched, and if the exec fails, nothing has changed. The one that comes takes
//! duplicates of what it finds ([`Baggage`]) and drops the originals when it has everything: until then it can let its predecessor come back to them.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::execve;

use crate::{ControlSocket, Error};

/// Duplicates of descriptors that the next program finds open, under the numbers that [`pack`](Self::pack) gives. Dropped: closed again.
#[derive(Debug, Default)]
pub struct Luggage(Vec<OwnedFd>);

impl Luggage {
    /// Empty. Every descriptor there is now is kept from going along, but the standard ones: libraries may have opened some without saying so.
    pub fn new() -> Self {
        keep_descriptors();
        Self::default()
    }

    /// Adds a duplicate; returns its number.
    pub fn pack(&mut self, fd: impl AsFd) -> Result<u32, Error> {
        let number = fcntl(fd, FcntlArg::F_DUPFD(ControlSocket::CHILD_FD))
            .map_err(|e| Error::system("duplicate a descriptor", e))?;
        // SAFETY: just duplicated for us.
        self.0.push(unsafe { OwnedFd::from_raw_fd(number) });
        Ok(number.cast_unsigned())
    }
}

/// Keeps every descriptor that there is now, but the standard ones, from programs that begin in this process's place and from its children.
pub fn keep_descriptors() {
    // SAFETY: a system call on numbers; it closes nothing now. Kernels before 5.11 do not know the flag: then what is open without it stays so.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            ControlSocket::CHILD_FD.cast_unsigned(),
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
}

/// What a predecessor left open for this program. The originals stay open, and open for a further program, until this is dropped.
#[derive(Debug, Default)]
pub struct Baggage(BTreeMap<RawFd, OwnedFd>);

impl Baggage {
    /// A duplicate of descriptor `number`, close-on-exec. Refused when it is none that came with this program.
    pub fn take(&mut self, number: u32) -> Result<OwnedFd, Error> {
        let failed = |e| Error::system(format!("take over descriptor {number}"), e);
        let number = RawFd::try_from(number)
            .map_err(io::Error::other)
            .map_err(failed)?;
        if number < ControlSocket::CHILD_FD || self.0.contains_key(&number) {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        }
        // SAFETY: only looked at here. If nothing is open there, fcntl says EBADF.
        let candidate = unsafe { BorrowedFd::borrow_raw(number) };
        let flags = fcntl(candidate, FcntlArg::F_GETFD).map_err(|e| failed(e.into()))?;
        if FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC) {
            // It was opened since: by this program.
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        }
        let duplicate = candidate.try_clone_to_owned().map_err(failed)?;
        // SAFETY: what came with this program has no other owner in it, and the map takes each number once.
        self.0.insert(number, unsafe { OwnedFd::from_raw_fd(number) });
        Ok(duplicate)
    }
}

/// Runs the open file `program` in place of this one, with `arguments` (the first is its name), our environment and what was packed. Returns only if that
/// cannot be done, and says why.
pub fn replace_with(program: BorrowedFd<'_>, arguments: &[OsString], _luggage: &Luggage) -> Error {
    exec(program, arguments)
}

/// Runs the open file `program` in place of this one; it finds the originals of what this one took.
pub fn return_to(program: BorrowedFd<'_>, arguments: &[OsString], _baggage: &Baggage) -> Error {
    exec(program, arguments)
}

fn exec(program: BorrowedFd<'_>, arguments: &[OsString]) -> Error {
    let failed = |e: io::Error| Error::system("run another program in our place", e);
    let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::other);
    let prepared = || -> io::Result<_> {
        let path = CString::new(format!("/proc/self/fd/{}", program.as_raw_fd()))?;
        let arguments: Vec<CString> = arguments.iter().map(|one| text(one)).collect::<Result<_, _>>()?;
        let environment: Vec<CString> = std::env::vars_os()
            .map(|(mut name, value)| {
                name.push("=");
                name.push(value);
                CString::new(name.into_vec()).map_err(io::Error::other)
            })
            .collect::<Result<_, _>>()?;
        Ok((path, arguments, environment))
    };
    match prepared() {
        Ok((path, arguments, environment)) => match execve(&path, &arguments, &environment) {
            Err(errno) => failed(errno.into()),
        },
        Err(error) => failed(error),
    }
}

/// Has signals wait, for this thread and for a program in its place, which lets them through when it can take them.
pub fn hold_signals(signals: &[Signal]) -> Result<(), Error> {
    signals
        .iter()
        .copied()
        .collect::<SigSet>()
        .thread_block()
        .map_err(|e| Error::system("hold signals back", e))
}

/// Lets them through, also those that waited.
pub fn release_signals(signals: &[Signal]) -> Result<(), Error> {
    signals
        .iter()
        .copied()
        .collect::<SigSet>()
        .thread_unblock()
        .map_err(|e| Error::system("let signals through", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn what_was_packed_can_be_taken_once_and_nothing_else_can() {
        let (ours, theirs) = ControlSocket::pair().unwrap();
        let mut luggage = Luggage::default();
        let number = luggage.pack(&theirs).unwrap();
        // As if a program had begun here: nobody owns it.
        std::mem::forget(luggage);
        let mut baggage = Baggage::default();
        let taken = ControlSocket::from(baggage.take(number).unwrap());
        ours.send(b"through", &[]).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(taken.receive(&mut buffer).unwrap().unwrap().length, 7);
        assert!(baggage.take(number).is_err(), "taken twice");
        let own = ours.as_fd().as_raw_fd().cast_unsigned();
        for wrong in [0, 2, own, 1_000_000, u32::MAX] {
            assert!(baggage.take(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_program_that_cannot_be_run_leaves_us_in_place() {
        let file = File::open("/etc/passwd").unwrap();
        let error = replace_with(file.as_fd(), &["x".into()], &Luggage::default());
        assert!(
            error
                .to_string()
                .starts_with("cannot run another program in our place"),
            "{error}"
        );
    }
}
