//! A real strongSwan (Debian's charon-systemd with the user-space ESP of kernel-libipsec).

use std::path::PathBuf;

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::process::{Running, eventually, run_in, try_run_in};
use crate::world::World;

/// The programs a strongSwan scenario needs.
pub const PROGRAMS: &[&str] = &["charon-systemd", "swanctl", "tcpdump", "ip"];

/// One running charon.
pub struct Strongswan {
    process: Running,
    namespace: String,
    folder: PathBuf,
}

impl Strongswan {
    /// Starts charon in the peer's namespace with `swanctl` as its swanctl.conf and `options` added to the charon section.
    pub fn start(world: &World, swanctl: &str, options: &str) -> Self {
        Self::start_in(world, &world.peer(), swanctl, options)
    }

    /// Starts charon in a namespace of the world.
    pub fn start_in(world: &World, namespace: &str, swanctl: &str, options: &str) -> Self {
        let folder = world.folder().join(format!("charon-{namespace}"));
        for kind in ["x509", "x509ca", "private"] {
            std::fs::create_dir_all(folder.join(kind)).expect("scratch folder");
        }
        let section = format!(
            "  load = random nonce aes sha1 sha2 md4 md5 des hmac kdf openssl gcm pem pkcs1 pkcs8 x509 revocation constraints pubkey curve25519 \
             kernel-libipsec kernel-netlink socket-default vici updown eap-identity eap-mschapv2\n  install_routes = yes\n  \
             retransmit_tries = 3\n  retransmit_timeout = 1\n  threads = 16\n  filelog {{ f {{ path = {0}/charon.log\n default = 1\n ike = 2\n flush_line = yes }} }}\n  \
             syslog {{ }}\n{options}\n  plugins {{ vici {{ socket = unix://{0}/vici }} }}\n",
            folder.display()
        );
        let conf = format!(
            "charon {{\n{section}}}\ncharon-systemd {{\n{section} journal {{ default = -1 }}\n}}\n\
             swanctl {{ load = pem pkcs1 pkcs8 x509 pubkey openssl random }}\n"
        );
        std::fs::write(folder.join("strongswan.conf"), conf).expect("strongswan.conf");
        std::fs::write(folder.join("swanctl.conf"), swanctl).expect("swanctl.conf");
        let conf_path = folder.join("strongswan.conf").to_string_lossy().into_owned();
        let process = Running::start(
            namespace,
            &["charon-systemd"],
            &[("STRONGSWAN_CONF", &conf_path)],
            &folder.join("stdout.log"),
        );
        let peer = Self {
            process,
            namespace: namespace.to_owned(),
            folder,
        };
        eventually("charon's control socket", || {
            peer.swanctl(&["--stats"]).0.then_some(())
        });
        run_in(namespace, &["ip", "link", "set", "ipsec0", "txqueuelen", "5000"]);
        enlarge_buffers(peer.process.pid()).expect("larger buffers for charon's sockets");
        peer
    }

    /// Folder for `x509`, `x509ca`, `private`: fill it before [`Strongswan::load`].
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Copies a file into its folder.
    pub fn copy(&self, from: &std::path::Path, to: &str) {
        std::fs::copy(from, self.folder.join(to)).expect("copy");
    }

    /// Loads connections, secrets and certificates.
    pub fn load(&self) {
        let file = self.folder.join("swanctl.conf").to_string_lossy().into_owned();
        let (ok, text) = self.swanctl(&["--load-all", "--file", &file]);
        assert!(ok, "swanctl --load-all: {text}");
    }

    /// Runs swanctl; returns whether it succeeded and what it printed.
    pub fn swanctl(&self, arguments: &[&str]) -> (bool, String) {
        let conf = self.folder.join("strongswan.conf").to_string_lossy().into_owned();
        let uri = format!("unix://{}/vici", self.folder.display());
        let mut all = vec!["swanctl"];
        all.extend(arguments);
        all.extend(["--uri", &uri]);
        try_run_in(&self.namespace, &all, &[("STRONGSWAN_CONF", &conf)])
    }

    /// Initiates a child and fails the scenario when that fails.
    pub fn initiate(&self, child: &str) {
        let (ok, text) = self.swanctl(&["--initiate", "--child", child, "--timeout", "10"]);
        assert!(ok, "swanctl --initiate {child}: {text}\n{}", self.log());
    }

    /// Its view of the security associations.
    pub fn sas(&self) -> String {
        self.swanctl(&["--list-sas"]).1
    }

    /// ESP SPIs of its installed child SAs: (inbound, outbound) in hexadecimal, as listed.
    pub fn spis(&self) -> Vec<(String, String)> {
        let text = self.sas();
        let mut pairs = Vec::new();
        let mut inbound = None;
        for line in text.lines().map(str::trim) {
            let spi = |line: &str| {
                line.split_whitespace()
                    .nth(1)
                    .map(|spi| spi.trim_end_matches(',').to_owned())
            };
            if line.starts_with("in ") {
                inbound = spi(line);
            } else if line.starts_with("out ")
                && let (Some(inbound), Some(outbound)) = (inbound.take(), spi(line))
            {
                pairs.push((inbound, outbound));
            }
        }
        pairs
    }

    /// What charon logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("charon.log")).unwrap_or_default()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Running {
        &mut self.process
    }
}

/// Gives a process larger receive buffers than it asked for: charon keeps the system's default, which a busy machine overflows in a few
/// milliseconds, and a loss there would not be ours.
fn enlarge_buffers(pid: u32) -> std::io::Result<()> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    let process = pidfd_open(raw, PidfdFlags::empty())?;
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let is_socket = std::fs::read_link(entry.path())
            .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        if let (true, Some(number)) = (
            is_socket,
            entry.file_name().to_str().and_then(|name| name.parse().ok()),
        ) {
            let socket = pidfd_getfd(&process, number, PidfdGetfdFlags::empty())?;
            set_socket_recv_buffer_size_force(&socket, 8 << 20)?;
        }
    }
    Ok(())
}
