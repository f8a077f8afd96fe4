//! Who may do what.
//!
//! Who can enter the run directory owns the node: the Unix user it belongs to, and root. An account of context `local` gives one of them
//! exactly its level; without an account they may do everything. Nobody else can connect, so that an account of anybody else has no effect.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use command::{Error, Keyword as _};
use config::{Config, Finding, LOCAL, Privilege};
use nix::unistd::{Uid, User};

/// The Unix users who can enter the run directory.
pub(crate) struct Access {
    users: Vec<String>,
}

impl Access {
    /// Those of this run directory.
    pub(crate) fn of(run_dir: &Path) -> Self {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let owner = fs::metadata(run_dir).map_or(0, |metadata| outside(&map, metadata.uid()));
        let mut users: Vec<String> = [0, owner].into_iter().map(name).collect();
        users.dedup();
        Self { users }
    }

    /// The level of a user.
    pub(crate) fn level(&self, config: &Config, user: &str) -> Privilege {
        accounts(config)
            .find(|(name, _)| *name == user)
            .map_or(Privilege::Administrator, |(_, level)| level)
    }

    /// May this user do what needs this level?
    ///
    /// # Errors
    /// The sentence after `Failure: `.
    pub(crate) fn check(&self, config: &Config, user: &str, needs: Privilege) -> Result<(), Error> {
        if self.level(config, user) >= needs {
            return Ok(());
        }
        Err(Error::NotAuthorized {
            needs: needs.keyword(),
        })
    }

    /// May this user make this of the configuration?
    ///
    /// # Errors
    /// A change of accounts needs the highest level, and somebody must keep it.
    pub(crate) fn check_change(&self, before: &Config, after: &Config, user: &str) -> Result<(), Error> {
        let all = |config: &Config| -> Vec<_> {
            let accounts = config
                .contexts
                .iter()
                .map(|(name, context)| (name.clone(), context.administrators.clone()));
            accounts.filter(|(_, accounts)| !accounts.is_empty()).collect()
        };
        if all(before) == all(after) {
            return Ok(());
        }
        self.check(before, user, Privilege::Administrator)?;
        if self.is_locked(after) && !self.is_locked(before) {
            return Err(Error::refused(format!(
                "then nobody could change accounts any more: of those who can enter ({}), one must be administrator or have no account",
                self.users.join(", ")
            )));
        }
        Ok(())
    }

    /// What is wrong with the accounts.
    pub(crate) fn findings(&self, config: &Config) -> Vec<Finding> {
        let mut findings: Vec<Finding> = accounts(config)
            .filter(|(name, _)| !self.users.iter().any(|user| user == name))
            .map(|(name, level)| {
                let message = format!(
                    "it takes effect for the Unix user {name} of the node only, and in this version only {} can enter",
                    self.users.join(" and ")
                );
                Finding::new(false, vec![format!("context {LOCAL}"), format!("{level} {name}")], &message)
            })
            .collect();
        if self.is_locked(config) {
            let message = "nobody who can enter may change accounts";
            findings.push(Finding::new(true, vec![format!("context {LOCAL}")], message));
        }
        findings
    }

    /// Nobody who can enter has the highest level.
    fn is_locked(&self, config: &Config) -> bool {
        !self
            .users
            .iter()
            .any(|user| self.level(config, user) == Privilege::Administrator)
    }
}

fn accounts(config: &Config) -> impl Iterator<Item = (&str, Privilege)> {
    config
        .contexts
        .get(LOCAL)
        .into_iter()
        .flat_map(|context| &context.administrators)
        .map(|(name, account)| (name.as_str(), account.level))
}

/// The number that a user of this user namespace has outside of it, where shells are started.
fn outside(map: &str, uid: u32) -> u32 {
    let line = |line: &str| -> Option<u32> {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>().ok());
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let offset = uid.checked_sub(inside).filter(|offset| *offset < count)?;
        outside.checked_add(offset)
    };
    map.lines().find_map(line).unwrap_or(uid)
}

fn name(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(lines: &str) -> Config {
        Config::parse(&format!("config\ncontext local\n{lines}\nend\n")).unwrap()
    }

    fn access() -> Access {
        Access {
            users: vec!["root".to_owned(), "anna".to_owned()],
        }
    }

    #[test]
    fn an_account_gives_exactly_its_level() {
        let config = config("operator anna nopassword");
        assert_eq!(access().level(&config, "anna"), Privilege::Operator);
        assert_eq!(access().level(&config, "root"), Privilege::Administrator);
        assert!(access().check(&config, "anna", Privilege::Operator).is_ok());
        let refused = access().check(&config, "anna", Privilege::ConfigAdministrator);
        assert!(refused.unwrap_err().to_string().contains("config-administrator"));
    }

    #[test]
    fn accounts_are_the_security_administrator_s() {
        let before = config("config-administrator anna nopassword");
        let after = config("administrator anna nopassword");
        assert!(access().check_change(&before, &after, "anna").is_err());
        assert!(access().check_change(&before, &after, "root").is_ok());
        assert!(access().check_change(&before, &before, "anna").is_ok());
    }

    #[test]
    fn the_last_one_is_not_locked_out() {
        let before = config("operator anna nopassword");
        let after = config("operator anna nopassword\ninspector root nopassword");
        let error = access().check_change(&before, &after, "root").unwrap_err();
        assert!(error.to_string().contains("nobody could"), "{error}");
        assert!(access().findings(&after).iter().any(|finding| finding.is_error));
        // Who is locked out by a file can be let in again by nobody, but what goes that way is not refused.
        assert!(access().check_change(&after, &before, "anna").is_err());
    }

    #[test]
    fn an_account_of_somebody_who_cannot_enter_is_told_of() {
        let findings = access().findings(&config("operator noc nopassword\noperator anna nopassword"));
        assert_eq!(findings.len(), 1);
        assert_eq!(
            findings[0].message,
            "context local, operator noc: it takes effect for the Unix user noc of the node only, and in this version only root and anna \
             can enter"
        );
    }

    #[test]
    fn users_of_a_namespace_are_those_outside() {
        assert_eq!(outside("         0          0 4294967295\n", 7), 7);
        assert_eq!(outside("0 1000 1\n", 0), 1_000);
        assert_eq!(outside("", 3), 3);
    }
}
