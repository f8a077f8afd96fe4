//! One operator at work: where the shell is, and what a line does there.

use std::path::Path;
use std::time::Duration;

use bus::messages::sct::{CloseSession, OpenSession, SaveConfig, Saved};
use bus::{Address, Bus, Facility};
use command::{Args, Completion, Keyword as _, Suggestion};
use config::{Answer, Config, Exec, LOCAL, Privilege};

use crate::configuration::Configuration;
use crate::failure::Failure;
use crate::local;
use crate::output::{Output, Pages};
use crate::tasks::Tasks;

/// A task that is alive answers at once; one that is being restarted gets this long.
const DEADLINE: Duration = Duration::from_secs(5);

/// Nobody who leaves wants to wait.
const FAREWELL: Duration = Duration::from_millis(500);

/// What belongs to one shell.
pub(crate) struct Session {
    pub(crate) run_dir: std::path::PathBuf,
    pub(crate) bus: Bus,
    tasks: Tasks,
    user: String,
    level: Privilege,
    /// Number of this session at `sct`; 0 if it is not listed.
    number: u32,
    /// The configuration as it was when this shell looked last, for the prompt and for completion.
    config: Config,
    context: String,
    /// In configuration mode.
    configuration: Option<Configuration>,
    pub(crate) pages: Pages,
    pub(crate) timestamps: bool,
    /// Nobody wants to be asked.
    autoconfirm: bool,
    ended: bool,
}

impl Session {
    /// Meets the node.
    ///
    /// # Errors
    /// No node runs on this directory, or it does not let this user in.
    pub(crate) async fn open(run_dir: &Path) -> Result<Self, String> {
        if !run_dir.join("bus").is_dir() {
            return Err(format!(
                "no node runs on {} (use --run-dir for another directory)",
                run_dir.display()
            ));
        }
        let me = Address::new(Facility::Cli, std::process::id());
        let bus = Bus::client(run_dir, me).map_err(|error| error.to_string())?;
        let user = nix::unistd::User::from_uid(nix::unistd::getuid())
            .ok()
            .flatten()
            .map_or_else(|| "operator".to_owned(), |user| user.name);
        let (level, number) = meet_sct(&bus, &user).await?;
        let mut session = Self {
            run_dir: run_dir.to_owned(),
            tasks: Tasks::new(bus.clone(), user.clone()),
            bus,
            user,
            level,
            number,
            config: Config::default(),
            context: LOCAL.to_owned(),
            configuration: None,
            pages: Pages::default(),
            timestamps: false,
            autoconfirm: false,
            ended: false,
        };
        session.look().await;
        Ok(session)
    }

    /// Looks at the running configuration.
    async fn look(&mut self) {
        if let Ok(config) = Configuration::running(&self.bus, DEADLINE).await {
            self.config = config;
        }
    }

    /// Whatever a command names must exist.
    async fn check_names(&mut self, exec: Exec, args: &Args<'_>) -> Result<(), Failure> {
        let named: Vec<_> = args
            .values()
            .filter_map(|(parameter, name)| Some((exec.object(parameter)?, name)))
            .collect();
        if named.is_empty() {
            return Ok(());
        }
        self.look().await;
        for (object, name) in named {
            let there = object.names(&self.config, &self.context);
            if !there.iter().any(|other| other == name) {
                let place = match object.belongs_to_context() {
                    true => format!(" in context {}", self.context),
                    false => String::new(),
                };
                let message = format!("there is no {} {name}{place}", object.command());
                return Err(Failure::sentence(message));
            }
        }
        Ok(())
    }

    /// Takes leave of the node.
    pub(crate) async fn close(&self) {
        if self.number != 0 {
            let request = CloseSession { session: self.number };
            // Without an answer the session ends with this process.
            let _ = self
                .bus
                .request(Address::only(Facility::Sct), &request, FAREWELL)
                .await;
        }
    }

    /// `[local]secgw# `, `[local]secgw(config)# `
    pub(crate) fn prompt(&self) -> String {
        match &self.configuration {
            Some(configuration) => {
                let context = configuration.context().unwrap_or(&self.context);
                format!(
                    "[{context}]{}({})# ",
                    self.config.system.hostname,
                    configuration.prompt()
                )
            }
            None => {
                let sign = if self.level >= Privilege::ConfigAdministrator {
                    '#'
                } else {
                    '>'
                };
                format!("[{}]{}{sign} ", self.context, self.config.system.hostname)
            }
        }
    }

    /// `exit` was said.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// What could come next on this line.
    pub(crate) fn help(&self, line: &str) -> Result<Vec<Suggestion>, command::Error> {
        match &self.configuration {
            Some(configuration) => configuration.help(line),
            None => Exec::grammar().help(line),
        }
    }

    /// The keywords that complete this line.
    pub(crate) fn complete(&self, line: &str) -> Completion {
        match &self.configuration {
            Some(configuration) => configuration.complete(line),
            None => {
                let mut completion = Exec::grammar().complete(line);
                for (exec, parameter) in Exec::grammar().parameters(line) {
                    if let Some(object) = exec.object(parameter) {
                        completion.add(line, object.names(&self.config, &self.context));
                    }
                }
                completion
            }
        }
    }

    /// What a person must say yes to before this line is run.
    pub(crate) async fn question(&self, line: &str) -> Option<&'static str> {
        let sure = match &self.configuration {
            _ if self.autoconfirm => true,
            Some(configuration) => !configuration.makes_a_context(line),
            None => !self.overwrites(line).await,
        };
        (!sure).then_some("Are you sure? [Yes|No]: ")
    }

    /// Would this line save over a file without a word about it?
    async fn overwrites(&self, line: &str) -> bool {
        let Ok((words, _)) = command::pipeline(line) else {
            return false;
        };
        match Exec::parse(words, self.level) {
            Ok((Exec::SaveConfiguration, args)) if !args.has("-noconfirm") => {
                self.save(&args, true).await.is_ok_and(|saved| saved.existed)
            }
            _ => false,
        }
    }

    async fn save(&self, args: &Args<'_>, probe: bool) -> Result<Saved, Failure> {
        let request = SaveConfig {
            url: args.text("url").unwrap_or_default().to_owned(),
            user: self.user.clone(),
            probe,
        };
        let saved = self
            .bus
            .request(Address::only(Facility::Sct), &request, DEADLINE)
            .await
            .map_err(Failure::bus)?;
        if saved.failure.is_empty() {
            Ok(saved)
        } else {
            Err(Failure::sentence(saved.failure))
        }
    }

    /// Runs a line; false if it failed. Prints what there is to say.
    pub(crate) async fn run(&mut self, line: &str) -> bool {
        if line.trim().is_empty() || command::is_remark(line) {
            return true;
        }
        let mut output = Output::new(&self.pages);
        let result = match self.configuration {
            Some(_) => self.configure(line, &mut output).await,
            None => self.exec(line, &mut output).await,
        };
        output.finish();
        if let Err(failure) = result {
            failure.print(&self.prompt(), line);
            return false;
        }
        true
    }

    /// A line of configuration mode. Whoever interrupts it stays there.
    async fn configure(&mut self, line: &str, output: &mut Output) -> Result<(), Failure> {
        let word = line.split_whitespace().next().unwrap_or_default();
        let Some(configuration) = &mut self.configuration else {
            return Ok(());
        };
        // `show` is understood everywhere, as operators are used to.
        if word.len() >= 2 && "show".starts_with(&word.to_ascii_lowercase()) {
            return self.exec(line, output).await;
        }
        let applied = configuration.apply(&self.bus, &self.user, line, DEADLINE).await?;
        for warning in &applied.warnings {
            output.line(&format!("Warning: {warning}"));
        }
        if applied.ended {
            self.configuration = None;
            self.look().await;
        }
        Ok(())
    }

    async fn exec(&mut self, line: &str, output: &mut Output) -> Result<(), Failure> {
        let (words, filters) = command::pipeline(line)?;
        let (exec, args) = Exec::parse(words, self.level)?;
        self.check_names(exec, &args).await?;
        output.filter(filters);
        if self.timestamps && !matches!(exec, Exec::Exit | Exec::Configure | Exec::Config) {
            output.line(&local::clock(false));
        }
        match exec.answer() {
            Answer::Shell => self.here(exec, &args, output).await,
            answer => self
                .tasks
                .execute(exec, answer, &args, &self.context, output)
                .await
                .map_err(Failure::Sentences),
        }
    }

    /// Commands that the shell answers by itself.
    async fn here(&mut self, exec: Exec, args: &Args<'_>, output: &mut Output) -> Result<(), Failure> {
        match exec {
            Exec::Exit => self.ended = true,
            Exec::Configure | Exec::Config => {
                self.configuration = Some(Configuration::enter(&self.bus, DEADLINE).await?);
            }
            Exec::SaveConfiguration => {
                let saved = self.save(args, false).await?;
                output.line(&format!("Configuration saved to {}", saved.file));
            }
            Exec::EnterContext => {
                self.context = args.need("name")?;
            }
            Exec::TerminalLength => self.pages.length = args.need("lines")?,
            Exec::TerminalWidth => self.pages.width = Some(args.need("columns")?),
            Exec::Autoconfirm => self.autoconfirm = true,
            Exec::NoAutoconfirm => self.autoconfirm = false,
            Exec::Timestamps => self.timestamps = true,
            Exec::NoTimestamps => self.timestamps = false,
            other => local::show(self, other, args, output).map_err(Failure::sentence)?,
        }
        Ok(())
    }
}

/// What this user may do, and the number of the session. Nobody has rights that `sct` did not give.
async fn meet_sct(bus: &Bus, user: &str) -> Result<(Privilege, u32), String> {
    let request = OpenSession {
        user: user.to_owned(),
        tty: crate::terminal::name().unwrap_or_default(),
        pid: std::process::id(),
    };
    let answer = bus
        .request(Address::only(Facility::Sct), &request, DEADLINE)
        .await
        .map_err(|error| format!("sct does not say what {user} may do: {error}"))?;
    let level =
        Privilege::from_keyword(&answer.level).ok_or_else(|| format!("{user} may not use this node"))?;
    Ok((level, answer.session))
}
