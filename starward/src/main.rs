//! The executable: every process of the node, and the tools around it. Nothing but dispatch.

mod directories;

use std::fmt::Display;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use bus::Facility;
use clap::{Args, Parser, Subcommand};

/// A carrier security gateway.
#[derive(Parser)]
#[command(name = "starward", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the node in the foreground (SIGTERM stops it in order)
    Run(Run),
    /// The shell of a running node
    Cli(cli::Shell),
    /// Validate a configuration file without starting anything
    Check(cli::Check),
    /// Ten simulated eNodeBs, a gateway and a host, live
    Demo(sim::Demo),
    /// Simulated eNodeBs and hosts, for load and tests
    #[command(subcommand)]
    Sim(Box<sim::Simulate>),
    /// Says what this executable can take over from a running node
    #[command(hide = true)]
    UpgradeCheck {
        /// Tries to read a state of a node from standard input
        #[arg(long)]
        state: bool,
    },
    /// A process of the node: started by `run`, of no use alone
    #[command(external_subcommand)]
    Manager(Vec<String>),
}

#[derive(Args)]
struct Run {
    /// Boot configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Directory for what is to survive the node
    #[arg(long, value_name = "DIR", default_value_os_t = directories::state())]
    state_dir: PathBuf,
    /// Directory for what lives as long as the node
    #[arg(long, value_name = "DIR", default_value_os_t = directories::run())]
    run_dir: PathBuf,
    /// Number of workers [default: what the configuration says, otherwise one for each processor]
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
    /// First of the numbers of the processes' users and groups, where there are no accounts 'starward-...' for them
    #[arg(long, value_name = "ID", default_value_t = sit::FIRST_USER, value_parser = clap::value_parser!(u32).range(1..=4_000_000_000))]
    first_user_id: u32,
    /// Descriptor of the state of the node that runs in this process and is taken over
    #[arg(long, hide = true, value_name = "FD")]
    take_over: Option<u32>,
    /// Descriptor of the executable that ran it until now
    #[arg(long, hide = true, requires = "take_over", value_name = "FD")]
    predecessor: Option<u32>,
    /// Why another executable could not take over
    #[arg(
        long,
        hide = true,
        requires = "take_over",
        value_name = "REASON",
        allow_hyphen_values = true
    )]
    refused: Option<String>,
}

/// What one version of the software leaves to the next, beside what `sit` knows of.
const FORMATS: [sit::Format; 1] = [sit::Format {
    name: "ike-records",
    oldest: ipsecmgr::OLDEST_RECORD_VERSION as u64,
    newest: ipsecmgr::RECORD_VERSION as u64,
}];

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(arguments) => run(arguments),
        Command::Cli(shell) => shell.run(directories::run()),
        Command::Check(check) => check.run(),
        Command::Demo(demo) => demo.run(),
        Command::Sim(simulate) => simulate.run(),
        Command::UpgradeCheck { state } => upgrade_check(state),
        Command::Manager(words) => match manager(&words) {
            Ok((facility, instance)) => live(facility, instance),
            Err(error) => fail(error),
        },
    }
}

fn run(arguments: Run) -> ExitCode {
    let Run {
        config,
        state_dir,
        run_dir,
        workers,
        first_user_id,
        take_over,
        predecessor,
        refused,
    } = arguments;
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let options = sit::Options {
        workers,
        first_user: first_user_id,
        formats: FORMATS.to_vec(),
        take_over: take_over.map(|state| sit::TakeOver {
            state,
            predecessor,
            refused,
        }),
        ..sit::Options::new(absolute(config), absolute(state_dir), absolute(run_dir))
    };
    match sit::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error),
    }
}

fn upgrade_check(state: bool) -> ExitCode {
    let stdin = || std::io::stdin().as_fd().try_clone_to_owned().map(File::from);
    let report = match state {
        true => stdin()
            .map_err(|error| error.to_string())
            .and_then(|mut file| sit::upgrade_report(&FORMATS, Some(&mut file))),
        false => sit::upgrade_report(&FORMATS, None),
    };
    match report {
        Ok(text) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => fail(error),
    }
}

/// Lives as a process of the node.
fn live(facility: Facility, instance: u32) -> ExitCode {
    match facility {
        Facility::Rmctrl => task::main(facility, instance, rmctrl::run),
        Facility::Sct => task::main(facility, instance, sct::run),
        Facility::Vpnmgr => task::main(facility, instance, vpnmgr::run),
        Facility::Ipsecmgr => task::main(facility, instance, ipsecmgr::run),
        Facility::Iftask => task::main(facility, instance, iftask::run),
        Facility::Sessmgr => task::main(facility, instance, sessmgr::run),
        Facility::Aaamgr => task::main(facility, instance, aaamgr::run),
        Facility::Certmgr => task::main(facility, instance, certmgr::run),
        Facility::Bulkstat => task::main(facility, instance, bulkstats::run),
        Facility::Snmp => task::main(facility, instance, snmp::run),
        Facility::Sit | Facility::Cli => fail(format!("{facility} is not started like this")),
    }
}

/// `FACILITY --instance N`.
fn manager(words: &[String]) -> Result<(Facility, u32), String> {
    let unknown = || {
        format!(
            "there is no command '{}'; 'starward --help' lists them",
            words.join(" ")
        )
    };
    let [facility, option, instance] = words else {
        return Err(unknown());
    };
    match (facility.parse(), option.as_str(), instance.parse()) {
        (Ok(facility), "--instance", Ok(instance)) => Ok((facility, instance)),
        _ => Err(unknown()),
    }
}

/// One line that says what is wrong.
fn fail(error: impl Display) -> ExitCode {
    // Whoever does not read any more misses nothing: the status tells the rest.
    let _ = writeln!(std::io::stderr(), "starward: {error}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_declaration_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn managers_are_found_by_name() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            manager(&words("ipsecmgr --instance 3")),
            Ok((Facility::Ipsecmgr, 3))
        );
        for wrong in [
            "ipsecmgr",
            "nonsense --instance 1",
            "ipsecmgr --instance x",
            "ipsecmgr --number 1",
        ] {
            let error = manager(&words(wrong)).unwrap_err();
            assert!(
                error.starts_with(&format!("there is no command '{wrong}'")),
                "{error}"
            );
        }
    }
}
