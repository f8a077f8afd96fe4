//! Commands that tasks answer.

use std::time::Duration;

use bus::messages::common::{Execute, Output as Piece, Parameter, Ping, Total};
use bus::{Address, Bus, Facility};
use command::Args;
use config::{Answer, Exec};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::output::Output;

/// How long one instance has for one piece.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long all tasks have to apply a change.
const PATIENCE: Duration = Duration::from_secs(3);

/// Between two looks at what a task has applied.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The way to the tasks of the node.
pub(crate) struct Tasks {
    bus: Bus,
    user: String,
}

impl Tasks {
    pub(crate) fn new(bus: Bus, user: String) -> Self {
        Self { bus, user }
    }

    /// Has a command carried out by everybody who answers it, and prints what they say.
    ///
    /// # Errors
    /// One sentence for each that failed or did not answer; what the others said is printed all the same.
    pub(crate) async fn execute(
        &self,
        exec: Exec,
        answer: Answer,
        args: &Args<'_>,
        (context, number): (&str, Option<u32>),
        output: &mut Output,
    ) -> Result<(), Vec<String>> {
        let addresses = self.addresses(answer, context, number)?;
        let mut failures = Vec::new();
        let mut gathered = Gathered::default();
        for address in addresses {
            if let Err(failure) = self
                .ask(address, exec, args, context, &mut gathered, output)
                .await
            {
                failures.push(failure);
            }
        }
        gathered.totals(output);
        if gathered.is_empty() && failures.is_empty() && exec.id().starts_with("show ") {
            output.line("No matching entries");
        }
        if failures.is_empty() {
            Ok(())
        } else {
            Err(failures)
        }
    }

    /// The tasks that have not applied this version of the configuration, after some patience.
    pub(crate) async fn behind(&self, version: u64) -> Vec<Address> {
        let until = Instant::now() + PATIENCE;
        let mut asked = JoinSet::new();
        for address in self.bus.addresses() {
            let bus = self.bus.clone();
            asked.spawn(async move {
                let applied = timeout_at(until, has_applied(&bus, address, version)).await;
                applied.is_err().then_some(address)
            });
        }
        let mut behind: Vec<Address> = asked.join_all().await.into_iter().flatten().collect();
        behind.sort();
        behind
    }

    fn addresses(
        &self,
        answer: Answer,
        context: &str,
        number: Option<u32>,
    ) -> Result<Vec<Address>, Vec<String>> {
        let facility = |name: &str| name.parse::<Facility>().map_err(|error| vec![error]);
        let running = |wanted: Facility| -> Vec<Address> {
            let mut found: Vec<Address> = self
                .bus
                .addresses()
                .into_iter()
                .filter(|address| address.facility == wanted)
                .collect();
            found.sort();
            found
        };
        match answer {
            Answer::Shell => Ok(Vec::new()),
            Answer::One(name) => Ok(vec![Address::only(facility(name)?)]),
            Answer::Every(name) => match running(facility(name)?) {
                none if none.is_empty() => Err(vec![format!("no {name} is running")]),
                some => Ok(some),
            },
            // It may still be starting.
            Answer::Context(name) => match number {
                Some(number) => Ok(vec![Address::new(facility(name)?, number)]),
                None => Err(vec![format!("there is no context {context}")]),
            },
        }
    }

    /// Piece by piece, so that no answer is large.
    async fn ask(
        &self,
        address: Address,
        exec: Exec,
        args: &Args<'_>,
        context: &str,
        gathered: &mut Gathered,
        output: &mut Output,
    ) -> Result<(), String> {
        let parameters = Exec::parameters(args)
            .into_iter()
            .map(|(name, value)| Parameter { name, value });
        let mut request = Execute {
            command: exec.id().to_owned(),
            parameters: parameters.collect(),
            cursor: Vec::new(),
            context: context.to_owned(),
            user: self.user.clone(),
        };
        loop {
            let piece = self
                .bus
                .request(address, &request, DEADLINE)
                .await
                .map_err(|error| format!("{address} does not answer: {error}"))?;
            if !piece.failure.is_empty() {
                return Err(piece.failure);
            }
            let (more, cursor) = (piece.more, piece.cursor.clone());
            gathered.take(piece, output);
            if !more || output.is_refused() {
                return Ok(());
            }
            request.cursor = cursor;
        }
    }
}

/// Ends when this task has applied this version, or follows no configuration.
async fn has_applied(bus: &Bus, address: Address, version: u64) {
    loop {
        let answer = bus.request(address, &Ping {}, PATIENCE).await;
        if answer.is_ok_and(|pong| pong.applied.is_none_or(|applied| applied >= version)) {
            return;
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// What several instances say together.
#[derive(Default)]
struct Gathered {
    headed: bool,
    /// There was a line of text.
    said: bool,
    totals: Vec<Total>,
}

impl Gathered {
    fn take(&mut self, piece: Piece, output: &mut Output) {
        if !self.headed && !piece.heading.is_empty() {
            self.headed = true;
            output.text(&piece.heading);
        }
        self.said |= !piece.text.is_empty();
        output.text(&piece.text);
        for total in piece.totals {
            match self.totals.iter_mut().find(|known| known.label == total.label) {
                Some(known) => known.value += total.value,
                None => self.totals.push(total),
            }
        }
    }

    fn is_empty(&self) -> bool {
        !self.headed && !self.said && self.totals.is_empty()
    }

    fn totals(&self, output: &mut Output) {
        let width = self
            .totals
            .iter()
            .map(|total| total.label.len())
            .max()
            .unwrap_or(0);
        for total in &self.totals {
            output.line(&format!("{:<width$} : {}", total.label, total.value));
        }
    }
}
