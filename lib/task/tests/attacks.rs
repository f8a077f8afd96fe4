//! What an intruder tries first, from inside a process that is protected as each facility is: this test starts itself again for every attempt.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use bus::Facility;
use task::{Directories, Protection, testing};

/// Facility, attack, and where the node has its folders: `sct/execve//tmp/...`.
const ATTEMPT: &str = "TASK_TEST_ATTEMPT";
// Exit status of an attempt: the last one, when this machine has no protection against it.
const SUCCEEDED: i32 = 10;
const REFUSED: i32 = 11;
const UNPROTECTED: i32 = 12;

/// An attempt, and what it must come to.
struct Attack {
    name: &'static str,
    /// True when it succeeded.
    attempt: fn(&Scene) -> bool,
    end: End,
}

enum End {
    /// SIGSYS.
    Killed,
    Refused,
    /// Refused, but to the facility whose it is.
    RefusedBut(Facility),
    /// It succeeds.
    Works,
}

struct Scene {
    facility: Facility,
    folder: PathBuf,
}

const ATTACKS: &[Attack] = &[
    Attack {
        name: "execve",
        attempt: |_| nix::unistd::execv(c"/bin/true", &[c"true"]).is_ok(),
        end: End::Killed,
    },
    Attack {
        name: "spawn",
        attempt: |_| Command::new("/bin/true").status().is_ok(),
        // Nothing is started that could be killed.
        end: End::Refused,
    },
    Attack {
        name: "memory",
        attempt: |_| {
            let mut octets = [0; 8];
            let remote = nix::sys::uio::RemoteIoVec { base: 0x1000, len: 8 };
            let mut local = [std::io::IoSliceMut::new(&mut octets)];
            nix::sys::uio::process_vm_readv(nix::unistd::getppid(), &mut local, &[remote]).is_ok()
        },
        end: End::Killed,
    },
    Attack {
        name: "mount",
        attempt: |scene| {
            let none = None::<&str>;
            let flags = nix::mount::MsFlags::empty();
            nix::mount::mount(none, &scene.folder, Some("tmpfs"), flags, none).is_ok()
        },
        end: End::Killed,
    },
    Attack {
        name: "unshare",
        attempt: |_| nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).is_ok(),
        end: End::Killed,
    },
    Attack {
        name: "setuid",
        attempt: |_| nix::unistd::setuid(nix::unistd::Uid::from_raw(0)).is_ok(),
        end: End::Killed,
    },
    Attack {
        name: "dumpable",
        attempt: |_| nix::sys::prctl::set_dumpable(true).is_ok(),
        end: End::Refused,
    },
    Attack {
        name: "internet",
        attempt: |_| std::net::UdpSocket::bind("127.0.0.1:0").is_ok(),
        end: End::Refused,
    },
    Attack {
        name: "passwords",
        attempt: |_| fs::read("/etc/shadow").is_ok() || fs::read("/etc/group").is_ok(),
        end: End::Refused,
    },
    Attack {
        name: "list",
        attempt: |_| fs::read_dir("/").is_ok(),
        end: End::Refused,
    },
    Attack {
        name: "process",
        attempt: |_| fs::read(format!("/proc/{}/environ", nix::unistd::getppid())).is_ok(),
        end: End::Refused,
    },
    Attack {
        name: "master key",
        attempt: |scene| fs::read(scene.folder.join("state/sct/master.key")).is_ok(),
        end: End::RefusedBut(Facility::Sct),
    },
    Attack {
        name: "accounting",
        attempt: |scene| fs::write(scene.folder.join("state/aaamgr/accounting"), "").is_ok(),
        end: End::RefusedBut(Facility::Aaamgr),
    },
    Attack {
        name: "configuration",
        attempt: |scene| fs::write(scene.folder.join("etc/starward.cfg"), "").is_ok(),
        end: End::RefusedBut(Facility::Sct),
    },
    Attack {
        name: "socket of another",
        attempt: |scene| std::os::unix::net::UnixListener::bind(scene.folder.join("run/bus/sct-1")).is_ok(),
        end: End::Refused,
    },
    Attack {
        name: "counters of another",
        attempt: |scene| fs::write(scene.folder.join("run/counters/cli/cli-1"), "").is_ok(),
        end: End::Refused,
    },
    Attack {
        name: "own work",
        attempt: own_work,
        end: End::Works,
    },
];

impl Scene {
    fn directories(&self) -> [PathBuf; 3] {
        ["run", "state", "etc/starward.cfg"].map(|name| self.folder.join(name))
    }

    /// Makes the folders of a node, and something to steal.
    fn prepare(&self) {
        let [run, state, boot_config] = self.directories();
        let directories = Directories {
            run: &run,
            state: &state,
            boot_config: &boot_config,
        };
        for facility in Facility::ALL {
            for place in Protection::of(*facility).own {
                fs::create_dir_all(directories.path(*place)).unwrap();
            }
            fs::create_dir_all(directories.counters(*facility)).unwrap();
        }
        for folder in [&run.join("bus"), &self.folder.join("etc")] {
            fs::create_dir_all(folder).unwrap();
        }
        for file in [
            "state/sct/master.key",
            "state/aaamgr/accounting",
            "etc/starward.cfg",
        ] {
            fs::write(self.folder.join(file), "").unwrap();
        }
    }

    /// Has another process try it.
    fn attempt(&self, attack: &Attack) -> ExitStatus {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "attempt", "--nocapture"])
            .env(
                ATTEMPT,
                format!("{}/{}/{}", self.facility, attack.name, self.folder.display()),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
    }
}

/// Everything that a facility does with the system: threads, time, its folders.
fn own_work(scene: &Scene) -> bool {
    let [run, state, boot_config] = scene.directories();
    let directories = Directories {
        run: &run,
        state: &state,
        boot_config: &boot_config,
    };
    let own = Protection::of(scene.facility)
        .own
        .iter()
        .map(|place| directories.path(*place));
    let writes = own.chain([directories.counters(scene.facility)]).all(|folder| {
        let (new, file) = (folder.join("file.new"), folder.join("file"));
        fs::write(&new, "text").is_ok() && fs::rename(&new, &file).is_ok() && fs::remove_file(&file).is_ok()
    });
    let thread =
        std::thread::Builder::new().spawn(|| std::thread::sleep(std::time::Duration::from_millis(1)));
    // How fast its ports are.
    let ports = scene.facility != Facility::Vpnmgr || netio::interface::speed("lo").is_ok();
    let threads = thread.is_ok_and(|thread| thread.join().is_ok());
    writes && threads && ports && fs::read_dir(run.join("bus")).is_ok()
}

/// Not a test of its own: the attempt, when the environment says so.
#[test]
fn attempt() {
    let Ok(what) = std::env::var(ATTEMPT) else { return };
    let mut parts = what.splitn(3, '/');
    let scene = Scene {
        facility: parts.next().unwrap().parse().unwrap(),
        folder: PathBuf::new(),
    };
    let name = parts.next().unwrap();
    let scene = Scene {
        folder: PathBuf::from(parts.next().unwrap()),
        ..scene
    };
    let attack = ATTACKS.iter().find(|attack| attack.name == name).unwrap();
    let [run, state, boot_config] = scene.directories();
    let directories = Directories {
        run: &run,
        state: &state,
        boot_config: &boot_config,
    };
    let missing = testing::protect(scene.facility, directories);
    let status = match (attack.attempt)(&scene) {
        true if missing.is_empty() => SUCCEEDED,
        true => UNPROTECTED,
        false => REFUSED,
    };
    std::process::exit(status);
}

#[test]
fn an_intruder_gets_nowhere() {
    let folder = std::env::temp_dir().join(format!("task-attacks-{}", std::process::id()));
    for facility in Facility::ALL {
        if matches!(facility, Facility::Sit | Facility::Cli) {
            continue;
        }
        let scene = Scene {
            facility: *facility,
            folder: folder.clone(),
        };
        scene.prepare();
        for attack in ATTACKS {
            let status = scene.attempt(attack);
            if status.code() == Some(UNPROTECTED) {
                continue;
            }
            let as_expected = match attack.end {
                End::Killed => status.signal() == Some(31),
                End::RefusedBut(owner) if owner == *facility => status.code() == Some(SUCCEEDED),
                End::Refused | End::RefusedBut(_) => status.code() == Some(REFUSED),
                End::Works => status.code() == Some(SUCCEEDED),
            };
            assert!(as_expected, "{facility}, {}: {status}", attack.name);
        }
        fs::remove_dir_all(Path::new(&folder)).unwrap();
    }
}
