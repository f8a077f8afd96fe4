//! A version of the software whose `ipsecmgr` starts and never serves. What else it has to be it leaves to the file `starward` beside it.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use sit::{Options, TakeOver};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["run", ..] => run(&words),
        ["ipsecmgr", "--instance", instance] => match instance.parse() {
            Ok(instance) => task::main(bus::Facility::Ipsecmgr, instance, |task| async move {
                task.shutdown.requested().await;
            }),
            Err(_) => ExitCode::FAILURE,
        },
        _ => {
            let Ok(own) = std::env::current_exe() else {
                return ExitCode::FAILURE;
            };
            let error = Command::new(own.with_file_name("starward"))
                .args(&arguments)
                .exec();
            eprintln!("{}: {error}", own.display());
            ExitCode::FAILURE
        }
    }
}

/// Is `sit`, which has taken over.
fn run(words: &[&str]) -> ExitCode {
    let value = |option: &str| {
        let place = words.iter().position(|word| *word == option)?;
        words.get(place + 1).map(|word| (*word).to_owned())
    };
    let path = |option: &str| value(option).map(PathBuf::from);
    let number = |option: &str| value(option)?.parse().ok();
    let (Some(config), Some(state_dir), Some(run_dir)) =
        (path("--config"), path("--state-dir"), path("--run-dir"))
    else {
        return ExitCode::FAILURE;
    };
    let mut options = Options::new(config, state_dir, run_dir);
    options.take_over = number("--take-over").map(|state| TakeOver {
        state,
        predecessor: number("--predecessor"),
        refused: value("--refused"),
    });
    match sit::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
