//! strongSwan: Debian's charon-systemd with the user-space ESP of kernel-libipsec.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::gateway::{Group, SECRET, Setting};
use crate::process::{Running, output, output_with, pinned};
use crate::world::{FIRST_INNER, GATEWAY, INITIATORS, INNER, PROTECTED, World};

const START_LIMIT: Duration = Duration::from_secs(10);
/// It has no tunnels worth deleting one by one.
const PATIENCE: Duration = Duration::from_millis(100);
/// The fastest order of its crypto plug-ins for AES-GCM.
const PLUGINS: &str = "random nonce aes sha1 sha2 hmac kdf openssl gcm pem pkcs1 pkcs8 x509 pubkey constraints curve25519 \
                       kernel-libipsec kernel-netlink socket-default vici";
/// Nothing that holds a load up: no cookies, no limits for half-open SAs, tables for many SAs, no log.
const OPTIONS: &str = "threads = 16
dos_protection = no
cookie_threshold = 0
block_threshold = 0
init_limit_half_open = 0
ikesa_table_size = 16384
ikesa_table_segments = 64
retransmit_timeout = 1
send_vendor_id = no
syslog { }
";

/// A charon in a namespace.
struct Charon<'a> {
    namespace: String,
    folder: PathBuf,
    swanctl: &'a str,
    /// See [`Setting::routes`].
    routes: bool,
    cpu: Option<usize>,
    /// See [`Setting::certificates`].
    certificates: Option<&'a Path>,
}

/// Its name and version.
pub fn name() -> String {
    let text = output(&["swanctl", "--version"]).unwrap_or_default();
    let version = text
        .split_whitespace()
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
        .unwrap_or_default();
    format!("strongSwan {version}").trim_end().to_owned()
}

/// Starts strongSwan as the gateway, for any number of initiators.
pub fn start_responder(world: &World, setting: &Setting) -> Result<Running, String> {
    world.address_gateway()?;
    let (local, remote) = match setting.certificates {
        None => ("auth = psk", "auth = psk"),
        Some(_) => (
            "auth = pubkey\n certs = gateway.pem",
            "auth = pubkey\n cacerts = root.pem",
        ),
    };
    let swanctl = format!(
        "connections {{\n gw {{\n  version = 2\n  unique = no\n  local_addrs = {GATEWAY}\n  mobike = no\n  rekey_time = 0\n  \
         proposals = {proposal}\n  local {{\n {local}\n id = secgw.example\n }}\n  remote {{\n {remote}\n id = %any\n }}\n  \
         children {{\n net {{\n local_ts = {PROTECTED}\n remote_ts = {INNER}\n esp_proposals = aes128gcm16\n rekey_time = 0\n }} }}\n }} }}\n\
         {secrets}",
        proposal = proposal(setting.group),
        secrets = secrets(),
    );
    Charon {
        namespace: world.gateway(),
        folder: world.folder().join("responder"),
        swanctl: &swanctl,
        routes: setting.routes,
        cpu: setting.cpu,
        certificates: setting.certificates.as_deref(),
    }
    .start()
}

/// Starts a second strongSwan with one tunnel to the gateway, and sets it up.
pub fn tunnel(world: &World, cpu: Option<usize>) -> Result<Running, String> {
    world.address(&world.ran(), "lo", &format!("{FIRST_INNER}/32"))?;
    let swanctl = format!(
        "connections {{\n gw {{\n  version = 2\n  local_addrs = {outer}\n  remote_addrs = {GATEWAY}\n  mobike = no\n  rekey_time = 0\n  \
         proposals = {proposal}\n  local {{\n auth = psk\n id = enb1.example\n }}\n  remote {{\n auth = psk\n id = secgw.example\n }}\n  \
         children {{\n net {{\n local_ts = {FIRST_INNER}/32\n remote_ts = {PROTECTED}\n esp_proposals = aes128gcm16\n rekey_time = 0\n }} }}\n }} }}\n\
         {secrets}",
        outer = INITIATORS[0],
        proposal = proposal(Group::Curve25519),
        secrets = secrets(),
    );
    let charon = Charon {
        namespace: world.ran(),
        folder: world.folder().join("initiator"),
        swanctl: &swanctl,
        routes: true,
        cpu,
        certificates: None,
    };
    let running = charon.start()?;
    charon.control(&["--initiate", "--child", "net", "--timeout", "10"])?;
    Ok(running)
}

impl Charon<'_> {
    fn start(&self) -> Result<Running, String> {
        std::fs::create_dir_all(&self.folder)
            .map_err(|error| format!("{}: {error}", self.folder.display()))?;
        let section = format!(
            "load = {PLUGINS}\ninstall_routes = {routes}\n{OPTIONS}plugins {{\n vici {{\n socket = {uri}\n }} }}\n\
             filelog {{\n f {{\n path = {log}\n default = -1\n }} }}\n",
            routes = if self.routes { "yes" } else { "no" },
            uri = self.uri(),
            log = self.folder.join("charon.log").display(),
        );
        let conf = format!(
            "charon {{\n{section}}}\ncharon-systemd {{\n{section}journal {{\n default = -1\n }} }}\n\
             swanctl {{\n load = pem pkcs1 pkcs8 x509 openssl random\n }}\n"
        );
        write(&self.conf(), &conf)?;
        let swanctl = self.folder.join("swanctl.conf");
        write(&swanctl, self.swanctl)?;
        for (from, to) in [
            ("root.pem", "x509ca"),
            ("gateway.pem", "x509"),
            ("gateway.key", "private"),
        ] {
            if let Some(folder) = self.certificates {
                copy(&folder.join(from), &self.folder.join(to), from)?;
            }
        }
        let pins = pinned(self.cpu);
        let pins: Vec<&str> = pins.iter().map(String::as_str).collect();
        let mut running = Running::start(
            &self.namespace,
            &[&*pins, &["charon-systemd"]].concat(),
            &[("STRONGSWAN_CONF", &self.conf().display().to_string())],
            self.folder.join("stdout.log"),
            PATIENCE,
        )?;
        running.wait_until("ready", START_LIMIT, |_| self.control(&["--stats"]).is_ok())?;
        self.control(&["--load-all", "--file", &swanctl.display().to_string()])?;
        Ok(running)
    }

    fn control(&self, arguments: &[&str]) -> Result<String, String> {
        let conf = self.conf().display().to_string();
        let uri = self.uri();
        let command = [&["swanctl"], arguments, &["--uri", &uri]].concat();
        output_with(&command, &[("STRONGSWAN_CONF", &conf)])
    }

    fn conf(&self) -> PathBuf {
        self.folder.join("strongswan.conf")
    }

    fn uri(&self) -> String {
        format!("unix://{}", self.folder.join("vici").display())
    }
}

fn proposal(group: Group) -> &'static str {
    match group {
        Group::Curve25519 => "aes128gcm16-prfsha256-curve25519",
        Group::Ecp256 => "aes128gcm16-prfsha256-ecp256",
    }
}

fn secrets() -> String {
    format!("secrets {{\n ike-1 {{\n secret = \"{SECRET}\"\n }} }}\n")
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn copy(from: &Path, folder: &Path, name: &str) -> Result<(), String> {
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::copy(from, folder.join(name)))
        .map(drop)
        .map_err(|error| format!("{}: {error}", from.display()))
}
