//! A real FreeRADIUS in the node's namespace.

use std::path::PathBuf;
use std::process::Command;

use crate::process::{Running, eventually, run, try_run_in};
use crate::world::World;

/// The programs a FreeRADIUS scenario needs, besides the peer's.
pub const PROGRAMS: &[&str] = &["freeradius", "radtest", "openssl"];

/// The shared secret of every client.
pub const SECRET: &str = "testing123";

/// A running FreeRADIUS on 127.0.0.1:1812 and 1813 of the node's namespace.
pub struct Freeradius {
    process: Running,
    folder: PathBuf,
}

impl Freeradius {
    /// Starts a private copy of Debian's configuration with these users (`mods-config/files/authorize`).
    pub fn start(world: &World, users: &str) -> Self {
        let folder = world.folder().join("freeradius");
        run(&["cp", "-a", "/etc/freeradius/3.0", &folder.to_string_lossy()]);
        for module in ["ntlm_auth", "unix", "dynamic_clients", "sradutmp"] {
            let _ = std::fs::remove_file(folder.join("mods-enabled").join(module));
        }
        let name = folder.to_string_lossy().into_owned();
        edit(&folder.join("radiusd.conf"), |line| {
            let value = |name_: &str, value: &str| format!("{name_} = {value}");
            match line.split('=').next().map(str::trim) {
                Some(key @ ("logdir" | "run_dir" | "db_dir" | "raddbdir"))
                    if !line.starts_with(['#', '\t']) =>
                {
                    value(key, &name)
                }
                Some("user") if line.starts_with('\t') => "\tuser = root".to_owned(),
                Some("group") if line.starts_with('\t') => "\tgroup = root".to_owned(),
                _ => line.to_owned(),
            }
        });
        for site in ["default", "inner-tunnel"] {
            edit(&folder.join("sites-available").join(site), |line| {
                if line.trim() == "unix" {
                    format!("#{line}")
                } else {
                    line.to_owned()
                }
            });
        }
        let key = folder.join("server.key").to_string_lossy().into_owned();
        let certificate = folder.join("server.pem").to_string_lossy().into_owned();
        run(&[
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            &key,
            "-out",
            &certificate,
            "-days",
            "10",
            "-subj",
            "/CN=radius.test",
        ]);
        edit(&folder.join("mods-available/eap"), |line| {
            let indent = &line[..line.len() - line.trim_start().len()];
            match line.trim().split(" = ").next() {
                Some("private_key_password") => String::new(),
                Some("private_key_file") => format!("{indent}private_key_file = {key}"),
                Some("certificate_file") => format!("{indent}certificate_file = {certificate}"),
                Some("ca_file") => format!("{indent}ca_file = {certificate}"),
                Some("default_eap_type") if line.contains("md5") => {
                    format!("{indent}default_eap_type = mschapv2")
                }
                _ => line.to_owned(),
            }
        });
        std::fs::write(folder.join("mods-config/files/authorize"), users).expect("users");
        std::fs::write(
            folder.join("clients.conf"),
            format!("client all {{\n ipaddr = 0.0.0.0/0\n secret = {SECRET}\n}}\n"),
        )
        .expect("clients");
        let process = Running::start(
            &world.node(),
            &[
                "freeradius",
                "-d",
                &name,
                "-fxx",
                "-l",
                &folder.join("radius.log").to_string_lossy(),
            ],
            &[],
            &world.folder().join("freeradius.stdout"),
        );
        let server = Self { process, folder };
        eventually("FreeRADIUS to answer", || {
            let arguments = ["radtest", "probe", "probe", "127.0.0.1", "0", SECRET];
            try_run_in(&world.node(), &arguments, &[])
                .1
                .contains("Received Access-")
                .then_some(())
        });
        server
    }

    /// Its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("radius.log")).unwrap_or_default()
    }

    /// The accounting records it wrote.
    pub fn accounting(&self) -> String {
        let output = Command::new("find")
            .arg(self.folder.join("radacct"))
            .args(["-type", "f", "-exec", "cat", "{}", ";"])
            .output();
        output
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Running {
        &mut self.process
    }
}

/// Rewrites a file line by line; follows links.
fn edit(file: &std::path::Path, line: impl Fn(&str) -> String) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let text: String = text.lines().map(|old| line(old) + "\n").collect();
    std::fs::write(file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}
