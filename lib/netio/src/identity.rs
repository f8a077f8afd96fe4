//! Who a child is: its user, and the few capabilities that it keeps.

use std::io;

use libc::{c_int, c_long};

/// A user for a child, instead of ours (credentials(7), capabilities(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// The capabilities it keeps, as far as we have them: bit `n` is capability `n`.
    pub capabilities: u64,
}

impl Identity {
    /// Turns the calling process into this, for good: also what it executes cannot become anything else.
    ///
    /// For a child between fork and exec: plain system calls, no allocation. (The C library's functions for it would tell other threads.)
    pub(crate) fn assume(&self) -> io::Result<()> {
        let mut header = CapabilityHeader {
            version: CAPABILITY_VERSION_3,
            process: 0,
        };
        let mut sets = [CapabilitySets::default(); 2];
        // SAFETY: header and sets are what version 3 of the call takes, and live through it.
        call(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) })?;
        let [low, high] = &mut sets;
        for (set, wanted) in [
            (low, self.capabilities as u32),
            (high, (self.capabilities >> 32) as u32),
        ] {
            // Inheritable while the bounding set lets it.
            set.inheritable = set.permitted & wanted;
        }
        // SAFETY: as above.
        call(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) })?;
        // SAFETY: prctl(2) with numbers.
        call(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) }.into())?;
        for capability in 0..=MOST_CAPABILITIES {
            // SAFETY: prctl(2) with numbers. What cannot be dropped is none, or we may not: it matters only for what we might execute.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
        // SAFETY: pointer and length describe the groups, which live through the call.
        call(unsafe { libc::syscall(libc::SYS_setgroups, self.groups.len(), self.groups.as_ptr()) })?;
        // SAFETY: system calls on numbers.
        call(unsafe { libc::syscall(libc::SYS_setresgid, self.group, self.group, self.group) })?;
        // SAFETY: as above.
        call(unsafe { libc::syscall(libc::SYS_setresuid, self.user, self.user, self.user) })?;
        for set in &mut sets {
            set.permitted = set.inheritable;
            set.effective = set.inheritable;
        }
        // SAFETY: as for capget.
        call(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) })?;
        let kept = u64::from(sets[0].permitted) | u64::from(sets[1].permitted) << 32;
        for capability in (0..=MOST_CAPABILITIES).filter(|capability| kept >> capability & 1 == 1) {
            // Over exec, a user who is not root keeps no others than these.
            // SAFETY: prctl(2) with numbers.
            let raised =
                unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) };
            call(raised.into())?;
        }
        Ok(())
    }
}

fn call(result: c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// struct __user_cap_header_struct.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    process: c_int,
}

/// struct __user_cap_data_struct, of which version 3 has two.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilitySets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// linux/capability.h: _LINUX_CAPABILITY_VERSION_3.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// The last that fits into the sets.
const MOST_CAPABILITIES: u64 = 63;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ControlSocket, Spawn};

    #[test]
    fn a_child_is_another_user_with_the_capabilities_named() {
        if !crate::test::is_root() {
            return;
        }
        let (ours, theirs) = ControlSocket::pair().unwrap();
        let identity = Identity {
            user: 60_799,
            group: 60_798,
            groups: vec![60_797],
            // CAP_NET_ADMIN
            capabilities: 1 << 12,
        };
        let mut child = Spawn::new("/bin/sh")
            .argument("-c")
            .argument("cat /proc/self/status >&3")
            .identity(identity)
            .spawn(&theirs)
            .unwrap();
        drop(theirs);
        let mut buffer = [0; 8192];
        let length = ours.receive(&mut buffer).unwrap().unwrap().length;
        let status = std::str::from_utf8(&buffer[..length]).unwrap().to_owned();
        assert!(child.wait().unwrap().success());
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(field("Uid:"), "60799 60799 60799 60799");
        assert_eq!(field("Gid:"), "60798 60798 60798 60798");
        assert_eq!(field("Groups:"), "60797");
        assert_eq!(field("CapEff:"), format!("{:016x}", 1 << 12));
        assert_eq!(field("CapPrm:"), format!("{:016x}", 1 << 12));
        assert_eq!(field("CapBnd:"), format!("{:016x}", 0));
    }

    #[test]
    fn a_child_of_another_user_dies_with_the_thread_that_started_it() {
        if !crate::test::is_root() {
            return;
        }
        let (_ours, theirs) = ControlSocket::pair().unwrap();
        let start = || {
            let identity = Identity {
                user: 60_799,
                group: 60_799,
                groups: Vec::new(),
                capabilities: 0,
            };
            let child = Spawn::new("/bin/sleep").argument("1000").identity(identity);
            child.spawn(&theirs).unwrap()
        };
        let mut child = std::thread::scope(|scope| scope.spawn(start).join().unwrap());
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }
}
