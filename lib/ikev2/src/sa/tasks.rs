//! What an IKE SA wants to do by itself: one thing after the other, as its window is one.

use std::sync::Arc;

use super::child::Phase;
use super::offer::Lost;
use super::request::Pending;
use super::{IkeSa, State};
use crate::engine::Error;
use crate::env::Env;
use crate::event::{Count, RemoveReason, SetupFailure};
use crate::message::{Exchange, NotifyKind};
use crate::output::Action;
use crate::profile::ChildProfile;
use crate::record::stored_enum;

/// Things waiting, at most.
const MAX_TASKS: usize = 32;

/// One thing to do when no request of ours is under way.
#[derive(Debug, Clone)]
pub(crate) enum Task {
    CreateChild(Arc<ChildProfile>),
    /// In place of one that the peer has no more.
    RestoreChild(Arc<Lost>),
    RekeyChild(u32),
    DeleteChild(u32),
    RekeyIke,
    DeleteIke(RemoveReason),
    Liveness,
    /// Tell the peer that this Message ID was outside the window.
    InvalidMessageId(u32),
    /// Another child SA beside the one with this inbound SPI (RFC 9611).
    CreateBeside(u32),
}

stored_enum!(Task {
    1 => CreateChild(profile),
    2 => RestoreChild(lost),
    3 => RekeyChild(spi),
    4 => DeleteChild(spi),
    5 => RekeyIke,
    6 => DeleteIke(reason),
    7 => Liveness,
    8 => InvalidMessageId(message_id),
    9 => CreateBeside(spi),
});

impl Task {
    fn is_same(&self, other: &Task) -> bool {
        match (self, other) {
            (Task::RekeyChild(a), Task::RekeyChild(b))
            | (Task::DeleteChild(a), Task::DeleteChild(b))
            | (Task::CreateBeside(a), Task::CreateBeside(b)) => a == b,
            (Task::RekeyIke, Task::RekeyIke)
            | (Task::DeleteIke(_), Task::DeleteIke(_))
            | (Task::Liveness, Task::Liveness)
            | (Task::InvalidMessageId(_), Task::InvalidMessageId(_)) => true,
            _ => false,
        }
    }

    /// Must it wait after a TEMPORARY_FAILURE?
    fn can_fail_temporarily(&self) -> bool {
        matches!(
            self,
            Task::CreateChild(_)
                | Task::CreateBeside(_)
                | Task::RestoreChild(_)
                | Task::RekeyChild(_)
                | Task::RekeyIke
        )
    }
}

impl IkeSa {
    pub(super) fn add_task(&mut self, task: Task) {
        let known = self.tasks.iter().any(|have| have.is_same(&task));
        if !known && self.tasks.len() < MAX_TASKS {
            self.tasks.push_back(task);
        }
    }

    /// Does the next thing that can be done now.
    pub(super) fn run_tasks(&mut self, env: &mut Env<'_>) {
        while self.outstanding.is_none() {
            let wanted = match self.state {
                State::Established => self
                    .tasks
                    .iter()
                    .position(|task| self.deadlines.retry.is_none() || !task.can_fail_temporarily()),
                State::Replaced { .. } => self
                    .tasks
                    .iter()
                    .position(|task| matches!(task, Task::DeleteIke(_))),
                _ => None,
            };
            let Some(task) = wanted.and_then(|at| self.tasks.remove(at)) else {
                return;
            };
            self.run_task(env, task);
        }
    }

    fn run_task(&mut self, env: &mut Env<'_>, task: Task) {
        match task {
            Task::CreateChild(profile) => self.request_child(env, profile, None),
            Task::CreateBeside(spi) => self.request_beside(env, spi, None),
            Task::RestoreChild(lost) => self.request_restored_child(env, lost, None),
            Task::RekeyChild(spi) => self.request_child_rekey(env, spi, None),
            Task::RekeyIke => self.request_ike_rekey(env, None),
            Task::DeleteChild(spi) => self.request_child_delete(env, spi),
            Task::DeleteIke(reason) => self.start_delete(env, reason),
            Task::Liveness => {
                let builder = self.builder();
                env.count(Count::LivenessSent);
                self.send_request(env, Exchange::Informational, builder, Pending::Liveness);
            }
            Task::InvalidMessageId(message_id) => {
                let mut builder = self.builder();
                builder.notify(NotifyKind::INVALID_MESSAGE_ID, &message_id.to_be_bytes());
                env.count(Count::NotifySent(NotifyKind::INVALID_MESSAGE_ID));
                self.send_request(env, Exchange::Informational, builder, Pending::Inform);
            }
        }
    }

    /// Deletes the IKE SA, telling the peer, once the request under way is answered: an exchange of ours must not be left open
    /// (RFC 7296 2.3).
    pub(super) fn start_delete(&mut self, env: &mut Env<'_>, reason: RemoveReason) {
        match self.state {
            State::Established | State::Replaced { .. } => {}
            State::Closing(_) | State::Lingering | State::Dead => return,
            _ => return self.fail(env, SetupFailure::Cancelled, false),
        }
        if self.outstanding.is_some() {
            self.tasks.clear();
            return self.tasks.push_back(Task::DeleteIke(reason));
        }
        self.tasks.clear();
        let mut builder = self.builder();
        builder.delete_ike();
        env.count(Count::IkeDeleteSent);
        self.deadlines = super::timers::Deadlines::default();
        self.send_request(env, Exchange::Informational, builder, Pending::DeleteIke);
        if self.outstanding.is_some() {
            self.go_down(env, reason);
            self.set_state(env, State::Closing(reason));
        }
    }

    /// What an operator or the shell wants.
    pub fn on_action(&mut self, env: &mut Env<'_>, action: Action) -> Result<(), Error> {
        let established = matches!(self.state, State::Established);
        match action {
            Action::Delete => self.start_delete(env, RemoveReason::Local),
            Action::Forget => self.give_up(env, RemoveReason::Local, SetupFailure::Cancelled),
            _ if !established => return Err(Error::NotEstablished),
            Action::CreateChild(at) => {
                let profile = self.profile.children.get(at).ok_or(Error::NoSuchChild)?;
                self.add_task(Task::CreateChild(Arc::clone(profile)));
            }
            Action::RekeyIke => self.add_task(Task::RekeyIke),
            Action::RekeyChild(spi) => {
                self.child(spi)
                    .filter(|child| child.is_current())
                    .ok_or(Error::NoSuchChild)?;
                self.add_task(Task::RekeyChild(spi));
            }
            Action::DeleteChild(spi) => {
                self.child(spi)
                    .filter(|child| child.is_live())
                    .ok_or(Error::NoSuchChild)?;
                self.start_child_delete(spi, RemoveReason::Local);
            }
            Action::CheckLiveness => self.add_task(Task::Liveness),
        }
        self.run_tasks(env);
        Ok(())
    }

    /// A child SA is being created or rekeyed by us.
    pub(super) fn is_creating_child(&self) -> bool {
        let under_way = self
            .outstanding
            .as_ref()
            .is_some_and(|outstanding| matches!(outstanding.pending, Pending::CreateChild(_)));
        under_way
            || self
                .tasks
                .iter()
                .any(|task| matches!(task, Task::CreateChild(_) | Task::RestoreChild(_)))
    }

    /// A child SA is being deleted by us.
    pub(super) fn is_deleting_child(&self) -> bool {
        self.children
            .iter()
            .any(|child| matches!(child.phase, Phase::Deleting(_)))
    }
}
