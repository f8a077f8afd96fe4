//! Which system calls a process may make (seccomp(2)): a classic BPF program over the number of the call and its arguments.
//!
//! | a call | what becomes of it |
//! |---|---|
//! | of another architecture, or one that is [`killed`](Filter::new) | the process dies of SIGSYS |
//! | one that is allowed, with arguments that are | it is made |
//! | one that is said to be missing | `ENOSYS`, so that the C library takes an older one whose arguments can be looked at |
//! | any other | `EPERM` |
//!
//! A call that is allowed whatever its arguments costs nothing: the kernel finds that out once and keeps it in a bitmap.

use std::io;
use std::mem::offset_of;

use libc::{c_long, seccomp_data, sock_filter, sock_fprog};

use crate::Error;

/// A system call that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number (`libc::SYS_...`).
    pub number: c_long,
    /// With which arguments.
    pub when: When,
}

/// What an argument must be like. The lower 32 bits of it are looked at: the calls with conditions take no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Whatever the arguments.
    Always,
    /// The argument of this number (from 0) has one of these values.
    OneOf(u8, &'static [u32]),
    /// The argument of this number has none of these values.
    NoneOf(u8, &'static [u32]),
    /// The argument of this number has none of these bits.
    Without(u8, u32),
    /// The argument of this number has these bits, all of them.
    With(u8, u32),
}

impl Call {
    /// A call that is allowed whatever its arguments.
    pub const fn always(number: c_long) -> Self {
        Self {
            number,
            when: When::Always,
        }
    }

    /// A call that is allowed with some arguments.
    pub const fn when(number: c_long, when: When) -> Self {
        Self { number, when }
    }
}

/// The program.
#[derive(Clone)]
pub struct Filter {
    instructions: Vec<sock_filter>,
}

impl Filter {
    /// The program for these calls. One that is both killed and allowed is killed.
    ///
    /// # Errors
    /// A condition with more values than a jump is long (200).
    pub fn new(killed: &[c_long], missing: &[c_long], allowed: &[Call]) -> Result<Self, Error> {
        let mut program = vec![
            statement(LOAD, ARCHITECTURE_PLACE),
            jump(IF_EQUAL, ARCHITECTURE, 1, 0),
            statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS),
            statement(LOAD, NUMBER_PLACE),
        ];
        #[cfg(target_arch = "x86_64")]
        program.extend([
            // The x32 calls have the same architecture and numbers of their own.
            jump(IF_AT_LEAST, X32_BIT, 0, 1),
            statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS),
        ]);
        let always = |calls: &[c_long], verdict: u32, program: &mut Vec<sock_filter>| {
            for call in calls {
                program.extend([jump(IF_EQUAL, number(*call), 0, 1), statement(RETURN, verdict)]);
            }
        };
        always(killed, libc::SECCOMP_RET_KILL_PROCESS, &mut program);
        always(
            missing,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
            &mut program,
        );
        for call in allowed {
            let body = conditional(call.when);
            let past = u8::try_from(body.len())
                .ok()
                .filter(|length| *length <= LONGEST)
                .ok_or(Error::Invalid {
                    what: "the number of values of an argument",
                    expected: "at most 200",
                })?;
            program.push(jump(IF_EQUAL, number(call.number), 0, past));
            program.extend(body);
        }
        program.push(statement(RETURN, REFUSED));
        Ok(Self {
            instructions: program,
        })
    }

    /// Puts it in force for every thread of this process, for good and for all that it starts. The process must have forbidden itself new
    /// privileges ([`crate::task::forbid_new_privileges`]). Whom it kills, the kernel's audit log tells.
    pub fn install(&self) -> Result<(), Error> {
        let action = "restrict the system calls";
        let program = sock_fprog {
            len: u16::try_from(self.instructions.len()).map_err(|_| Error::Invalid {
                what: "the length of a filter of system calls",
                expected: "below 65536 instructions",
            })?,
            filter: self.instructions.as_ptr().cast_mut(),
        };
        // Before Linux 5.16 a filter slows the process down, against attacks by code of others that runs in it; there is none.
        let flags = libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        // SAFETY: `program` describes our instructions, which live through the call; the kernel copies them and writes nothing.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                std::ptr::from_ref(&program),
            )
        };
        match result {
            0 => Ok(()),
            // With TSYNC: the first thread that could not follow.
            thread if thread > 0 => Err(Error::system(
                action,
                io::Error::other(format!("thread {thread} has restrictions of its own")),
            )),
            _ => Err(Error::system(action, io::Error::last_os_error())),
        }
    }
}

/// What follows when the number is the call's: it always ends.
fn conditional(when: When) -> Vec<sock_filter> {
    let allowed = statement(RETURN, libc::SECCOMP_RET_ALLOW);
    let refused = statement(RETURN, REFUSED);
    let mut body = match when {
        When::Always => return vec![allowed],
        When::OneOf(argument, values) => {
            let mut body = vec![load(argument)];
            body.extend(values.iter().zip((1..=values.len()).rev()).map(|(value, left)| {
                // Past the values that are left and the refusal; a list that is too long is refused as a whole.
                jump(IF_EQUAL, *value, u8::try_from(left).unwrap_or(u8::MAX), 0)
            }));
            body
        }
        When::NoneOf(argument, values) => {
            let mut body = vec![load(argument)];
            body.extend(values.iter().zip((0..values.len()).rev()).map(|(value, left)| {
                // To the refusal behind the values that are left; past it from the last one.
                let jump_to = u8::try_from(left).unwrap_or(u8::MAX);
                jump(IF_EQUAL, *value, jump_to, u8::from(left == 0))
            }));
            body
        }
        When::Without(argument, bits) => vec![load(argument), jump(IF_BITS, bits, 0, 1)],
        When::With(argument, bits) => vec![load(argument), statement(AND, bits), jump(IF_EQUAL, bits, 1, 0)],
    };
    body.extend([refused, allowed]);
    body
}

/// Calls are numbered from 0; a negative one is none, and no number of a call.
fn number(call: c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

/// Loads the lower half of an argument.
fn load(argument: u8) -> sock_filter {
    let lower = if cfg!(target_endian = "big") { 4 } else { 0 };
    statement(LOAD, ARGUMENTS_PLACE + 8 * u32::from(argument) + lower)
}

fn statement(code: u16, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

const REFUSED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
/// Instructions behind the test of a number: a jump goes 255 far.
const LONGEST: u8 = 203;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
#[cfg(target_arch = "x86_64")]
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const IF_BITS: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const NUMBER_PLACE: u32 = offset_of!(seccomp_data, nr) as u32;
const ARCHITECTURE_PLACE: u32 = offset_of!(seccomp_data, arch) as u32;
const ARGUMENTS_PLACE: u32 = offset_of!(seccomp_data, args) as u32;

/// AUDIT_ARCH_X86_64 (linux/audit.h): EM_X86_64, 64 bits, little-endian.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
/// AUDIT_ARCH_AARCH64: EM_AARCH64, 64 bits, little-endian.
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
#[cfg(target_arch = "x86_64")]
const X32_BIT: u32 = 0x4000_0000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs a program as the kernel does, for a call with one interesting argument.
    fn verdict(filter: &Filter, architecture: u32, number: u32, arguments: [u32; 6]) -> u32 {
        let word = |place: u32| match place {
            NUMBER_PLACE => number,
            ARCHITECTURE_PLACE => architecture,
            place => arguments[((place - ARGUMENTS_PLACE) / 8) as usize],
        };
        let (mut at, mut value) = (0, 0);
        loop {
            let step = &filter.instructions[at];
            at += 1;
            let taken = match step.code {
                LOAD => {
                    value = word(step.k);
                    continue;
                }
                AND => {
                    value &= step.k;
                    continue;
                }
                RETURN => return step.k,
                IF_EQUAL => value == step.k,
                IF_BITS => value & step.k != 0,
                _ => value >= step.k,
            };
            at += usize::from(if taken { step.jt } else { step.jf });
        }
    }

    const ALLOWED: [Call; 5] = [
        Call::always(1),
        Call::when(2, When::OneOf(0, &[7, 9, 11])),
        Call::when(3, When::Without(2, 4)),
        Call::when(4, When::With(0, 0x30)),
        Call::when(6, When::NoneOf(1, &[5, 8])),
    ];
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

    fn filter() -> Filter {
        Filter::new(&[10], &[20], &ALLOWED).unwrap()
    }

    #[test]
    fn each_call_gets_its_verdict() {
        let of = |number, arguments| verdict(&filter(), ARCHITECTURE, number, arguments);
        assert_eq!(of(1, [0; 6]), ALLOW);
        for value in [7, 9, 11] {
            assert_eq!(of(2, [value, 0, 0, 0, 0, 0]), ALLOW);
        }
        assert_eq!(of(2, [8, 7, 7, 7, 7, 7]), REFUSED);
        assert_eq!(of(3, [4, 4, 3, 4, 4, 4]), ALLOW);
        assert_eq!(of(3, [0, 0, 6, 0, 0, 0]), REFUSED);
        assert_eq!(of(4, [0x71, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(of(4, [0x10, 0, 0, 0, 0, 0]), REFUSED);
        assert_eq!(of(6, [5, 6, 5, 8, 0, 0]), ALLOW);
        for value in [5, 8] {
            assert_eq!(of(6, [0, value, 0, 0, 0, 0]), REFUSED);
        }
        assert_eq!(of(10, [0; 6]), KILL);
        assert_eq!(of(20, [0; 6]), libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
        assert_eq!(of(5, [0; 6]), REFUSED);
        assert_eq!(verdict(&filter(), 0, 1, [0; 6]), KILL);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(of(X32_BIT | 1, [0; 6]), KILL);
    }

    #[test]
    fn a_list_that_no_jump_spans_is_refused() {
        static MANY: [u32; 201] = [0; 201];
        let filter = |values| Filter::new(&[], &[], &[Call::when(1, When::OneOf(0, values))]);
        assert!(filter(&MANY).is_err());
        assert!(filter(&MANY[..200]).is_ok());
    }

    proptest! {
        #[test]
        fn nothing_but_what_is_allowed_passes(number: u32, arguments: [u32; 6]) {
            let passes = verdict(&filter(), ARCHITECTURE, number, arguments) == ALLOW;
            let may = match number {
                1 => true,
                2 => [7, 9, 11].contains(&arguments[0]),
                3 => arguments[2] & 4 == 0,
                4 => arguments[0] & 0x30 == 0x30,
                _ => false,
            };
            prop_assert_eq!(passes, may);
        }
    }
}
