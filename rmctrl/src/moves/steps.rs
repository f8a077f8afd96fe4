//! The steps of one move.

use std::time::Duration;

use bus::messages::common::Ping;
use bus::messages::rmctrl::{MovePhase, SlotPart};
use bus::messages::slots::{HandOverSlots, PrepareSlots, SlotsHeld, TakeSlots};
use bus::{Address, BusError, RefusalCode, Request};
use tokio::time::{Instant, sleep};

use super::{AGAIN, Mover, Moving, keeper};

/// For the answer to a step. A process that is asked to let go and says nothing for so long is ill.
const DEADLINE: Duration = Duration::from_secs(3);
/// A manager restores the IKE SAs of what it takes.
const TAKE_DEADLINE: Duration = Duration::from_secs(15);
/// Until who cannot do a step now is asked again.
const RETRY: Duration = Duration::from_millis(100);
/// So long it is asked before the move is taken back.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between the end of a move and that of its note in the map, by which its former owner knows where packets of the clear side go: what is on its way from ring to ring
/// arrives, and others have learned the new owner.
const LINGER: Duration = Duration::from_millis(200);

impl Mover {
    /// Does the steps of a move from a phase on. On failure it has been taken back.
    pub(super) async fn steps(&mut self, moving: &Moving, phase: MovePhase) -> Result<(), String> {
        if phase == MovePhase::Preparing {
            if let Err(reason) = self.prepare(moving).await {
                self.take_back(moving).await;
                return Err(reason);
            }
            let mut map = self.map.clone();
            moving.set_phase(&mut map, MovePhase::Steered);
            if let Err(reason) = self.commit(map).await {
                self.take_back(moving).await;
                return Err(reason);
            }
        }
        if phase < MovePhase::Released {
            if let Err(reason) = self.hand_over(moving).await {
                self.take_back(moving).await;
                return Err(reason);
            }
            self.insist(|map| moving.set_phase(map, MovePhase::Released))
                .await;
        }
        self.take(moving).await;
        if moving.part == SlotPart::Data {
            sleep(LINGER).await;
        }
        self.insist(|map| moving.end(map)).await;
        Ok(())
    }

    /// The new owner gets ready.
    async fn prepare(&self, moving: &Moving) -> Result<(), String> {
        let old = keeper(moving.part, moving.from);
        let new = keeper(moving.part, moving.to);
        let latest = Instant::now() + PATIENCE;
        loop {
            // What the old owner serves the new one must be able to serve.
            let applied = self.bus.request(old, &Ping {}, DEADLINE).await;
            let prepare = PrepareSlots {
                slots: moving.slots.clone(),
                from: moving.from,
                version: moving.version,
                configuration: applied.ok().and_then(|pong| pong.applied).unwrap_or(0),
            };
            let failure = match self.ask(new, &prepare, DEADLINE).await {
                Ok(_) => return Ok(()),
                Err(Failure::Unsupported) => return Ok(()),
                Err(Failure::Later(reason) | Failure::Silent(reason)) => reason,
            };
            if Instant::now() > latest {
                return Err(failure);
            }
            sleep(RETRY).await;
        }
    }

    /// The old owner lets go. Fails when it says that it does not; there is no other end but that it has, or is dead.
    async fn hand_over(&self, moving: &Moving) -> Result<(), String> {
        let old = keeper(moving.part, moving.from);
        let request = HandOverSlots {
            slots: moving.slots.clone(),
            to: moving.to,
            version: moving.version,
        };
        let mut lives = self.lives_of(old).await;
        let latest = Instant::now() + PATIENCE;
        loop {
            match self.ask(old, &request, DEADLINE).await {
                // The one who was asked has let go; or a later one answers, which never had the slots.
                Ok(_) => return Ok(()),
                Err(Failure::Later(reason)) if Instant::now() > latest => return Err(reason),
                Err(Failure::Unsupported) => return Err(format!("{old} cannot let go of slots")),
                Err(Failure::Later(_)) => {}
                Err(Failure::Silent(reason)) => {
                    tracing::warn!("{reason}: its process is ended");
                    let ended = match lives {
                        Some(lives) => self.sit.end_life(old, lives).await,
                        None => Ok(()),
                    };
                    if let Err(error) = ended {
                        tracing::error!("{error}");
                    }
                    lives = self.lives_of(old).await.or(lives);
                }
            }
            sleep(RETRY).await;
        }
    }

    /// The new owner takes over. It does so by itself when it hears of the map; what is asked for here is that it has.
    async fn take(&self, moving: &Moving) {
        let request = TakeSlots {
            slots: moving.slots.clone(),
            from: moving.from,
            version: moving.version,
        };
        let new = keeper(moving.part, moving.to);
        let mut told = String::new();
        loop {
            match self.ask(new, &request, TAKE_DEADLINE).await {
                Ok(_) => return,
                Err(failure) => {
                    let reason = match failure {
                        Failure::Later(reason) | Failure::Silent(reason) => reason,
                        Failure::Unsupported => format!("{new} cannot take slots over"),
                    };
                    // Once for as long as it lasts.
                    if told != reason {
                        tracing::warn!("{reason}; asking again");
                        told = reason;
                    }
                }
            }
            sleep(if told.is_empty() { RETRY } else { AGAIN }).await;
        }
    }

    /// Everything stays as it was.
    pub(super) async fn take_back(&mut self, moving: &Moving) {
        self.insist(|map| {
            moving.give_to(map, moving.from);
            moving.end(map);
        })
        .await;
    }

    /// How often a process has been started before; `None` when it does not say.
    async fn lives_of(&self, task: Address) -> Option<u32> {
        // To get ready for nothing is a way to be asked.
        let held = self.bus.request(task, &PrepareSlots::default(), DEADLINE).await;
        held.ok().map(|held| held.lives)
    }

    async fn ask<R: Request<Reply = SlotsHeld> + Sync>(
        &self,
        task: Address,
        request: &R,
        deadline: Duration,
    ) -> Result<SlotsHeld, Failure> {
        match self.bus.request(task, request, deadline).await {
            Ok(held) if held.failure.is_empty() => Ok(held),
            Ok(held) => Err(Failure::Later(format!("{task}: {}", held.failure))),
            Err(BusError::Refused {
                code: RefusalCode::Unsupported,
                ..
            }) => Err(Failure::Unsupported),
            Err(error) => Err(Failure::Silent(error.to_string())),
        }
    }
}

/// Why a step is not done.
enum Failure {
    /// It was not done, and may be asked for again.
    Later(String),
    /// There was no answer: it may have been done.
    Silent(String),
    /// It is unknown there.
    Unsupported,
}
