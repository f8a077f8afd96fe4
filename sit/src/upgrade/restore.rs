//! The beginning of a program that takes over.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Sockets};
use netio::{Baggage, Child, ControlSocket, Pid};
use task::{Channel, Packet};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::executable::Executables;
use super::state::{KeptDescriptors, KeptLife, KeptTask, NodeState, address};
use super::{REFUSED, TAKE_OVER, TakeOver, Upgrade, own_arguments};
use crate::backoff::Backoff;
use crate::configuration::{bound_devices, contexts_of, wants_recovery};
use crate::contexts::Contexts;
use crate::crashes::CrashList;
use crate::descriptors::Descriptors;
use crate::error::Error;
use crate::files::files_of;
use crate::lives::LEAVE_GRACE;
use crate::manager::{GOODBYE, Happening, Manager, QUEUE, SIT};
use crate::requests::Deferred;
use crate::state::{Entry, Life, Phase, TaskTable};
use crate::{Options, environment};

/// A task that had no process at the moment gets one after this time.
const SOON: Duration = Duration::from_millis(100);

/// Takes over the node that another program in this process has run until now, and runs it. If it cannot, it has that program come back.
pub(crate) fn take_over(options: Options, given: &TakeOver) -> Result<(), Error> {
    task::start_log(SIT.to_string());
    netio::task::set_name("sit");
    let mut baggage = Baggage::default();
    let begun = catch_unwind(AssertUnwindSafe(|| {
        let kept = read(given, &mut baggage)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok((kept, runtime.map_err(|error| error.to_string())?))
    }));
    let (kept, runtime) = match begun.unwrap_or_else(|_| Err("it panicked".to_owned())) {
        Ok(begun) => begun,
        Err(why) => return Err(go_back(given, &mut baggage, &why)),
    };
    runtime.block_on(async {
        let resumed = {
            let resume = resume(options, given, &kept, &mut baggage);
            Guarded(Box::pin(resume)).await
        };
        let manager = match resumed {
            Ok(manager) => manager,
            Err(why) => return Err(go_back(given, &mut baggage, &why)),
        };
        // From here on nobody can come back, and nobody needs to.
        if let Some(predecessor) = given.predecessor {
            drop(baggage.take(predecessor));
        }
        drop(baggage);
        // What a later version left that we do not know is nobody else's.
        netio::keep_descriptors();
        manager.run().await
    })
}

/// A future whose panic is an error.
struct Guarded<F>(std::pin::Pin<Box<F>>);

impl<T, F: Future<Output = Result<T, String>>> Future for Guarded<F> {
    type Output = Result<T, String>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        let poll = AssertUnwindSafe(|| self.0.as_mut().poll(context));
        catch_unwind(poll).unwrap_or_else(|_| std::task::Poll::Ready(Err("it panicked".to_owned())))
    }
}

fn read(given: &TakeOver, baggage: &mut Baggage) -> Result<NodeState, String> {
    let state = baggage.take(given.state).map_err(|error| error.to_string())?;
    NodeState::read(&mut state.into())
}

/// Runs the predecessor in our place, with what it left. Returns, with the reasons, only if that fails.
fn go_back(given: &TakeOver, baggage: &mut Baggage, why: &str) -> Error {
    tracing::error!("cannot take over: {why}");
    let Some(predecessor) = given.predecessor else {
        return Error::TakeOver(why.to_owned());
    };
    let error = match baggage.take(predecessor) {
        Ok(program) => {
            let mut arguments = own_arguments();
            let state = given.state.to_string();
            arguments.extend([TAKE_OVER, &state, REFUSED, why].map(OsString::from));
            netio::return_to(program.as_fd(), &arguments, baggage)
        }
        Err(error) => error,
    };
    Error::TakeOver(format!("{why}; nor can the one before: {error}"))
}

/// Everything as it was. Nobody else notices anything before this has succeeded.
async fn resume(
    options: Options,
    given: &TakeOver,
    kept: &NodeState,
    baggage: &mut Baggage,
) -> Result<Manager, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut environment = environment::take_over(&options, kept, baggage).map_err(|error| text(&error))?;
    environment.harden();
    let running = if given.refused.is_some() {
        kept.running
    } else {
        kept.next
    };
    let executables = Executables::restore(&kept.executables, running, baggage)?;
    let contexts = Contexts::restore(options.run_dir.join("netns"), &kept.contexts, baggage)
        .map_err(|error| text(&error))?;
    let nothing = KeptDescriptors::default();
    let descriptors = kept.descriptors.as_ref().unwrap_or(&nothing);
    let descriptors = Descriptors::restore(descriptors, kept.workers, baggage)?;
    let mut tasks = TaskTable::new();
    for task in &kept.tasks {
        let entry = entry(task, baggage)?;
        tasks.insert(entry.address, entry);
    }
    let deferred = kept
        .deferred
        .iter()
        .map(|request| {
            Ok(Deferred {
                address: address(request.address.as_ref())?,
                life: request.life,
                packet: Packet::of_frame(&request.frame).map_err(|error| text(&error))?,
                until: Instant::now() + Duration::from_millis(request.patience),
            })
        })
        .collect::<Result<Vec<_>, String>>()?;
    let sockets = sockets(&kept.bus, baggage)?;
    let listening = sockets.try_clone().map_err(|error| text(&error))?;
    let (bus, server) = Bus::open_on(&options.run_dir, SIT, listening)
        .await
        .map_err(|error| text(&error))?;
    bus.resume(kept.history.clone().unwrap_or_default());
    task::publish_events(&bus);
    let (happenings, queue) = mpsc::channel(QUEUE);
    let mut manager = Manager {
        contexts,
        wanted: contexts_of(&kept.configuration),
        bound: bound_devices(&kept.configuration),
        recovery: wants_recovery(&kept.configuration),
        files: files_of(&kept.configuration),
        configuration: kept.configuration.clone(),
        descriptors,
        crashes: CrashList::of_text(&options.state_dir, &kept.crashes),
        options,
        unprotected: environment.missing.iter().cloned().collect::<BTreeSet<_>>(),
        environment,
        workers: kept.workers,
        bus,
        server,
        sockets,
        tasks,
        since: ago(kept.uptime),
        deferred,
        happenings,
        queue,
        configured: true,
        ready: true,
        failure: None,
        stopping: false,
        ticks: 0,
        executables,
        upgrade: Upgrade::None,
        errands: Arc::new(()),
    };
    manager.resume_lives();
    match &given.refused {
        Some(why) => manager.fail_upgrade(why.clone()),
        None => manager.begin_rollout(running),
    }
    Ok(manager)
}

impl Manager {
    /// Watches the processes there are, and goes on with what was to happen next.
    fn resume_lives(&mut self) {
        let mut next = vec![(GOODBYE, Happening::Sweep)];
        for entry in self.tasks.values_mut() {
            let address = entry.address;
            match (&mut entry.life, entry.phase) {
                (Some(life), phase) => {
                    life.watch(address, &self.happenings);
                    if phase == Phase::Stopping {
                        let life = life.number;
                        next.push((LEAVE_GRACE, Happening::Overdue { address, life }));
                    }
                }
                (None, _) => next.push((SOON, Happening::Restart { address })),
            }
        }
        for (wait, happening) in next {
            self.later(wait, happening);
        }
    }
}

fn entry(kept: &KeptTask, baggage: &mut Baggage) -> Result<Entry, String> {
    let address = address(kept.address.as_ref())?;
    let life = kept.life.as_ref().map(|kept| life(kept, baggage)).transpose();
    Ok(Entry {
        context: kept.context.clone(),
        phase: match kept.phase {
            1 => Phase::Starting,
            2 => Phase::Ready,
            3 => Phase::Stopping,
            _ => Phase::Waiting,
        },
        life: life.map_err(|why| format!("{address}: {why}"))?,
        lives: kept.lives,
        replaced: kept.replaced,
        backoff: Backoff::with_next(Duration::from_millis(kept.backoff)),
        failed_starts: kept.failed_starts,
        executable: kept.executable,
        ..Entry::new(address, String::new(), kept.executable)
    })
}

fn life(kept: &KeptLife, baggage: &mut Baggage) -> Result<Life, String> {
    let mut take = |number: u32| baggage.take(number).map_err(|error| error.to_string());
    let pid = i32::try_from(kept.pid).map_err(|error| error.to_string())?;
    let child = Child::adopt(Pid::from_raw(pid), take(kept.pidfd)?);
    let channel =
        Channel::new(ControlSocket::from(take(kept.control)?)).map_err(|error| error.to_string())?;
    let mut life =
        Life::new(kept.number, child, Arc::new(channel)).map_err(|(_, error)| error.to_string())?;
    life.since = ago(kept.age);
    life.confined = kept.confined;
    Ok(life)
}

fn sockets(kept: &[u32], baggage: &mut Baggage) -> Result<Sockets, String> {
    let mut taken = Vec::<OwnedFd>::new();
    for number in kept {
        taken.push(baggage.take(*number).map_err(|error| error.to_string())?);
    }
    let [requests, events] =
        <[OwnedFd; 2]>::try_from(taken).map_err(|_| "the bus has no sockets".to_owned())?;
    Ok(Sockets {
        requests: requests.into(),
        events: events.into(),
    })
}

fn ago(milliseconds: u64) -> Instant {
    let now = Instant::now();
    now.checked_sub(Duration::from_millis(milliseconds))
        .unwrap_or(now)
}
