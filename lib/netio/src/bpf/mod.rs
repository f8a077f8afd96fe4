//! bpf(2), as far as it is needed here: maps, programs, links.

pub(crate) mod assembly;

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::Error;

/// linux/bpf.h: enum bpf_cmd.
const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
/// enum bpf_map_type.
const TYPE_HASH: u32 = 1;
const TYPE_ARRAY: u32 = 2;
const TYPE_XSKMAP: u32 = 17;
/// Whoever has the map may map it into his memory.
const MAPPABLE: u32 = 1 << 10;
/// enum bpf_attach_type.
const ATTACH_XDP: u32 = 37;
/// linux/if_link.h: by the stack, for every device; by the driver.
const FLAG_GENERIC: u32 = 1 << 1;
const FLAG_DRIVER: u32 = 1 << 2;

/// What the verifier says of a program that it refuses.
const LOG_BYTES: usize = 64 << 10;

/// What runs a program (enum bpf_prog_type).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgramKind {
    /// Whoever attaches it to a socket, or to the queues of a TUN.
    SocketFilter = 1,
    /// A device, for each frame that comes.
    Xdp = 6,
}

/// The beginning of union bpf_attr for MAP_CREATE.
#[repr(C)]
struct MapCreate {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
    flags: u32,
}

/// For MAP_UPDATE_ELEM and MAP_DELETE_ELEM.
#[repr(C, align(8))]
struct MapElement {
    map: u32,
    /// To the place of the pointers.
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// For PROG_LOAD.
#[repr(C, align(8))]
struct ProgramLoad {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    device: u32,
    attach: u32,
}

/// For LINK_CREATE.
#[repr(C)]
struct LinkCreate {
    program: u32,
    device: u32,
    attach: u32,
    flags: u32,
}

/// For LINK_UPDATE.
#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    former: u32,
}

/// Map of addresses, each with a number.
pub(crate) fn create_address_map(entries: u32) -> Result<OwnedFd, Error> {
    create_map(TYPE_HASH, 16, 4, entries, 0)
}

/// Map of AF_XDP sockets by the number of their queue.
pub(crate) fn create_socket_map(entries: u32) -> Result<OwnedFd, Error> {
    create_map(TYPE_XSKMAP, 4, 4, entries, 0)
}

/// Map of one number, by the key 0.
pub(crate) fn create_number() -> Result<OwnedFd, Error> {
    create_map(TYPE_ARRAY, 4, 4, 1, 0)
}

/// Map of one value of so many octets, which is memory that processes can map.
pub(crate) fn create_shared_memory(octets: u32) -> Result<OwnedFd, Error> {
    create_map(TYPE_ARRAY, 4, octets, 1, MAPPABLE)
}

/// Puts a value to a key of the size that the map has.
pub(crate) fn set(map: impl AsFd, key: &[u8], value: u32) -> io::Result<()> {
    element(MAP_UPDATE_ELEM, map, key, Some(&value))
}

/// Takes a key out.
pub(crate) fn remove(map: impl AsFd, key: &[u8]) -> io::Result<()> {
    element(MAP_DELETE_ELEM, map, key, None)
}

/// Loads a program.
pub(crate) fn load(kind: ProgramKind, code: &[u64]) -> Result<OwnedFd, Error> {
    let license = match kind {
        ProgramKind::SocketFilter => c"Apache-2.0",
        // As its source file says. The kernel's own routing may be asked by programs alone that are under its licence too.
        ProgramKind::Xdp => c"GPL and additional rights",
    };
    let mut log = vec![0u8; LOG_BYTES];
    let mut name = [0; 16];
    name.iter_mut()
        .zip(b"starward")
        .for_each(|(to, from)| *to = *from);
    let mut attributes = ProgramLoad {
        kind: kind as u32,
        instructions: u32::try_from(code.len()).unwrap_or(u32::MAX),
        code: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 1,
        log_bytes: LOG_BYTES as u32,
        log: log.as_mut_ptr() as u64,
        kernel_version: 0,
        flags: 0,
        name,
        device: 0,
        attach: match kind {
            ProgramKind::Xdp => ATTACH_XDP,
            ProgramKind::SocketFilter => 0,
        },
    };
    // SAFETY: the pointers are to `code`, a string and `log`, of the lengths given, and all live through the call.
    unsafe { call(PROG_LOAD, &mut attributes) }.map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::ENOSYS) => not_allowed(),
        _ => {
            // What stands behind its end was taken back.
            let text = log.split(|octet| *octet == 0).next().unwrap_or_default();
            let text = String::from_utf8_lossy(text);
            let last = text.lines().rev().nth(1).unwrap_or_default();
            Error::system(format!("load a BPF program ({last})"), error)
        }
    })
}

/// Attaches a program to a device of the calling thread's namespace: by the driver, or by the stack. It is detached when the link is closed.
pub(crate) fn attach(program: impl AsFd, device: u32, native: bool) -> io::Result<OwnedFd> {
    let mut attributes = LinkCreate {
        program: number(program),
        device,
        attach: ATTACH_XDP,
        flags: if native { FLAG_DRIVER } else { FLAG_GENERIC },
    };
    // SAFETY: no pointers.
    unsafe { call(LINK_CREATE, &mut attributes) }
}

/// Puts another program in the place of the one that a link attached, with no packet in between that sees neither.
pub(crate) fn replace(link: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let mut attributes = LinkUpdate {
        link: number(link),
        program: number(program),
        flags: 0,
        former: 0,
    };
    // SAFETY: no pointers.
    unsafe { raw(LINK_UPDATE, &mut attributes) }.map(drop)
}

fn create_map(
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
    flags: u32,
) -> Result<OwnedFd, Error> {
    let mut attributes = MapCreate {
        kind,
        key_bytes,
        value_bytes,
        entries,
        flags,
    };
    // SAFETY: no pointers.
    unsafe { call(MAP_CREATE, &mut attributes) }.map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::ENOSYS) => not_allowed(),
        _ => Error::system("create a map for a BPF program", error),
    })
}

fn element(command: libc::c_int, map: impl AsFd, key: &[u8], value: Option<&u32>) -> io::Result<()> {
    let mut attributes = MapElement {
        map: number(map),
        padding: 0,
        key: key.as_ptr() as u64,
        value: value.map_or(0, |value| std::ptr::from_ref(value) as u64),
        flags: 0,
    };
    // SAFETY: the pointers are to `key` and `value`, which live through the call and are as long as the map's own; the kernel writes to neither.
    unsafe { raw(command, &mut attributes) }.map(drop)
}

pub(crate) fn not_allowed() -> Error {
    Error::Unavailable {
        what: "BPF".into(),
        remedy: "it needs a kernel with BPF_SYSCALL (AF_XDP: XDP_SOCKETS too), and root (CAP_BPF and CAP_NET_ADMIN) outside user namespaces",
    }
}

fn number(fd: impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd().cast_unsigned()
}

/// A command that gives a descriptor.
///
/// # Safety
/// As for [`raw`].
unsafe fn call<T>(command: libc::c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: by the caller's promise.
    let fd = unsafe { raw(command, attributes) }?;
    // SAFETY: the kernel has just given it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// `T` is laid out as the beginning of union bpf_attr for this command, and what it points to is as long as it says and lives through the call.
unsafe fn raw<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: by the caller's promise; the kernel takes what is missing of the union as zero.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(libc::c_int::try_from(result).unwrap_or(-1))
}
