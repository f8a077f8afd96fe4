//! The loop.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bus::link::Links;
use bus::messages::sct::RevealSecret;
use bus::{Address, Facility};
use config::{Config, SecretText};
use radius::Secret;
use task::{ConfigFollower, Task};
use tokio::sync::mpsc;
use tokio::time::{interval, sleep_until};

use crate::bus_api;
use crate::error::Error;
use crate::settings::{ChannelKey, Secrets, Settings};
use crate::sockets::{Sockets, Wanted};
use crate::spool::Spool;
use crate::state::State;

/// Runs until the node stops.
pub async fn run(task: Task) -> Result<(), Error> {
    let Task {
        bus,
        mut server,
        links,
        mut link_server,
        sit,
        counters,
        shutdown,
        state_dir,
        ..
    } = task;
    let mut state = State::new(counters, Spool::open(&state_dir.join("aaamgr"))?);
    let mut configuration = ConfigFollower::new(&bus);
    let (receive, mut received) = mpsc::channel(DATAGRAMS);
    let mut sockets = Sockets::new(sit.clone(), receive);
    let (reveal, mut revealed) = mpsc::channel(1);
    let mut secrets = Secrets::new();
    let mut wanted = Settings::default();
    let mut silence = interval(SILENCE);
    let mut retry: Option<Instant> = None;
    let mut serving = false;
    let mut asking = false;
    loop {
        tokio::select! {
            // The next one is asked for when this one is applied, with its secrets.
            text = configuration.next(), if !asking => match Config::parse(&text.text) {
                Ok(config) => {
                    wanted = Settings::new(&config);
                    let needed: HashSet<SecretText> = wanted.secrets().cloned().collect();
                    secrets.retain(|sealed, _| needed.contains(sealed));
                    retry = None;
                    asking = true;
                    ask_secrets(&links, &wanted, &secrets, &reveal);
                }
                Err(error) => tracing::error!("the running configuration cannot be read: {error}"),
            },
            Some(new) = revealed.recv() => {
                asking = false;
                let complete = apply(&mut state, &mut sockets, &wanted, &mut secrets, new).await;
                retry = (!complete).then(|| Instant::now() + RETRY);
                if !serving {
                    serving = true;
                    if let Err(error) = sit.ready().await {
                        tracing::warn!("{error}");
                    }
                }
            }
            () = until(retry) => {
                retry = None;
                ask_secrets(&links, &wanted, &secrets, &reveal);
            }
            // Without a configuration there is nobody to ask.
            incoming = server.next(), if serving => match incoming {
                Some(incoming) => bus_api::answer(&mut state, incoming),
                None => return Ok(()),
            },
            Some(incoming) = link_server.next(), if serving => bus_api::answer_link(&mut state, incoming),
            Some(datagram) = received.recv() => {
                state.receive(&datagram.channel, datagram.port, datagram.from, &datagram.bytes, Instant::now());
            }
            () = until(state.next_timeout()) => state.handle_timeout(Instant::now()),
            _ = silence.tick() => state.give_up_silent(Instant::now()),
            _ = shutdown.requested() => {
                state.spool.flush();
                return Ok(());
            }
        }
        for datagram in std::mem::take(&mut state.datagrams) {
            sockets.send(&datagram);
        }
    }
}

/// Asks for the secrets that are not known, in a helper; what comes is sent to the loop, even if it is nothing.
fn ask_secrets(links: &Links, settings: &Settings, known: &Secrets, reveal: &mpsc::Sender<Secrets>) {
    let missing: HashSet<SecretText> = settings
        .secrets()
        .filter(|sealed| !known.contains_key(*sealed))
        .cloned()
        .collect();
    let (links, reveal) = (links.clone(), reveal.clone());
    tokio::spawn(async move {
        let mut revealed = Secrets::new();
        for sealed in missing {
            let question = RevealSecret {
                sealed: sealed.sealed().to_owned(),
            };
            match links.request(SCT, &question, DEADLINE).await {
                Ok(mut answer) if answer.failure.is_empty() => {
                    let secret = Secret::new(std::mem::take(&mut answer.secret));
                    drop(revealed.insert(sealed, secret));
                }
                Ok(answer) => {
                    tracing::error!("the secret of a RADIUS server cannot be used: {}", answer.failure);
                }
                Err(error) => tracing::warn!("the secret of a RADIUS server is not known yet: {error}"),
            }
        }
        let _ = reveal.send(revealed).await;
    });
}

/// Takes new secrets and the configuration. True when nothing is missing.
async fn apply(
    state: &mut State,
    sockets: &mut Sockets,
    settings: &Settings,
    secrets: &mut Secrets,
    new: Secrets,
) -> bool {
    secrets.extend(new);
    let mut complete = settings.secrets().all(|sealed| secrets.contains_key(sealed));
    let mut ports = Vec::new();
    let mut servers: BTreeMap<ChannelKey, Vec<SocketAddr>> = BTreeMap::new();
    for (key, channel) in &settings.channels {
        let client = channel.client(secrets);
        let addresses: Vec<SocketAddr> = client.servers.iter().map(|server| server.address).collect();
        let source = settings.groups.get(&key.group).and_then(|nas| nas.address);
        for ipv6 in [false, true] {
            if addresses.iter().any(|address| address.is_ipv6() == ipv6) {
                let source = source.filter(|source| source.is_ipv6() == ipv6);
                ports.push(Wanted {
                    channel: key.clone(),
                    source,
                    ipv6,
                    ports: client.ports(),
                });
            }
        }
        servers.insert(key.clone(), addresses);
    }
    for (channel, reason) in sockets.adjust(&ports).await {
        complete = false;
        tracing::error!(
            "context {}: no socket for RADIUS: {reason}",
            channel.group.context
        );
    }
    for (key, addresses) in servers {
        let configured = settings
            .groups
            .get(&key.group)
            .is_some_and(|nas| nas.address.is_some());
        if let (false, Some(server)) = (configured, addresses.first())
            && let Some(address) = sockets.address_towards(&key.group, *server).await
        {
            state.found_addresses.insert(key.group, address);
        }
    }
    state.configure(settings.clone(), secrets, Instant::now());
    complete
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

const SCT: Address = Address::only(Facility::Sct);
/// For each question to another task.
const DEADLINE: Duration = Duration::from_secs(5);
/// Between attempts at what is missing.
const RETRY: Duration = Duration::from_secs(3);
/// Between searches for peers that are silent.
const SILENCE: Duration = Duration::from_secs(10);
/// Datagrams that may wait for the loop.
const DATAGRAMS: usize = 4_096;
