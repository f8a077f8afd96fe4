//! `show` and `clear` commands about sessions: text from the state, nothing else asked.

use std::time::Instant;

use bus::Facility;
use bus::messages::common::{Execute, Output, Total};
use config::{Exec, LOCAL};
use services::DisconnectReason;
use telemetry::counters::wsg;
use telemetry::{Reader, Scope};

use crate::session::{Phase, Session};
use crate::state::State;

/// Runs a command of the table.
pub fn execute(state: &mut State, request: &Execute) -> Output {
    let filter = Filter {
        context: &request.context,
        user: request.value("username"),
        service: request.value("service"),
    };
    match Exec::from_id(&request.command) {
        Some(Exec::ShowSubscribers) if request.has("summary") => summary(state, &filter),
        Some(Exec::ShowSubscribers) => subscribers(state, &filter, request.has("full"), &request.cursor),
        Some(Exec::ClearSubscribers) => clear(state, &filter),
        Some(Exec::ShowServiceAll) => services(state),
        Some(Exec::ShowWsgServiceStatistics) => statistics(state, &request.context, request.value("name")),
        _ => Output::failed(request.unknown_to(Facility::Sessmgr)),
    }
}

/// Which sessions a command is about. In `local` an operator sees those of every context.
struct Filter<'a> {
    context: &'a str,
    user: Option<&'a str>,
    service: Option<&'a str>,
}

impl Filter<'_> {
    fn takes(&self, session: &Session) -> bool {
        let here = in_sight(self.context, &session.service.context);
        let user = self.user.is_none_or(|user| {
            session.user().as_bytes() == user.as_bytes() || session.identity.to_string() == user
        });
        here && user
            && self
                .service
                .is_none_or(|service| *session.service.name == *service)
    }
}

fn in_sight(from: &str, context: &str) -> bool {
    from.is_empty() || from == LOCAL || from == context
}

fn subscribers(state: &State, filter: &Filter<'_>, full: bool, cursor: &[u8]) -> Output {
    let heading = format!(
        "+------Call State: (A) - Arrived   (C) - Connected   (D) - Disconnecting\n\
         |\n\
         |+-----Type:       (R) - WSG remote access   (S) - WSG site to site\n\
         ||\n\
         vv CALLID   {:<28} {:<28} {:<40} {:<9} TIME-CONN\n\
         -- -------- {:-<28} {:-<28} {:-<40} {:-<9} ---------\n",
        "MSID", "USERNAME", "IP", "TIME-IDLE", "", "", "", ""
    );
    let now = Instant::now();
    let after = <[u8; 8]>::try_from(cursor).ok().map(u64::from_be_bytes);
    let mut text = String::new();
    let (mut last, mut value) = (after, 0);
    let mut sessions = state.sessions.after(after);
    for (ike_spi, session) in sessions.by_ref().take(PIECE) {
        last = Some(ike_spi);
        if filter.takes(session) {
            text.push_str(&if full {
                whole(session, ike_spi, now)
            } else {
                line(session, now)
            });
            value += 1;
        }
    }
    let more = sessions.next().is_some();
    let cursor = last
        .filter(|_| more)
        .map(|last| last.to_be_bytes().to_vec())
        .unwrap_or_default();
    let totals = Total::all([("Total subscribers matching specified criteria", value)]);
    let heading = if full { String::new() } else { heading };
    Output {
        heading,
        text,
        cursor,
        more,
        totals,
        ..Output::default()
    }
}

fn line(session: &Session, now: Instant) -> String {
    let phase = match session.phase {
        Phase::Arrived => 'A',
        Phase::Connected => 'C',
        Phase::Disconnecting => 'D',
    };
    let kind = if session.service.remote_access { 'R' } else { 'S' };
    let given = [&session.ipv4, &session.ipv6].into_iter().flatten();
    let mut addresses: Vec<String> = given.map(|given| given.address.to_string()).collect();
    if addresses.is_empty() {
        addresses.push(format!("peer {}", session.peer));
    }
    let since =
        |begin: Option<Instant>| begin.map_or(0, |begin| now.saturating_duration_since(begin).as_secs());
    format!(
        "{phase}{kind} {:08x} {:<28} {:<28} {:<40} {:<9} {}\n",
        session.call & 0xffff_ffff,
        session.identity.to_string(),
        session.user().to_string(),
        addresses.join(","),
        clock(since(Some(session.active))),
        clock(since(session.connected)),
    )
}

/// Everything about a session, one value a line.
fn whole(session: &Session, ike_spi: u64, now: Instant) -> String {
    let given = |assigned: &Option<Box<crate::session::Assigned>>| {
        assigned.as_ref().map_or_else(
            || "none".to_owned(),
            |given| format!("{}/{}", given.address, given.prefix_length),
        )
    };
    let spis: Vec<String> = session.spis.iter().map(|spi| format!("{spi:#010x}")).collect();
    let dns: Vec<String> = session.dns().iter().map(ToString::to_string).collect();
    let since = |begin: Option<Instant>| {
        clock(begin.map_or(0, |begin| now.saturating_duration_since(begin).as_secs()))
    };
    let rows = [
        ("Username", session.user().to_string()),
        ("MSID", session.identity.to_string()),
        ("Callid", format!("{:08x}", session.call & 0xffff_ffff)),
        ("State", format!("{:?}", session.phase)),
        ("Source context", session.service.context.to_string()),
        ("Service", session.service.name.to_string()),
        ("Peer address", session.peer.to_string()),
        ("IP address", given(&session.ipv4)),
        ("IPv6 address", given(&session.ipv6)),
        (
            "DNS servers",
            if dns.is_empty() {
                "none".to_owned()
            } else {
                dns.join(" ")
            },
        ),
        ("IKE SPI", format!("{ike_spi:#018x}")),
        ("Inbound SPIs", spis.join(" ")),
        ("Accounting session", session.accounting_id()),
        ("Connect time", since(session.connected)),
        ("Idle time", since(Some(session.active))),
        (
            "Input packets/octets",
            format!("{}/{}", session.usage.packets_in, session.usage.bytes_in),
        ),
        (
            "Output packets/octets",
            format!("{}/{}", session.usage.packets_out, session.usage.bytes_out),
        ),
    ];
    let lines = rows
        .iter()
        .map(|(label, value)| format!("{label:<24}: {value}\n"));
    lines.chain(["\n".to_owned()]).collect()
}

fn summary(state: &State, filter: &Filter<'_>) -> Output {
    let mut counts = [0; SUMMARY.len()];
    for (_, session) in state
        .sessions
        .after(None)
        .filter(|(_, session)| filter.takes(session))
    {
        let facts = [
            true,
            session.phase == Phase::Connected,
            session.phase == Phase::Arrived,
            session.phase == Phase::Disconnecting,
            session.service.remote_access,
            !session.service.remote_access,
            session.ipv4.is_some(),
            session.ipv6.is_some(),
        ];
        counts
            .iter_mut()
            .zip(facts)
            .for_each(|(count, fact)| *count += u64::from(fact));
    }
    Output::of_totals(SUMMARY.into_iter().zip(counts))
}

fn clear(state: &mut State, filter: &Filter<'_>) -> Output {
    let chosen = state
        .sessions
        .after(None)
        .filter(|(_, session)| filter.takes(session));
    let chosen: Vec<u64> = chosen.map(|(ike_spi, _)| ike_spi).collect();
    let value = chosen.len() as u64;
    state.end_all(chosen, DisconnectReason::Admin);
    Output::of_totals([("Number of subscribers cleared", value)])
}

/// All workers know the same services: the first one tells about them, with the sessions that all have counted.
fn services(state: &State) -> Output {
    let heading = format!(
        "{:<11} {:<11} {:<20} {:<20} {:<13} {:>8}   Type\n{:-<11} {:-<11} {:-<20} {:-<20} {:-<13} {:->8}   ----\n",
        "ContextID", "ServiceID", "ContextName", "ServiceName", "State", "Sessions", "", "", "", "", "", ""
    );
    if state.worker != FIRST {
        return Output::default();
    }
    let counters = match Reader::open(&state.pages) {
        Ok(counters) => counters,
        Err(error) => return Output::failed(error),
    };
    let row = |(number, (context_name, context, name, _)): (
        usize,
        (&str, &config::Context, &str, &config::WsgService),
    )| {
        let sessions = counters.scoped_sum(&Scope::wsg(context_name, name), wsg::CURRENT_SESSIONS);
        let status = telemetry::show::wsg_state(&counters, context_name, name);
        format!(
            "{:<11} {:<11} {context_name:<20} {name:<20} {status:<13} {sessions:>8}   wsg\n",
            context.id,
            number + 1
        )
    };
    let text = state.config.wsg_services().enumerate().map(row).collect();
    Output {
        heading,
        text,
        ..Output::default()
    }
}

/// The counters of services over all workers, told by the first one.
fn statistics(state: &State, context: &str, name: Option<&str>) -> Output {
    if state.worker != FIRST {
        return Output::default();
    }
    let known = |(of, _, service, _): (&str, &config::Context, &str, &config::WsgService)| {
        in_sight(context, of) && name.is_some_and(|name| name == service)
    };
    if let (Some(name), false) = (name, state.config.wsg_services().any(known)) {
        return Output::failed(format!("there is no wsg-service {name} here"));
    }
    match Reader::open(&state.pages) {
        Ok(counters) => {
            let wanted = |scope: &Scope| {
                in_sight(context, &scope.context) && name.is_none_or(|name| name == scope.name)
            };
            telemetry::show::wsg_statistics(&counters, wanted).into()
        }
        Err(error) => Output::failed(error),
    }
}

/// Hours, minutes, seconds as the manuals print them: `00h01m05s`.
fn clock(seconds: u64) -> String {
    format!(
        "{:02}h{:02}m{:02}s",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// Lines of the summary.
const SUMMARY: [&str; 8] = [
    "Total Subscribers",
    "Active",
    "In Progress",
    "Disconnecting",
    "wsg-remote-access",
    "wsg-site-to-site",
    "wsg-simple-ipv4",
    "wsg-simple-ipv6",
];
/// Sessions looked at for one piece of output.
const PIECE: usize = 200;
/// The worker that tells what all know.
const FIRST: u32 = 1;
