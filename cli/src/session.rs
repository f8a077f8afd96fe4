//! One operator at work: where the shell is, and what a line does there.

use std::path::Path;
use std::time::Duration;

use bus::messages::common::Ping;
use bus::messages::sct::{CloseSession, OpenSession, SaveConfig, Saved};
use bus::{Address, Bus, BusError, Facility};
use command::{Args, Keyword as _};
use config::{Answer, Config, Exec, LOCAL, Object, Privilege};

use crate::configuration::Configuration;
use crate::failure::Failure;
use crate::help::{before_question, exec_begins};
use crate::local;
use crate::output::{Output, Pages};
use crate::tasks::Tasks;

/// A task that is alive answers at once; one that is being restarted gets this long.
const DEADLINE: Duration = Duration::from_secs(5);

/// A live `sit` takes a connection at once.
const KNOCK: Duration = Duration::from_millis(500);

/// So many names at most are listed instead of one that does not exist.
const MAX_LISTED: usize = 16;

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
    pub(crate) config: Config,
    pub(crate) context: String,
    /// In configuration mode.
    pub(crate) configuration: Option<Configuration>,
    pub(crate) pages: Pages,
    pub(crate) timestamps: bool,
    /// The version of the configuration after the last change made here, until the tasks are known to have applied it.
    changed: Option<u64>,
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
        let no_node = || {
            format!(
                "no node runs on {} (use --run-dir for another directory)",
                run_dir.display()
            )
        };
        if !run_dir.join("bus").is_dir() {
            return Err(no_node());
        }
        let me = Address::new(Facility::Cli, std::process::id());
        let bus = Bus::client(run_dir, me).map_err(|error| error.to_string())?;
        let user = nix::unistd::User::from_uid(nix::unistd::getuid())
            .ok()
            .flatten()
            .map_or_else(|| "operator".to_owned(), |user| user.name);
        let (level, number) = tokio::select! {
            biased;
            met = meet_sct(&bus, &user) => met?,
            () = no_sit(&bus) => return Err(no_node()),
        };
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
            changed: None,
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
        if named.iter().any(|(object, _)| *object != Object::Facility) {
            self.look().await;
        }
        let context = self.shown_context();
        for (object, name) in named {
            let there = object.names(&self.config, context);
            if !there.iter().any(|other| other == name) {
                let place = match object.belongs_to_context() {
                    true => format!(" in context {context}"),
                    false => String::new(),
                };
                let known = match there.as_slice() {
                    [] => String::new(),
                    some if some.len() <= MAX_LISTED => format!(" (there is {})", some.join(", ")),
                    _ => String::new(),
                };
                let message = format!("there is no {} {name}{place}{known}", object.command());
                return Err(Failure::sentence(message));
            }
        }
        Ok(())
    }

    /// The context of the prompt: the one being configured, otherwise the one this shell is in.
    fn shown_context(&self) -> &str {
        let configured = self.configuration.as_ref().and_then(Configuration::context);
        configured.unwrap_or(&self.context)
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
                format!(
                    "[{}]{}({})# ",
                    self.shown_context(),
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

    /// What a person must say yes to before this line is run.
    pub(crate) async fn question(&self, line: &str) -> Option<&'static str> {
        let ask = match &self.configuration {
            _ if self.autoconfirm => false,
            Some(configuration) => configuration.must_be_confirmed(line),
            None => self.must_be_confirmed(line).await,
        };
        ask.then_some("Are you sure ? [Yes | No]: ")
    }

    /// Would this line end a task, replace the software, or save over a file, without a word about it?
    async fn must_be_confirmed(&self, line: &str) -> bool {
        let Ok((words, _)) = command::pipeline(line) else {
            return false;
        };
        match Exec::parse(words, self.level) {
            Ok((_, args)) if args.has("-noconfirm") => false,
            Ok((Exec::TaskKill | Exec::UpgradeOnline, _)) => true,
            Ok((Exec::SaveConfiguration, args)) => {
                self.save(&args, true).await.is_ok_and(|saved| saved.existed)
            }
            _ => false,
        }
    }

    /// Does this line hold a plain secret?
    pub(crate) fn has_plain_secret(&self, line: &str) -> bool {
        let configuration = self.configuration.as_ref();
        configuration.is_some_and(|configuration| configuration.has_plain_secret(line))
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
        if let Some(before) = self.question_of(line) {
            return self.print_help(before);
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

    /// What stands before the `?` of a script. A `?` at the end of a word may as well belong to it.
    fn question_of<'l>(&self, line: &'l str) -> Option<&'l str> {
        let before = before_question(line)?;
        let is_word = before.is_empty() || before.ends_with(char::is_whitespace);
        let runs = || match &self.configuration {
            Some(configuration) if exec_begins(line).is_none() => configuration.accepts(line),
            Some(_) => false,
            None => command::pipeline(line).is_ok_and(|(words, _)| Exec::parse(words, self.level).is_ok()),
        };
        (is_word || !runs()).then_some(before)
    }

    /// A line of configuration mode. Whoever interrupts it stays there.
    async fn configure(&mut self, line: &str, output: &mut Output) -> Result<(), Failure> {
        if let Some(rest) = exec_begins(line).and_then(|begin| line.get(begin..)) {
            return self.exec(rest, output).await;
        }
        let Some(configuration) = &mut self.configuration else {
            return Ok(());
        };
        let applied = configuration.apply(&self.bus, &self.user, line, DEADLINE).await?;
        for warning in &applied.warnings {
            output.line(&format!("Warning: {warning}"));
        }
        self.changed = Some(applied.version);
        if applied.ended {
            self.configuration = None;
            self.look().await;
        }
        Ok(())
    }

    async fn exec(&mut self, line: &str, output: &mut Output) -> Result<(), Failure> {
        let (words, filters) = command::pipeline(line)?;
        let (exec, args) = Exec::parse(words, self.level)?;
        if self.configuration.is_some() && !exec.id().starts_with("show ") {
            return Err(Failure::sentence("only show commands run in configuration mode"));
        }
        self.check_names(exec, &args).await?;
        output.filter(filters);
        if self.timestamps && !matches!(exec, Exec::Exit | Exec::Configure | Exec::Config) {
            output.line(&local::clock(false));
        }
        match exec.answer() {
            Answer::Shell => self.here(exec, &args, output).await,
            answer => {
                self.settle(output).await;
                let context = self.shown_context();
                let number = self.config.contexts.get(context).map(|context| context.id);
                self.tasks
                    .execute(exec, answer, &args, (context, number), output)
                    .await
                    .map_err(Failure::Sentences)
            }
        }
    }

    /// Waits until every task has applied what was changed here, so that what is shown is what was configured. After a while it is shown
    /// all the same.
    async fn settle(&mut self, output: &mut Output) {
        let Some(version) = self.changed.take() else {
            return;
        };
        self.look().await;
        for task in self.tasks.behind(version).await {
            output.line(&format!("Warning: {task} has not applied the latest change yet"));
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
            Exec::DefaultTerminalLength => self.pages.length = Pages::default().length,
            Exec::DefaultTerminalWidth => self.pages.width = Pages::default().width,
            Exec::End => {}
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

/// Ends when it is known that nobody is at the other end of `sit`'s socket: the node was stopped, or has died.
async fn no_sit(bus: &Bus) {
    let sit = Address::only(Facility::Sit);
    if let Err(BusError::Unreachable { .. }) = bus.request(sit, &Ping {}, KNOCK).await {
        return;
    }
    std::future::pending().await
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
