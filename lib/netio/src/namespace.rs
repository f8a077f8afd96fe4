//! Network namespaces: a context is one.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::fstat;

use crate::Error;

const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";
const NO_RIGHT: &str = "run as root, or let the node enter a user namespace";

/// A network namespace. It lives as long as this descriptor, a process in it, or a file it was [persisted](Self::persist) to.
#[derive(Debug)]
pub struct Namespace {
    fd: OwnedFd,
}

impl Namespace {
    /// Makes a new one, with nothing but a loopback interface, which is up.
    pub fn create() -> Result<Self, Error> {
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
                Errno::EPERM => Error::Unavailable {
                    what: "a new network namespace".into(),
                    remedy: NO_RIGHT,
                },
                errno => Error::system("create a network namespace", errno),
            })?;
            crate::interface::set_up("lo")?;
            Self::current()
        })?
    }

    /// The one of the calling thread.
    pub fn current() -> Result<Self, Error> {
        Self::open(Path::new(OWN_NAMESPACE))
    }

    /// The one a file stands for: `/run/netns/NAME`, `/proc/PID/ns/net`, or what [`persist`](Self::persist) made.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let action = || format!("open the network namespace {}", path.display());
        let file = File::open(path).map_err(|e| Error::system(action(), e))?;
        // Any file can be opened; only a namespace can be entered.
        let is_namespace = nix::sys::statfs::fstatfs(&file)
            .is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::NSFS_MAGIC);
        if !is_namespace {
            return Err(Error::system(
                action(),
                std::io::Error::other("not a network namespace"),
            ));
        }
        Ok(Self { fd: file.into() })
    }

    /// Gives it a name in the file system (a bind mount on the file `path`, made if missing), as `ip netns` does.
    pub fn persist(&self, path: &Path) -> Result<(), Error> {
        let action = || format!("mount a network namespace on {}", path.display());
        File::create(path).map_err(|e| Error::system(action(), e))?;
        let source = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        mount(
            Some(source.as_str()),
            path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .map_err(|e| Error::system(action(), e))
    }

    /// Takes the name away again. No error when there is none.
    pub fn remove(path: &Path) -> Result<(), Error> {
        let action = || format!("remove the network namespace {}", path.display());
        match umount2(path, MntFlags::MNT_DETACH) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => return Err(Error::system(action(), errno)),
        }
        match std::fs::remove_file(path) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::system(action(), e)),
        }
    }

    /// Runs `work` inside it, on a thread of its own, and waits. What `work` opens stays in the namespace; the caller never leaves its own.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        on_a_thread(|| {
            self.enter()?;
            Ok(work())
        })?
    }

    /// Moves the calling thread into it, for good. For threads and processes that live there.
    pub fn enter(&self) -> Result<(), Error> {
        setns(&self.fd, CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
            Errno::EPERM => Error::Unavailable {
                what: "entering a network namespace".into(),
                remedy: NO_RIGHT,
            },
            errno => Error::system("enter a network namespace", errno),
        })
    }

    /// Whether both are the same namespace.
    pub fn is_same(&self, other: &Namespace) -> bool {
        match (fstat(&self.fd), fstat(&other.fd)) {
            (Ok(one), Ok(two)) => (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino),
            _ => false,
        }
    }
}

impl From<OwnedFd> for Namespace {
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Namespace {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Makes the calling process root of a user namespace of its own, with its own network and mount namespaces: what an ordinary user needs
/// to run the node. The process must have one thread only.
///
/// [`Error::Unavailable`] when the system forbids user namespaces.
pub fn enter_user_namespace() -> Result<(), Error> {
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    unshare(flags).map_err(|errno| match errno {
        Errno::EPERM | Errno::ENOSPC | Errno::ENOSYS => forbidden(),
        Errno::EINVAL => Error::system(
            "enter a user namespace (the process has more than one thread)",
            errno,
        ),
        errno => Error::system("enter a user namespace", errno),
    })?;
    // In this order: an unprivileged process may map its group only after it gave up setgroups(2) (user_namespaces(7)).
    for (file, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {user} 1")),
        ("/proc/self/gid_map", format!("0 {group} 1")),
    ] {
        std::fs::write(file, text).map_err(|e| match e.kind() {
            std::io::ErrorKind::PermissionDenied => forbidden(),
            _ => Error::system(format!("write {file}"), e),
        })?;
    }
    // Mounts made from now on are nobody else's business. Also shows whether we really got the rights: some systems let the namespace be
    // made and then take every capability away.
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .map_err(|_| forbidden())?;
    crate::interface::set_up("lo").map_err(|_| forbidden())
}

fn forbidden() -> Error {
    Error::Unavailable {
        what: "a user namespace".into(),
        remedy: "run as root with CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW (a container: --cap-add), or allow them: sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0, \
                 kernel.apparmor_restrict_unprivileged_userns=0",
    }
}

/// Runs `work` on a thread of its own, which a change of namespace cannot outlive.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("namespace".into())
            .spawn_scoped(scope, work);
        match thread.map_err(|e| Error::system("start a thread", e))?.join() {
            Ok(value) => Ok(value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::is_root;

    #[test]
    fn work_runs_inside_and_the_caller_stays_outside() {
        if !is_root() {
            return;
        }
        let outside = Namespace::current().unwrap();
        let inside = Namespace::create().unwrap();
        assert!(!inside.is_same(&outside));
        let (seen, interfaces) = inside
            .run(|| {
                let names = nix::net::if_::if_nameindex().unwrap();
                (
                    Namespace::current().unwrap(),
                    names.iter().map(|i| i.name().to_owned()).collect::<Vec<_>>(),
                )
            })
            .unwrap();
        assert!(seen.is_same(&inside));
        assert_eq!(interfaces, [c"lo".to_owned()]);
        assert!(Namespace::current().unwrap().is_same(&outside));
    }

    #[test]
    fn a_persistent_namespace_is_found_again_and_removed() {
        if !is_root() {
            return;
        }
        let path = std::env::temp_dir().join(format!("swn-netns-{}", std::process::id()));
        let made = Namespace::create().unwrap();
        made.persist(&path).unwrap();
        assert!(Namespace::open(&path).unwrap().is_same(&made));
        Namespace::remove(&path).unwrap();
        assert!(Namespace::open(&path).is_err());
        Namespace::remove(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(
            Namespace::open(&path)
                .unwrap_err()
                .to_string()
                .ends_with("not a network namespace")
        );
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_child_can_be_started_inside() {
        if !is_root() {
            return;
        }
        let inside = Namespace::create().unwrap();
        let (ours, theirs) = crate::ControlSocket::pair().unwrap();
        let child = crate::Spawn::new("/bin/readlink")
            .argument("/proc/self/ns/net")
            .namespace(&inside)
            .unwrap();
        let mut child = child.quiet().spawn(&theirs).unwrap();
        assert!(child.wait().unwrap().success());
        let script = "readlink /proc/self/ns/net >&3";
        let child = crate::Spawn::new("/bin/sh")
            .argument("-c")
            .argument(script)
            .namespace(&inside)
            .unwrap();
        child.spawn(&theirs).unwrap().wait().unwrap();
        let mut buffer = [0; 64];
        let message = ours.receive(&mut buffer).unwrap().unwrap();
        let inode = fstat(&inside.fd).unwrap().st_ino;
        assert_eq!(
            std::str::from_utf8(&buffer[..message.length]).unwrap().trim(),
            format!("net:[{inode}]")
        );
    }
}
