//! What an `ipsecmgr` serves on the bus.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bus::messages::common::{Execute, Output, Total};
use bus::messages::ipsecmgr::{DeleteTunnels, Deleted, Drain};
use bus::messages::slots::{GetSlotLoads, HandOverSlots, PrepareSlots, SlotLoad, SlotLoads, TakeSlots};
use bus::{Facility, Incoming, Responder, dispatch};
use config::Exec;
use ikev2::{Action, Cursor, IkeSaId, IkeSaView};
use services::DisconnectReason;

use crate::moves::numbers;
use crate::show;
use crate::state::State;

/// IKE SAs in one piece of output.
const PAGE: usize = 64;
/// Listings under way at a time; an older one must be begun anew.
const LISTINGS: usize = 64;
/// How long the answer to `Drain` waits for peers to answer their deletes. `sit` waits a little longer.
const DRAIN_WAIT: Duration = Duration::from_secs(2);
/// Rekeys the IKE SAs of a peer; for operators who test.
const REKEY: &str = "crypto ikev2-ikesa rekey";

/// What belongs to requests and not to IKE.
#[derive(Default)]
pub(crate) struct Desk {
    /// Where listings go on, by the number in their cursor.
    listings: VecDeque<(u64, Cursor)>,
    next_listing: u64,
    drains: Vec<(Responder<Drain>, Deleted, Instant)>,
    /// Slots that are being taken over.
    takes: Vec<(Responder<TakeSlots>, Vec<u8>)>,
}

impl Desk {
    /// Answers one request, or keeps it to be answered later.
    pub(crate) fn serve(&mut self, state: &mut State, incoming: Incoming) {
        dispatch!(incoming, {
            Execute => |request, responder| responder.reply(self.execute(state, &request)),
            DeleteTunnels => |request, responder| {
                let ikes = request.ike_spis.into_iter().map(IkeSaId);
                let (ours, moved): (Vec<IkeSaId>, Vec<IkeSaId>) = ikes.partition(|ike| state.moves.is_ours(ike.slot()));
                let reason = DisconnectReason::from_text(&request.reason).unwrap_or(DisconnectReason::Admin);
                let count = state.delete(Instant::now(), &ours, reason);
                responder.reply(Deleted { count, moved: moved.into_iter().map(|ike| ike.0).collect() });
            },
            PrepareSlots => |request, responder| {
                let is_ready = state.recovery.is_over() && !state.draining && state.configuration >= request.configuration;
                let failure = if is_ready { "" } else { "ipsecmgr has not applied the configuration yet, or is ending" };
                responder.reply(state.moves.report(failure));
            },
            GetSlotLoads => |_, responder| {
                let counts = state.engine.counts().filter(|(_, count)| *count > 0);
                let loads = counts.map(|(slot, count)| SlotLoad {
                    slot: slot.into(),
                    ike_sas: u32::try_from(count).unwrap_or(u32::MAX),
                    ..SlotLoad::default()
                });
                responder.reply(SlotLoads { loads: loads.collect(), ..SlotLoads::default() });
            },
            HandOverSlots => |request, responder| state.begin_hand_over(request, responder),
            TakeSlots => |request, responder| {
                let slots = numbers(&request.slots);
                state.take_slots(&slots);
                self.takes.push((responder, slots));
            },
            Drain => |_, responder| {
                let count = state.drain();
                let deleted = Deleted { count, moved: Vec::new() };
                self.drains.push((responder, deleted, Instant::now() + DRAIN_WAIT));
            },
        });
    }

    /// Answers `Drain` once all IKE SAs are gone, or have had their time, and `TakeSlots` once all slots are taken over, or cannot be.
    pub(crate) fn settle(&mut self, state: &State) {
        let empty = state.engine.totals().ike_sas == 0;
        let now = Instant::now();
        for (responder, deleted, _) in self.drains.extract_if(.., |(_, _, until)| empty || *until <= now) {
            responder.reply(deleted);
        }
        let done = |(_, slots): &mut (_, Vec<u8>)| state.moves.taken(slots).is_some();
        for (responder, slots) in self.takes.extract_if(.., done) {
            responder.reply(state.moves.taken(&slots).unwrap_or_default());
        }
    }

    /// When [`settle`](Self::settle) must be called at the latest.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.drains.iter().map(|(_, _, until)| *until).min()
    }

    fn execute(&mut self, state: &mut State, request: &Execute) -> Output {
        let done = match (Exec::from_id(&request.command), request.command.as_str()) {
            (Some(Exec::ShowIkeSas), _) => self.list(state, request, true),
            (Some(Exec::ShowIpsecSas), _) => self.list(state, request, false),
            (Some(Exec::ClearCryptoIkev2), _) => clear(state, request),
            (None, REKEY) => rekey(state, request),
            _ => Err(request.unknown_to(Facility::Ipsecmgr)),
        };
        done.into()
    }

    /// One piece of a listing.
    fn list(&mut self, state: &State, request: &Execute, ike: bool) -> Result<Output, String> {
        let totals = state.engine.totals();
        let totals = if ike {
            show::ike_totals(&totals)
        } else {
            show::child_totals(&totals)
        };
        if request.has("summary") {
            return Ok(Output::of_totals(totals));
        }
        let peer = peer(request)?;
        let from = self.cursor(&request.cursor)?;
        let (views, next) = state.engine.ike_sas(Instant::now(), from, PAGE, &state.slots);
        let text = views
            .iter()
            .filter(|view| show::is_with(view, peer))
            .map(|view| print(state, view, ike))
            .collect();
        let more = next.is_some();
        let cursor = next.map_or_else(Vec::new, |next| self.keep(next));
        // Once, and not where only some are asked for.
        let totals = if more || peer.is_some() {
            Vec::new()
        } else {
            Total::all(totals)
        };
        Ok(Output {
            text,
            cursor,
            more,
            totals,
            ..Output::default()
        })
    }

    /// Where a listing goes on.
    fn cursor(&self, bytes: &[u8]) -> Result<Cursor, String> {
        if bytes.is_empty() {
            return Ok(Cursor::default());
        }
        let number = <[u8; 8]>::try_from(bytes).map(u64::from_le_bytes).ok();
        let found = self.listings.iter().find(|(kept, _)| Some(*kept) == number);
        found
            .map(|(_, cursor)| *cursor)
            .ok_or_else(|| "the listing was interrupted for too long, repeat the command".to_owned())
    }

    /// Keeps a place in a listing; returns what the shell shall come back with.
    fn keep(&mut self, cursor: Cursor) -> Vec<u8> {
        let number = self.next_listing;
        self.next_listing += 1;
        if self.listings.len() == LISTINGS {
            self.listings.pop_front();
        }
        self.listings.push_back((number, cursor));
        number.to_le_bytes().to_vec()
    }
}

fn print(state: &State, view: &IkeSaView, ike: bool) -> String {
    let wsg = state.services.get(&view.profile.tag).map(|wsg| &**wsg);
    if ike {
        return show::ike_sa(view, wsg);
    }
    show::child_sas(view, wsg, |spi| {
        (state.slots.counters(spi), state.slots.activity(spi))
    })
}

/// `clear crypto security-association ikev2`: ends the tunnels that are meant.
fn clear(state: &mut State, request: &Execute) -> Result<Output, String> {
    let peer = peer(request)?;
    let tag = request.value("tag");
    let meant: Vec<IkeSaId> = state
        .sessions
        .iter()
        .filter(|(_, session)| peer.is_none_or(|peer| session.path.remote.ip() == peer))
        .filter(|(_, session)| {
            let template = state
                .services
                .get(&session.service)
                .map(|wsg| wsg.template.as_str());
            tag.is_none_or(|tag| template == Some(tag))
        })
        .map(|(ike, _)| ike)
        .collect();
    let value = state.delete(Instant::now(), &meant, DisconnectReason::Admin);
    Ok(Output::of_totals([("Tunnels ended", value)]))
}

/// `crypto ikev2-ikesa rekey peer ADDRESS`: new keys for the IKE SAs with a peer.
fn rekey(state: &mut State, request: &Execute) -> Result<Output, String> {
    let peer = peer(request)?.ok_or("the address of the peer is missing")?;
    let now = Instant::now();
    let meant: Vec<IkeSaId> = state
        .sessions
        .iter()
        .filter(|(_, session)| session.path.remote.ip() == peer && session.established)
        .map(|(ike, _)| ike)
        .collect();
    let mut value = 0;
    for ike in meant {
        match state.engine.action(now, ike, Action::RekeyIke, &mut state.slots) {
            Ok(()) => value += 1,
            Err(error) => return Err(error.to_string()),
        }
    }
    state.pump(now);
    Ok(Output::of_totals([("IKE SAs being rekeyed", value)]))
}

/// The parameter `peer`.
fn peer(request: &Execute) -> Result<Option<IpAddr>, String> {
    let address = |peer: &str| peer.parse().map_err(|_| format!("'{peer}' is not an IP address"));
    request.value("peer").map(address).transpose()
}
