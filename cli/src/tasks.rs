//! Commands that tasks answer.

use std::time::Duration;

use bus::messages::common::{Execute, Output as Piece, Parameter, Total};
use bus::{Address, Bus, Facility};
use command::Args;
use config::{Answer, Exec};

use crate::output::Output;

/// How long one instance has for one piece.
const DEADLINE: Duration = Duration::from_secs(5);

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
        context: &str,
        output: &mut Output,
    ) -> Result<(), Vec<String>> {
        let addresses = self.addresses(answer, context)?;
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
        if failures.is_empty() {
            Ok(())
        } else {
            Err(failures)
        }
    }

    fn addresses(&self, answer: Answer, context: &str) -> Result<Vec<Address>, Vec<String>> {
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
            // Every vpnmgr is asked; the one of the context answers, the others have nothing to say.
            Answer::Context(name) => match running(facility(name)?) {
                none if none.is_empty() => Err(vec![format!("no {name} is running for context {context}")]),
                some => Ok(some),
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

/// What several instances say together.
#[derive(Default)]
struct Gathered {
    headed: bool,
    totals: Vec<Total>,
}

impl Gathered {
    fn take(&mut self, piece: Piece, output: &mut Output) {
        if !self.headed && !piece.heading.is_empty() {
            self.headed = true;
            output.text(&piece.heading);
        }
        output.text(&piece.text);
        for total in piece.totals {
            match self.totals.iter_mut().find(|known| known.label == total.label) {
                Some(known) => known.value += total.value,
                None => self.totals.push(total),
            }
        }
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
