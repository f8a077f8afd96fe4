//! The system calls that each facility may make: those of every process, and a few more.
//!
//! What is not listed is refused (`EPERM`). What no process of ours ever does, and whoever took one over would do first, kills it: the crash list
//! says SIGSYS then.

use bus::Facility;
use libc::c_long;
use netio::Error;
use netio::seccomp::{Call, Filter, When};

/// The filter of a facility.
///
/// # Errors
/// A table that no program can be made of.
pub(crate) fn filter(facility: Facility) -> Result<Filter, Error> {
    let mut allowed: Vec<Call> = EVERYBODY.iter().copied().map(Call::always).collect();
    allowed.extend_from_slice(CONDITIONAL);
    match facility {
        // Addresses and routes.
        Facility::Vpnmgr => allowed.extend_from_slice(NETLINK),
        // The C library loads what knows the names of users (nsswitch.conf(5)).
        Facility::Sct => allowed.extend([Call::always(libc::SYS_mmap), Call::always(libc::SYS_mprotect)]),
        _ => {}
    }
    match facility {
        Facility::Vpnmgr => {}
        _ => allowed.push(Call::when(libc::SYS_socket, When::OneOf(0, LOCAL_SOCKETS))),
    }
    match facility {
        Facility::Sct => {}
        _ => allowed.extend_from_slice(NO_NEW_CODE),
    }
    // clone3(2) hides its arguments in memory; without it the C library takes clone(2).
    Filter::new(KILLED, &[libc::SYS_clone3], &allowed)
}

/// What every process does: packets first, for a filter is read from its beginning by kernels before 5.11.
const EVERYBODY: &[c_long] = &[
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_futex,
    // Waiting and telling.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_create,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_pselect6,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_pipe2,
    // Sockets that it has, and connections of the bus.
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_socketpair,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    // Files, as far as it reaches any.
    libc::SYS_openat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    libc::SYS_readlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_mkdirat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    RENAMEAT,
    libc::SYS_renameat2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    libc::SYS_unlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_flock,
    libc::SYS_umask,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_memfd_create,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_membarrier,
    libc::SYS_get_mempolicy,
    libc::SYS_mbind,
    // Time and chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
    libc::SYS_getrandom,
    // Threads and itself.
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getgroups,
    libc::SYS_getrusage,
    libc::SYS_prlimit64,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getrlimit,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_capget,
    // Signals.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

#[cfg(target_arch = "x86_64")]
const RENAMEAT: c_long = libc::SYS_renameat;
/// asm-generic/unistd.h; the crate has it not for this architecture.
#[cfg(target_arch = "aarch64")]
const RENAMEAT: c_long = 38;

/// What every process does with these arguments only.
const CONDITIONAL: &[Call] = &[
    // Threads, not processes.
    Call::when(libc::SYS_clone, When::With(0, libc::CLONE_THREAD as u32)),
    // Whatever a descriptor offers, but typing into the terminal that the node was started from.
    Call::when(
        libc::SYS_ioctl,
        When::NoneOf(1, &[libc::TIOCSTI as u32, libc::TIOCLINUX as u32]),
    ),
    // Names of threads and of memory; nothing that would take protection back.
    Call::when(
        libc::SYS_prctl,
        When::OneOf(
            0,
            &[
                libc::PR_SET_NAME as u32,
                libc::PR_GET_NAME as u32,
                libc::PR_SET_VMA as u32,
            ],
        ),
    ),
];

/// Memory that can be written is never executed, and no code is added.
const NO_NEW_CODE: &[Call] = &[
    Call::when(libc::SYS_mmap, When::Without(2, libc::PROT_EXEC as u32)),
    Call::when(libc::SYS_mprotect, When::Without(2, libc::PROT_EXEC as u32)),
];

/// Every other socket comes from `sit`.
const LOCAL_SOCKETS: &[u32] = &[libc::AF_UNIX as u32];

const NETLINK: &[Call] = &[
    Call::when(
        libc::SYS_socket,
        When::OneOf(0, &[libc::AF_UNIX as u32, libc::AF_NETLINK as u32]),
    ),
    Call::always(libc::SYS_bind),
];

/// What only somebody else does in our place.
const KILLED: &[c_long] = &[
    // Other programs, and the memory of others.
    libc::SYS_execve,
    libc::SYS_execveat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_userfaultfd,
    // It makes calls that no filter sees.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_perf_event_open,
    // Other users and other namespaces.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_capset,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_by_handle_at,
    // The machine.
    libc::SYS_bpf,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    libc::SYS_personality,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_can_be_made_of_every_table() {
        for facility in Facility::ALL {
            filter(*facility).unwrap();
        }
    }

    #[test]
    fn nothing_is_allowed_and_killed() {
        let tables = [CONDITIONAL, NETLINK, NO_NEW_CODE].concat();
        for call in EVERYBODY
            .iter()
            .copied()
            .chain(tables.iter().map(|call| call.number))
        {
            assert!(!KILLED.contains(&call), "{call}");
        }
    }
}
