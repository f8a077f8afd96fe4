//! The values of the variables that `config::bulkstats` declares.

use std::time::SystemTime;

pub use config::bulkstats::{Kind, rows};
use telemetry::counters::{Counter, Schema};
use telemetry::time::{Civil, Zone, unix_seconds};
use telemetry::{Reader, Scope};

use crate::card::CardSample;

/// A `wsg-service` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WsgService {
    /// Context name.
    pub context: String,
    /// Number of the context.
    pub context_number: u32,
    /// Service name.
    pub name: String,
    /// Number of the service.
    pub number: u32,
    /// Bind address; empty when there is none.
    pub address: String,
}

/// What the node tells about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// `system hostname`.
    pub host: String,
    /// Management address; empty when there is none.
    pub address: String,
    /// Software version.
    pub version: String,
    /// Build number.
    pub build: String,
    /// Seconds since the node started.
    pub uptime: u64,
}

/// Everything that a sample can name, at one moment.
pub struct Values<'a> {
    /// The node.
    pub identity: &'a Identity,
    /// Its counters.
    pub counters: &'a Reader,
    /// Its services.
    pub services: &'a [WsgService],
    /// Its processors and memory.
    pub card: CardSample,
    /// When.
    pub now: SystemTime,
    /// Where.
    pub zone: &'a Zone,
}

/// An object that a line is about.
#[derive(Debug, Clone, Copy)]
pub enum Object<'a> {
    /// The card.
    Card,
    /// A service.
    Wsg(&'a WsgService),
    /// The node.
    System,
}

impl Values<'_> {
    /// The objects of a kind, sorted by their keys.
    pub fn objects(&self, kind: Kind) -> Vec<Object<'_>> {
        match kind {
            Kind::Card => vec![Object::Card],
            Kind::System => vec![Object::System],
            Kind::Wsg => {
                let mut services: Vec<_> = self.services.iter().collect();
                services.sort_by(|a, b| (&a.context, &a.name).cmp(&(&b.context, &b.name)));
                services.into_iter().map(Object::Wsg).collect()
            }
        }
    }

    /// The value of a variable in a line about an object; `None` when the variable does not exist there.
    pub fn of(&self, object: Object<'_>, variable: &str) -> Option<String> {
        let specific = match object {
            Object::Card => self.card.value(variable),
            Object::System => self.counter(Schema::System, variable, |counter| self.counters.sum(counter)),
            Object::Wsg(service) if variable == "state" => {
                let state = telemetry::show::wsg_state(self.counters, &service.context, &service.name);
                Some(state.to_owned())
            }
            Object::Wsg(service) => wsg_key(service, variable).or_else(|| {
                let scope = Scope::wsg(&service.context, &service.name);
                self.counter(Schema::Wsg, variable, |counter| {
                    self.counters.scoped_sum(&scope, counter)
                })
            }),
        };
        specific.or_else(|| self.common(variable))
    }

    fn counter(&self, schema: Schema, variable: &str, value: impl Fn(Counter) -> u64) -> Option<String> {
        Counter::find(schema, variable).map(|counter| value(counter).to_string())
    }

    /// The value of a variable of the common schema, which every line, header, footer and file name may use.
    pub fn common(&self, variable: &str) -> Option<String> {
        let utc = || Civil::utc(self.now);
        let local = || Civil::local(self.now, self.zone);
        let offset = || self.zone.offset(unix_seconds(self.now));
        Some(match variable {
            "uptime" | "sysuptime" => self.identity.uptime.to_string(),
            "host" => self.identity.host.clone(),
            "ipaddr" => self.identity.address.clone(),
            "swbuild" => self.identity.build.clone(),
            "version-no" => self.identity.version.clone(),
            "epochtime" => unix_seconds(self.now).to_string(),
            "date" => date(&utc()),
            "date3" => short_date(&utc()),
            "time" => time(&utc()),
            "time2" => time_with_colons(&utc()),
            "time3" => short_time(&utc()),
            "localdate" => date(&local()),
            "localdate3" => short_date(&local()),
            "localtime" => time(&local()),
            "localtime2" => time_with_colons(&local()),
            "localtime3" => short_time(&local()),
            "localtz" => offset().abbreviation,
            "localtzoffset" => {
                let seconds = offset().seconds;
                let sign = if seconds < 0 { '-' } else { '+' };
                let minutes = seconds.unsigned_abs() / 60;
                format!("{sign}{:02}{:02}", minutes / 60, minutes % 60)
            }
            _ => return None,
        })
    }
}

fn wsg_key(service: &WsgService, variable: &str) -> Option<String> {
    Some(match variable {
        "vpnname" => service.context.clone(),
        "vpnid" => service.context_number.to_string(),
        "svcname" => service.name.clone(),
        "svcid" => service.number.to_string(),
        "bindaddress" => service.address.clone(),
        _ => return None,
    })
}

fn date(time: &Civil) -> String {
    format!("{:04}{:02}{:02}", time.year, time.month, time.day)
}

fn short_date(time: &Civil) -> String {
    format!("{:02}{:02}{:02}", time.year.rem_euclid(100), time.month, time.day)
}

fn time(time: &Civil) -> String {
    format!("{:02}{:02}{:02}", time.hour, time.minute, time.second)
}

fn time_with_colons(time: &Civil) -> String {
    format!("{:02}:{:02}:{:02}", time.hour, time.minute, time.second)
}

fn short_time(time: &Civil) -> String {
    format!("{:02}{:02}", time.hour, time.minute)
}
