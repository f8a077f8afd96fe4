//! Starting other processes and knowing when they are dead.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{ControlSocket, Error, Identity, Namespace};

/// How to start a child. It gets one descriptor besides the standard ones: number 3.
#[derive(Debug)]
pub struct Spawn {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    namespace: Option<OwnedFd>,
    identity: Option<Identity>,
    quiet: bool,
    parent_death: Option<Signal>,
}

impl Spawn {
    /// A child that runs `program`; it is killed when the thread that starts it ends.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            namespace: None,
            identity: None,
            quiet: false,
            parent_death: Some(Signal::SIGKILL),
        }
    }

    /// Adds an argument.
    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds to the environment.
    pub fn environment(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Starts it in this network namespace.
    pub fn namespace(mut self, namespace: &Namespace) -> Result<Self, Error> {
        let fd = namespace.as_fd().try_clone_to_owned();
        self.namespace = Some(fd.map_err(|e| Error::system("duplicate a namespace's descriptor", e))?);
        Ok(self)
    }

    /// Starts it as somebody else, for which we need the right.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Gives it /dev/null for its standard output and error; otherwise they are ours.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Which signal it gets when the thread that starts it ends; `None`: it lives on.
    pub fn parent_death(mut self, signal: Option<Signal>) -> Self {
        self.parent_death = signal;
        self
    }

    /// Starts it with `descriptor` as number 3.
    ///
    /// The death signal is tied to the calling *thread* (prctl(2), PR_SET_PDEATHSIG): call this from one that lives as long as the process.
    pub fn spawn(self, descriptor: impl AsFd) -> Result<Child, Error> {
        let action = || format!("start {}", self.program.display());
        // At or above 3, so that in any case number 3 is taken here and now: the pipe through which std reports a failed exec must not get
        // that number, for the child would overwrite it.
        let source = nix::fcntl::fcntl(
            descriptor,
            nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(ControlSocket::CHILD_FD),
        )
        .map_err(|e| Error::system(action(), e))?;
        // SAFETY: just duplicated for us.
        let source = unsafe { OwnedFd::from_raw_fd(source) };
        let source_fd = source.as_raw_fd();
        let namespace_fd = self.namespace.as_ref().map(AsRawFd::as_raw_fd);
        let identity = self.identity;
        let parent_death = self.parent_death;
        let parent = nix::unistd::getpid();
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(n, v)| (n, v)))
            .stdin(Stdio::null());
        if self.quiet {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        // SAFETY: the closure runs between fork and exec and makes plain system calls on values copied before: no allocation, no lock.
        unsafe {
            command.pre_exec(move || {
                prepare_child(source_fd, namespace_fd, identity.as_ref(), parent_death, parent)
            })
        };
        let child = command.spawn().map_err(|e| Error::system(action(), e))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        // Not waited for yet, so the number cannot be another process's.
        let pidfd = open_pidfd(pid).map_err(|e| Error::system(action(), e))?;
        Ok(Child::adopt(pid, pidfd))
    }
}

/// A started child. Readable (poll, epoll) once it is dead. Dropping it neither kills nor reaps it.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    /// How it ended, once it is reaped.
    status: Option<ExitStatus>,
}

impl Child {
    /// Takes over a child of this process that it started as another program, not reaped yet, with its pidfd.
    pub fn adopt(pid: Pid, pidfd: OwnedFd) -> Self {
        Self {
            pid,
            pidfd,
            status: None,
        }
    }

    /// Its process number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// How it ended, `None` while it lives. Reaps it, so that its number is free afterwards.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.reap(libc::WNOHANG)
    }

    /// Waits until it ends.
    pub fn wait(&mut self) -> Result<ExitStatus, Error> {
        loop {
            if let Some(status) = self.reap(0)? {
                return Ok(status);
            }
        }
    }

    fn reap(&mut self, options: libc::c_int) -> Result<Option<ExitStatus>, Error> {
        if self.status.is_some() {
            return Ok(self.status);
        }
        let mut status = 0;
        // SAFETY: the pointer is to a number that lives through the call.
        match unsafe { libc::waitpid(self.pid.as_raw(), &raw mut status, options) } {
            0 => {}
            pid if pid == self.pid.as_raw() => self.status = Some(ExitStatus::from_raw(status)),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(Error::system(format!("wait for process {}", self.pid), error)),
            },
        }
        Ok(self.status)
    }

    /// Sends it a signal. No error when it is dead already.
    pub fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        // Not reaped, so the number is still its own.
        kill(self.pid, signal).map_err(|e| Error::system(format!("send {signal} to process {}", self.pid), e))
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsRawFd for Child {
    fn as_raw_fd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }
}

/// Starts `command` inside a network namespace. It gets `signal` when the calling *thread* ends: call this from one that lives as long as the process.
pub fn spawn_inside(
    mut command: Command,
    namespace: &Namespace,
    signal: Signal,
) -> Result<std::process::Child, Error> {
    let namespace = namespace.as_raw_fd();
    let parent = nix::unistd::getpid();
    let prepare = move || {
        die_with(signal, parent)?;
        enter(namespace)
    };
    // SAFETY: the closure runs between fork and exec and makes plain system calls on values copied before: no allocation, no lock.
    unsafe { command.pre_exec(prepare) };
    command.spawn().map_err(|e| {
        let program = command.get_program().display();
        Error::system(format!("start {program}"), e)
    })
}

/// A descriptor that becomes readable when the process ends (pidfd_open(2)). The caller makes sure that the number is the process it means.
pub fn open_pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: a system call without pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = RawFd::try_from(fd)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(io::Error::last_os_error)?;
    // SAFETY: just opened for us; pidfds are close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs in the child, before exec.
fn prepare_child(
    source: RawFd,
    namespace: Option<RawFd>,
    identity: Option<&Identity>,
    parent_death: Option<Signal>,
    parent: Pid,
) -> io::Result<()> {
    if let Some(namespace) = namespace {
        enter(namespace)?;
    }
    if let Some(identity) = identity {
        identity.assume()?;
    }
    // After the change of user, which takes this back (prctl(2), PR_SET_PDEATHSIG).
    if let Some(signal) = parent_death {
        die_with(signal, parent)?;
    }
    // SAFETY: system calls on numbers only. dup2 onto itself would leave close-on-exec set, so that case clears it.
    let result = unsafe {
        if source == ControlSocket::CHILD_FD {
            libc::fcntl(source, libc::F_SETFD, 0)
        } else {
            libc::dup2(source, ControlSocket::CHILD_FD)
        }
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// In a child, before exec: has the kernel send it `signal` when the thread that started it ends.
fn die_with(signal: Signal, parent: Pid) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(signal)?;
    if nix::unistd::getppid() != parent {
        // The parent died before the line above; nobody would ever send the signal.
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

/// In a child, before exec: moves it into a network namespace.
fn enter(namespace: RawFd) -> io::Result<()> {
    // SAFETY: open in the parent while it waits for us.
    let namespace = unsafe { BorrowedFd::borrow_raw(namespace) };
    setns(namespace, CloneFlags::CLONE_NEWNET)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    fn shell(script: &str) -> Spawn {
        Spawn::new("/bin/sh").argument("-c").argument(script)
    }

    fn is_dead(child: &Child, milliseconds: u16) -> bool {
        poll(
            &mut [PollFd::new(child.as_fd(), PollFlags::POLLIN)],
            PollTimeout::from(milliseconds),
        )
        .unwrap()
            == 1
    }

    #[test]
    fn a_child_speaks_on_descriptor_3_and_its_end_is_seen() {
        let (ours, theirs) = ControlSocket::pair().unwrap();
        let mut child = shell(
            "printf hello >&3; line=$(dd bs=64 count=1 2>/dev/null <&3); printf \"$line $MORE\" >&3; exit 7",
        )
        .environment("MORE", "words")
        .spawn(&theirs)
        .unwrap();
        drop(theirs);
        let mut buffer = [0; 64];
        let message = ours.receive(&mut buffer).unwrap().unwrap();
        assert_eq!(&buffer[..message.length], b"hello");
        assert!(!is_dead(&child, 0));
        assert_eq!(child.try_wait().unwrap(), None);
        ours.send(b"some", &[]).unwrap();
        let message = ours.receive(&mut buffer).unwrap().unwrap();
        assert_eq!(&buffer[..message.length], b"some words");
        assert!(ours.receive(&mut buffer).unwrap().is_none());
        assert!(is_dead(&child, 5000));
        assert_eq!(child.wait().unwrap().code(), Some(7));
        child.signal(Signal::SIGKILL).unwrap();
    }

    #[test]
    fn a_signal_ends_a_child() {
        let (_ours, theirs) = ControlSocket::pair().unwrap();
        let mut child = shell("exec sleep 60").quiet().spawn(&theirs).unwrap();
        child.signal(Signal::SIGKILL).unwrap();
        assert!(is_dead(&child, 5000));
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn a_child_dies_with_the_thread_that_started_it() {
        let (_ours, theirs) = ControlSocket::pair().unwrap();
        let child = std::thread::spawn(move || shell("exec sleep 60").spawn(&theirs).unwrap())
            .join()
            .unwrap();
        assert!(is_dead(&child, 5000));
    }

    #[test]
    fn a_command_runs_inside_a_namespace_and_dies_with_the_thread_that_started_it() {
        if !crate::test::is_root() {
            return;
        }
        // A container's root may not make one.
        let Ok(namespace) = Namespace::create() else {
            return;
        };
        let start = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]).stdout(Stdio::piped());
            spawn_inside(command, &namespace, Signal::SIGKILL).unwrap()
        };
        let output = start("readlink /proc/self/ns/net").wait_with_output().unwrap();
        let inode = nix::sys::stat::fstat(&namespace).unwrap().st_ino;
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            format!("net:[{inode}]\n")
        );
        let mut child = std::thread::scope(|scope| scope.spawn(|| start("exec sleep 60")).join().unwrap());
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn a_missing_program_is_named() {
        let (_ours, theirs) = ControlSocket::pair().unwrap();
        let error = Spawn::new("/no/such/program").spawn(&theirs).unwrap_err();
        assert!(
            error.to_string().starts_with("cannot start /no/such/program: "),
            "{error}"
        );
    }

    #[test]
    fn no_other_socket_is_inherited() {
        let (ours, theirs) = ControlSocket::pair().unwrap();
        let _child = shell("ls -l /proc/$$/fd | grep -c socket: >&3")
            .spawn(&theirs)
            .unwrap();
        drop(theirs);
        let mut buffer = [0; 256];
        let message = ours.receive(&mut buffer).unwrap().unwrap();
        assert_eq!(&buffer[..message.length], b"1\n");
    }
}
