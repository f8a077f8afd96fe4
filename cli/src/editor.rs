//! The operator's line: history, `?`, Tab.

use std::cell::RefCell;
use std::io::Write as _;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{
    Cmd, CompletionType, ConditionalEventHandler, Config, Context, Editor, Event, EventContext, EventHandler,
    Helper, KeyEvent, RepeatCount,
};

use crate::help::is_outside_quotes;
use crate::session::Session;

/// Lines of history.
const HISTORY: usize = 1_000;

/// Talks with an operator until `exit`.
pub(crate) fn converse(runtime: &tokio::runtime::Runtime, session: Session) -> ExitCode {
    let configuration = Config::builder()
        .completion_type(CompletionType::List)
        // A pasted configuration is many lines, each to be run, and not one line with breaks in it.
        .bracketed_paste(false)
        .max_history_size(HISTORY);
    let configuration = match configuration {
        Ok(configuration) => configuration.build(),
        Err(error) => return crate::fail(&error.to_string()),
    };
    let mut editor: Editor<Words, DefaultHistory> = match Editor::with_config(configuration) {
        Ok(editor) => editor,
        Err(error) => return crate::fail(&error.to_string()),
    };
    let session = Rc::new(RefCell::new(session));
    let asked = Arc::new(Mutex::new(None));
    editor.set_helper(Some(Words {
        session: session.clone(),
    }));
    editor.bind_sequence(
        KeyEvent::from('?'),
        EventHandler::Conditional(Box::new(Question { asked: asked.clone() })),
    );
    let mut draft = (String::new(), String::new());
    let status = loop {
        let prompt = session.borrow().prompt();
        let (before, after) = std::mem::take(&mut draft);
        let line = editor.readline_with_initial(&prompt, (&before, &after));
        if let Some(asked) = asked.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // `?` ends the line early: the help is printed below it and the line offered again.
            session.borrow().print_help(&asked.0);
            draft = asked;
            continue;
        }
        match line {
            Ok(line) => {
                // It is in memory only, but whoever comes by may leaf through it.
                if !line.trim().is_empty() && !session.borrow().has_plain_secret(&line) {
                    let _ = editor.add_history_entry(&line);
                }
                #[expect(
                    clippy::await_holding_refcell_ref,
                    reason = "one thread, and the editor is not reading"
                )]
                let question = runtime.block_on(async { session.borrow().question(&line).await });
                if let Some(question) = question {
                    let answer = editor.readline(question).unwrap_or_default();
                    if !is_yes(&answer) {
                        continue;
                    }
                }
                // Nothing else holds the session while a line runs.
                #[expect(
                    clippy::await_holding_refcell_ref,
                    reason = "one thread, and the editor is not reading"
                )]
                runtime.block_on(async {
                    tokio::select! {
                        _ = async { session.borrow_mut().run(&line).await } => {}
                        // Ctrl-C ends the command and not the shell.
                        _ = tokio::signal::ctrl_c() => drop(writeln!(std::io::stdout())),
                    }
                });
                if session.borrow().ended() {
                    break ExitCode::SUCCESS;
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break ExitCode::SUCCESS,
            Err(error) => break crate::fail(&error.to_string()),
        }
    };
    drop(editor);
    if let Some(session) = Rc::into_inner(session) {
        runtime.block_on(session.into_inner().close());
    }
    status
}

/// `Yes`, or the beginning of it.
fn is_yes(answer: &str) -> bool {
    let answer = answer.trim().to_ascii_lowercase();
    !answer.is_empty() && "yes".starts_with(&answer)
}

/// `?` at any point.
struct Question {
    /// The line before and after the place of the question.
    asked: Arc<Mutex<Option<(String, String)>>>,
}

impl ConditionalEventHandler for Question {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext) -> Option<Cmd> {
        let (before, after) = context.line().split_at_checked(context.pos())?;
        if !is_outside_quotes(before) {
            return None;
        }
        let line = (before.to_owned(), after.to_owned());
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
        Some(Cmd::AcceptLine)
    }
}

/// Tab.
struct Words {
    session: Rc<RefCell<Session>>,
}

impl Completer for Words {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let before = line.get(..at).unwrap_or(line);
        let completion = self.session.borrow().complete(before);
        let mut words = completion.words;
        if let [only] = words.as_mut_slice() {
            only.push(' ');
        }
        Ok((completion.start, words))
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}
