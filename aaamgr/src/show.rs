//! `show` and `clear` commands about AAA: text from the state, nothing else asked.

use std::net::IpAddr;
use std::time::Instant;

use bus::Facility;
use bus::messages::common::{Execute, Output};
use config::Exec;
use radius::{Counter, ServerState, ServerStatus};
use telemetry::time::{Civil, Zone};

use crate::channel::{Channel, state_name};
use crate::settings::ChannelKey;
use crate::state::State;

/// Runs a command of the table.
pub fn execute(state: &mut State, request: &Execute) -> Output {
    let text = match Exec::from_id(&request.command) {
        Some(Exec::ShowRadiusCounters) => {
            let address = request.value("server").and_then(|address| address.parse().ok());
            counters(
                state,
                &request.context,
                address,
                request.value("port").and_then(|port| port.parse().ok()),
            )
        }
        Some(Exec::ShowRadiusServers) => servers(state, &request.context, request.has("detail")),
        Some(Exec::ShowAaaStatistics) => statistics(state),
        Some(Exec::ClearRadiusCounters) => {
            state
                .channels
                .values_mut()
                .for_each(|channel| channel.client_mut().clear_counters());
            String::new()
        }
        _ => return Output::failed(request.unknown_to(Facility::Aaamgr)),
    };
    text.into()
}

/// The channels that an operator in this context sees: in `local` all.
fn in_sight<'a>(state: &'a State, context: &'a str) -> impl Iterator<Item = (&'a ChannelKey, &'a Channel)> {
    let all = context.is_empty() || context == config::LOCAL;
    state
        .channels
        .iter()
        .filter(move |(key, _)| all || key.group.context == context)
}

fn counters(state: &State, context: &str, address: Option<IpAddr>, port: Option<u16>) -> String {
    let mut text = String::new();
    for (key, channel) in in_sight(state, context) {
        let wanted = |status: &ServerStatus<'_>| {
            address.is_none_or(|address| status.address.ip() == address)
                && port.is_none_or(|port| status.address.port() == port)
        };
        for status in channel.client().servers().filter(wanted) {
            text.push_str(&block(key, &status, channel));
        }
    }
    text
}

fn block(key: &ChannelKey, status: &ServerStatus<'_>, channel: &Channel) -> String {
    let title = if key.accounting {
        "Accounting server"
    } else {
        "Authentication server"
    };
    let mut text = format!(
        "{title} address {}, port {}, group {}, context {}\n",
        status.address.ip(),
        status.address.port(),
        key.group.name,
        key.group.context
    );
    let mut line = |label: &str, value: String| text.push_str(&format!("  {label:<44}{value:>12}\n"));
    for counter in Counter::ALL {
        if let Some(label) = label(*counter, key.accounting) {
            line(label, status.counters.get(*counter).to_string());
        }
    }
    line("Requests Pending", status.pending.to_string());
    line(
        "Requests Queued (all servers)",
        channel.client().queued().to_string(),
    );
    line("Consecutive Failures", status.consecutive_failures.to_string());
    let roundtrip = status
        .roundtrip
        .map_or_else(|| "-".to_owned(), |time| format!("{} us", time.as_micros()));
    line("Last Round Trip Time", roundtrip);
    line(
        "Responses from Unknown Addresses (all)",
        channel.client().strays().to_string(),
    );
    text.push('\n');
    text
}

/// The label of a counter; none for what cannot happen to such a server.
fn label(counter: Counter, accounting: bool) -> Option<&'static str> {
    Some(match (counter, accounting) {
        (Counter::RequestsSent, false) => "Access-Request Sent",
        (Counter::RequestsSent, true) => "Accounting-Request Sent",
        (Counter::RequestsRetried, false) => "Access-Request Retried",
        (Counter::RequestsRetried, true) => "Accounting-Request Retried",
        (Counter::RequestTimeouts, false) => "Access-Request Timeouts",
        (Counter::RequestTimeouts, true) => "Accounting-Request Timeouts",
        (Counter::ChallengesReceived, false) => "Access-Challenge Received",
        (Counter::AcceptsReceived, false) => "Access-Accept Received",
        (Counter::RejectsReceived, false) => "Access-Reject Received",
        (Counter::ResponsesReceived, true) => "Accounting-Response Received",
        (Counter::BadAuthenticator, _) => "Responses with Bad Authenticator",
        (Counter::NoMessageAuthenticator, false) => "Responses without Message-Authenticator",
        (Counter::BadMessageAuthenticator, _) => "Responses with Bad Message-Authenticator",
        (Counter::Malformed, _) => "Responses Malformed",
        (Counter::MalformedAttribute, _) => "Responses with Malformed Attribute",
        (Counter::UnknownType, _) => "Responses of Unknown Type",
        (Counter::Dropped, _) => "Responses Dropped",
        (Counter::DeclaredDead, _) => "Times Declared Dead",
        _ => return None,
    })
}

fn servers(state: &State, context: &str, detail: bool) -> String {
    let mut text = format!(
        "{:<4} {:<40} {:<6} {:<20} {:<16} {:>8} State\n{:-<4} {:-<40} {:-<6} {:-<20} {:-<16} {:->8} ------\n",
        "Type", "IP Address", "Port", "Group", "Context", "Priority", "", "", "", "", "", ""
    );
    let zone = Zone::local();
    for (key, channel) in in_sight(state, context) {
        for status in channel.client().servers() {
            let left = match status.state {
                ServerState::Active => String::new(),
                ServerState::Down { until } => {
                    let left = until.saturating_duration_since(Instant::now());
                    format!(" (for {} more seconds)", left.as_secs())
                }
            };
            text.push_str(&format!(
                "{:<4} {:<40} {:<6} {:<20} {:<16} {:>8} {}{left}\n",
                if key.accounting { "ACCT" } else { "AUTH" },
                status.address.ip().to_string(),
                status.address.port(),
                key.group.name,
                key.group.context,
                status.priority,
                state_name(status.state),
            ));
            for change in channel.history(status.address).filter(|_| detail) {
                let word = if change.active { "Active" } else { "Down" };
                text.push_str(&format!(
                    "       {}  {word}\n",
                    Civil::local(change.time, &zone).asctime()
                ));
            }
        }
    }
    text
}

/// The counters of the node that this task moves.
fn statistics(state: &State) -> String {
    telemetry::show::sections(
        |row| row.facility == "aaamgr",
        |counter| state.counters.get(counter),
    )
}
