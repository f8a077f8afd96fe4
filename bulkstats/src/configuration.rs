//! From the configuration to settings.

use std::time::Duration;

use config::Config;
use config::bulkstats::{Format, Kind};

use crate::settings::{DEFAULT_REMOTE_FILE, FileSettings, SchemaSettings, Settings};
use crate::variables::{Identity, WsgService};

/// What `bulkstats mode` asks for.
pub fn settings(config: &Config) -> Settings {
    let minutes = |minutes: u32| Duration::from_secs(u64::from(minutes) * 60);
    let bulkstats = &config.bulkstats;
    let files = bulkstats.files.iter().map(|(number, file)| FileSettings {
        number: u32::from(*number),
        remote_file: file
            .remotefile
            .clone()
            .unwrap_or_else(|| DEFAULT_REMOTE_FILE.to_owned()),
        header: file.header.clone().unwrap_or_default(),
        footer: file.footer.clone().unwrap_or_default(),
        schemas: file
            .schemas
            .iter()
            .filter_map(|((kind, name), format)| {
                // Types that are not sampled are a finding of the configuration.
                Some(SchemaSettings {
                    kind: Kind::find(kind)?,
                    name: name.clone(),
                    format: Format::parse(format),
                })
            })
            .collect(),
    });
    Settings {
        collecting: bulkstats.collection,
        sample_interval: minutes(bulkstats.sample_interval),
        transfer_interval: minutes(bulkstats.transfer_interval),
        limit: u64::from(bulkstats.limit) * 1_024,
        files: files.collect(),
    }
}

/// Who the node is: its management address is the first of context local.
pub fn identity(config: &Config) -> Identity {
    let local = config.contexts.get(config::LOCAL);
    let addresses = local.into_iter().flat_map(|context| context.interfaces.values());
    let address = addresses
        .filter_map(|interface| interface.primary)
        .map(|network| network.addr())
        .next();
    Identity {
        host: config.system.hostname.clone(),
        address: address.map_or_else(String::new, |address| address.to_string()),
        version: VERSION.to_owned(),
        build: VERSION.to_owned(),
        uptime: 0,
    }
}

/// The services, numbered in the order of context identifiers, then by name.
pub fn services(config: &Config) -> Vec<WsgService> {
    config
        .wsg_services()
        .zip(1..)
        .map(|((context_name, context, name, service), number)| WsgService {
            context: context_name.to_owned(),
            context_number: context.id,
            name: name.to_owned(),
            number,
            address: service
                .bind
                .as_ref()
                .map_or_else(String::new, |bind| bind.address.to_string()),
        })
        .collect()
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
