//! Waiting for descriptors (epoll) and waking a waiter (eventfd).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::Error;

/// Waits for many descriptors at once: the loop of a pinned thread. Level-triggered.
#[derive(Debug)]
pub struct Poller {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

impl Poller {
    /// A poller that reports up to `most` descriptors at once.
    pub fn new(most: usize) -> Result<Self, Error> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|e| Error::system("create an epoll descriptor", e))?;
        Ok(Self {
            epoll,
            events: vec![EpollEvent::empty(); most.max(1)],
        })
    }

    /// Reports `token` whenever `source` can be read (or is at its end). Closing the last duplicate of `source` ends that.
    pub fn add(&self, source: impl AsFd, token: u64) -> Result<(), Error> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, token);
        self.epoll
            .add(source, event)
            .map_err(|e| Error::system("wait for a descriptor", e))
    }

    /// Reports `source` no more.
    pub fn remove(&self, source: impl AsFd) -> Result<(), Error> {
        self.epoll
            .delete(source)
            .map_err(|e| Error::system("stop waiting for a descriptor", e))
    }

    /// Waits until something can be read or `timeout` is over (`None` = forever; rounded up to milliseconds), and returns the tokens. An interruption by a
    /// signal returns none.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<impl Iterator<Item = u64> + '_> {
        let timeout = match timeout {
            None => EpollTimeout::NONE,
            Some(timeout) => {
                let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
                EpollTimeout::try_from(i32::try_from(milliseconds).unwrap_or(i32::MAX))
                    .unwrap_or(EpollTimeout::MAX)
            }
        };
        let ready = match self.epoll.wait(&mut self.events, timeout) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        Ok(self.events.iter().take(ready).map(EpollEvent::data))
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.0.as_raw_fd()
    }
}

/// Wakes whoever waits for it, also in another process. Readable from [`raise`](Self::raise) to [`clear`](Self::clear).
#[derive(Debug)]
pub struct Event {
    fd: OwnedFd,
}

impl Event {
    /// A new one, not raised.
    pub fn new() -> Result<Self, Error> {
        let fd = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|e| Error::system("create an event descriptor", e))?;
        Ok(Self { fd: fd.into() })
    }

    /// Raises it.
    pub fn raise(&self) {
        // EAGAIN: raised 2^64 - 2 times already.
        let _ = nix::unistd::write(&self.fd, &1u64.to_ne_bytes());
    }

    /// Clears it; true when it was raised.
    pub fn clear(&self) -> bool {
        nix::unistd::read(&self.fd, &mut [0; 8]).is_ok()
    }
}

impl From<OwnedFd> for Event {
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Event {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raised_events_are_reported_by_token_until_cleared() {
        let mut poller = Poller::new(8).unwrap();
        let events = [Event::new().unwrap(), Event::new().unwrap()];
        poller.add(&events[0], 10).unwrap();
        poller.add(&events[1], 11).unwrap();
        let tokens = |poller: &mut Poller| poller.wait(Some(Duration::ZERO)).unwrap().collect::<Vec<_>>();
        assert_eq!(tokens(&mut poller), []);
        events[1].raise();
        events[1].raise();
        assert_eq!(tokens(&mut poller), [11]);
        assert!(events[1].clear());
        assert!(!events[1].clear());
        assert_eq!(tokens(&mut poller), []);
        events[0].raise();
        poller.remove(&events[0]).unwrap();
        assert_eq!(tokens(&mut poller), []);
    }
}
