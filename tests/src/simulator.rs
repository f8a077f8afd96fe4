//! Our own initiator as the peer: `starward sim tunnel`, which ends in a TUN device of the peer's namespace.

use crate::node::binary;
use crate::process::{Running, eventually};
use crate::world::World;

/// Inner address of the simulator.
pub const INNER: &str = "10.20.1.2";
/// Its identity.
pub const IDENTITY: &str = "enb0.sim.test";
/// The pre-shared key it has, unless told otherwise.
pub const SECRET: &str = "correct horse battery";

/// A running `starward sim tunnel`.
pub struct Simulator {
    process: Running,
}

impl Simulator {
    /// Sets a tunnel up from `local` to `gateway`, with more options of the command; fails the scenario when it does not come up.
    pub fn start(world: &World, local: &str, gateway: &str, options: &[&str]) -> Self {
        let program = binary();
        let mut arguments = vec![program.as_str(), "sim", "tunnel"];
        arguments.extend(["--local", local, "--gateway", gateway, "--psk", SECRET]);
        arguments.extend(["--inner", INNER, "--protected", "10.20.2.0/24"]);
        arguments.extend(options);
        let mut process = Running::start(
            &world.peer(),
            &arguments,
            &[],
            &world.folder().join("simulator.log"),
        );
        eventually("the simulator's tunnel", || {
            assert!(!process.ended(), "the simulator ended: {}", process.log());
            process.log().contains("tunnel up:").then_some(())
        });
        Self { process }
    }

    /// ESP SPIs of the child SA it sends with: (inbound, outbound) as eight hexadecimal digits.
    pub fn spis(&self) -> (String, String) {
        let log = self.log();
        let line = log.lines().rfind(|line| line.starts_with("tunnel "));
        let after = |label: &str| {
            line.and_then(|line| line.split_once(label))
                .and_then(|(_, rest)| rest.get(..8))
                .unwrap_or_else(|| panic!("the simulator says no '{label}': {log}"))
                .to_owned()
        };
        (after("inbound SPI 0x"), after("outbound SPI 0x"))
    }

    /// Waits until it printed this.
    pub fn said(&self, words: &str) {
        eventually(&format!("'{words}' from the simulator"), || {
            self.log().contains(words).then_some(())
        });
    }

    /// What it printed.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Running {
        &mut self.process
    }
}
