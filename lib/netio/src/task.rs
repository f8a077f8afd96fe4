//! What a process can say about itself to the kernel, and ask about itself and others.

use std::ffi::CString;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::Error;

/// Nanoseconds of CLOCK_MONOTONIC: the same clock in every process of the node.
pub fn monotonic_ns() -> u64 {
    // CLOCK_MONOTONIC exists on every Linux and never is negative.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
    })
}

/// Root with the capabilities that a node needs: the root of a container may lack them.
pub fn is_privileged() -> bool {
    let held = |capability| caps::has_cap(None, caps::CapSet::Effective, capability).unwrap_or(false);
    nix::unistd::geteuid().is_root()
        && held(caps::Capability::CAP_NET_ADMIN)
        && held(caps::Capability::CAP_NET_RAW)
        && held(caps::Capability::CAP_SYS_ADMIN)
}

/// Whether this process, by the will of whoever started it, ignores a signal (signal(7): ignored signals stay so over execve).
pub fn ignores(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal as u32 - 1) & 1 == 1)
}

/// Keeps this process out of core dumps and away from other processes' debuggers.
pub fn forbid_core_dumps() -> Result<(), Error> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|e| Error::system("set the core dump limit", e))?;
    nix::sys::prctl::set_dumpable(false).map_err(|e| Error::system("switch core dumps off", e))
}

/// Makes sure that nothing this process executes gains rights.
pub fn forbid_new_privileges() -> Result<(), Error> {
    nix::sys::prctl::set_no_new_privs().map_err(|e| Error::system("forbid new privileges", e))
}

/// Names the calling thread (the main thread's name is the process's in `ps` and `top`). Cut to 15 bytes.
pub fn set_name(name: &str) {
    let bytes: Vec<u8> = name.bytes().filter(|byte| *byte != 0).take(15).collect();
    if let Ok(name) = CString::new(bytes) {
        // A name is a convenience; nothing depends on it.
        let _ = nix::sys::prctl::set_name(&name);
    }
}

/// The CPUs the calling thread may run on, in order.
pub fn usable_cpus() -> Result<Vec<usize>, Error> {
    let set = sched_getaffinity(Pid::from_raw(0)).map_err(|e| Error::system("ask for the usable CPUs", e))?;
    Ok((0..CpuSet::count())
        .filter(|cpu| set.is_set(*cpu).unwrap_or(false))
        .collect())
}

/// Ties the calling thread to one CPU.
pub fn pin_to_cpu(cpu: usize) -> Result<(), Error> {
    stay_on_cpus(&[cpu])
}

/// Has the calling thread, and those that it starts from now on, run on these CPUs only.
pub fn stay_on_cpus(cpus: &[usize]) -> Result<(), Error> {
    let action = || format!("tie a thread to CPUs {cpus:?}");
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu).map_err(|e| Error::system(action(), e))?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).map_err(|e| Error::system(action(), e))
}

/// Raises the limit of open files as far as allowed, up to `files`. Returns the limit in force.
pub fn raise_open_files(files: u64) -> Result<u64, Error> {
    let (soft, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(|e| Error::system("ask for the open files limit", e))?;
    if soft >= files {
        return Ok(soft);
    }
    if setrlimit(Resource::RLIMIT_NOFILE, files, hard.max(files)).is_ok() {
        return Ok(files);
    }
    let most = files.min(hard);
    setrlimit(Resource::RLIMIT_NOFILE, most, hard)
        .map_err(|e| Error::system("raise the open files limit", e))?;
    Ok(most)
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceUsage {
    /// CPU time in its own code.
    pub user: Duration,
    /// CPU time in the kernel on its behalf.
    pub system: Duration,
    /// Resident memory in bytes, shared pages included.
    pub resident_bytes: u64,
    /// Open descriptors; 0 when that may not be asked.
    pub open_files: u64,
}

impl ResourceUsage {
    /// Of the calling process.
    pub fn own() -> Result<Self, Error> {
        let usage =
            getrusage(UsageWho::RUSAGE_SELF).map_err(|e| Error::system("ask for the resource usage", e))?;
        let time = |value: nix::sys::time::TimeVal| {
            Duration::new(
                value.tv_sec().unsigned_abs(),
                u32::try_from(value.tv_usec()).unwrap_or(0) * 1000,
            )
        };
        Ok(Self {
            user: time(usage.user_time()),
            system: time(usage.system_time()),
            ..Self::of(Pid::this())?
        })
    }

    /// Of any process, from `/proc`. CPU times are in the kernel's ticks of 10 ms.
    pub fn of(pid: Pid) -> Result<Self, Error> {
        let action = || format!("read the resource usage of process {pid}");
        let stat =
            std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|e| Error::system(action(), e))?;
        let malformed = || Error::system(action(), io::Error::from(io::ErrorKind::InvalidData));
        // proc_pid_stat(5): the name in parentheses may contain anything, so count from its end. utime is field 14, stime 15, rss 24.
        let (_, fields) = stat.rsplit_once(')').ok_or_else(malformed)?;
        let field = |number: usize| -> Result<u64, Error> {
            fields
                .split_whitespace()
                .nth(number - 3)
                .and_then(|text| text.parse().ok())
                .ok_or_else(malformed)
        };
        let per_second = system_value(nix::unistd::SysconfVar::CLK_TCK);
        let ticks = |count: u64| Duration::from_nanos(count.saturating_mul(1_000_000_000 / per_second));
        Ok(Self {
            user: ticks(field(14)?),
            system: ticks(field(15)?),
            resident_bytes: field(24)?.saturating_mul(system_value(nix::unistd::SysconfVar::PAGE_SIZE)),
            open_files: open_files(pid),
        })
    }
}

/// How many descriptors a process has open. From Linux 6.2 on everybody may know: it is the size of their folder. Before, only who may list it.
fn open_files(pid: Pid) -> u64 {
    let folder = format!("/proc/{pid}/fd");
    match std::fs::metadata(&folder) {
        Ok(metadata) if metadata.len() > 0 => metadata.len(),
        _ => std::fs::read_dir(folder).map_or(0, |entries| entries.count() as u64),
    }
}

/// Tells the service manager about us (sd_notify(3)): `READY=1`, `STOPPING=1`, `STATUS=...`. Does nothing when there is none (`NOTIFY_SOCKET` not set);
/// true when it was told.
pub fn notify_service_manager(state: &str) -> Result<bool, Error> {
    match std::env::var_os("NOTIFY_SOCKET") {
        Some(address) => notify_at(&address, state).map(|()| true),
        None => Ok(false),
    }
}

fn notify_at(address: &std::ffi::OsStr, state: &str) -> Result<(), Error> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::SocketAddr;
    let tell = || -> io::Result<()> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(address)?,
        };
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
        Ok(())
    };
    tell().map_err(|e| Error::system("notify the service manager", e))
}

/// A positive system constant.
fn system_value(name: nix::unistd::SysconfVar) -> u64 {
    nix::unistd::sysconf(name)
        .ok()
        .flatten()
        .and_then(|value| u64::try_from(value).ok())
        .map_or(1, |value| value.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_grows_with_work() {
        let before = ResourceUsage::own().unwrap();
        let mut block = vec![0u8; 8 << 20];
        let after = loop {
            block.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
            let after = ResourceUsage::own().unwrap();
            if after.user + after.system > before.user + before.system {
                break after;
            }
        };
        assert!(after.resident_bytes > 8 << 20 && block[0] > 0);
        assert!(after.open_files >= 3);
        assert!(ResourceUsage::of(Pid::from_raw(i32::MAX)).is_err());
    }

    #[test]
    fn an_ignored_signal_is_known() {
        // Rust programs start with SIGPIPE ignored.
        assert!(ignores(Signal::SIGPIPE));
        assert!(!ignores(Signal::SIGUSR2));
    }

    #[test]
    fn a_thread_can_be_tied_to_a_cpu() {
        std::thread::spawn(|| {
            let cpu = *usable_cpus().unwrap().last().unwrap();
            pin_to_cpu(cpu).unwrap();
            assert_eq!(usable_cpus().unwrap(), [cpu]);
            set_name("a name longer than fifteen bytes");
            assert_eq!(
                std::fs::read_to_string("/proc/thread-self/comm").unwrap(),
                "a name longer t\n"
            );
        })
        .join()
        .unwrap();
    }

    #[test]
    fn the_service_manager_hears_us() {
        let path = std::env::temp_dir().join(format!("swn-notify-{}", std::process::id()));
        let manager = UnixDatagram::bind(&path).unwrap();
        notify_at(path.as_os_str(), "READY=1").unwrap();
        let mut buffer = [0; 32];
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn open_files_limit_is_never_lowered() {
        let before = raise_open_files(0).unwrap();
        assert_eq!(raise_open_files(before).unwrap(), before);
    }
}
