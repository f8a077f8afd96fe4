//! What the shell shows by itself.

use command::Args;
use config::Exec;
use telemetry::Reader;
use telemetry::show::Report;
use telemetry::time::{Civil, Zone, unix_seconds};

use crate::output::Output;
use crate::session::Session;

/// Shows it.
///
/// # Errors
/// The sentence after `Failure: `.
pub(crate) fn show(
    session: &Session,
    exec: Exec,
    args: &Args<'_>,
    output: &mut Output,
) -> Result<(), String> {
    match exec {
        Exec::ShowVersion => {
            output.line("Active Software:");
            output.line(&format!(
                "  Image Version:                  {}",
                env!("CARGO_PKG_VERSION")
            ));
            if args.has("verbose") {
                output.line(&format!(
                    "  Image Description:              {}",
                    env!("CARGO_PKG_DESCRIPTION")
                ));
                output.line(&format!(
                    "  Architecture:                   {}",
                    std::env::consts::ARCH
                ));
            }
        }
        Exec::ShowClock => output.line(&clock(args.has("universal"))),
        Exec::ShowTerminal => {
            output.line(&format!("Terminal length: {}", session.pages.length));
            output.line(&format!("Terminal width:  {}", session.pages.shown_width()));
            output.line(&format!(
                "Timestamps:      {}",
                if session.timestamps { "on" } else { "off" }
            ));
        }
        Exec::ShowCryptoStatistics => {
            let counters = Reader::open(&session.run_dir.join("counters"))
                .map_err(|error| format!("counters: {error}"))?;
            let report = if args.has("ikev2") {
                Report::CryptoStatisticsIkev2
            } else {
                Report::CryptoStatistics
            };
            output.text(&report.print(&counters));
        }
        other => return Err(format!("not supported: {}", other.id())),
    }
    Ok(())
}

/// `Monday July 11 11:05:31 ART 2022`
pub(crate) fn clock(universal: bool) -> String {
    let now = std::time::SystemTime::now();
    let zone = if universal { Zone::utc() } else { Zone::local() };
    Civil::local(now, &zone).long(&zone.offset(unix_seconds(now)).abbreviation)
}
