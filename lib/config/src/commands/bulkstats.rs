//! Bulk statistics.

use std::net::IpAddr;

use command::{Args, Command, Error, Lines, ModeBuilder, Tree, lens, quote};

use super::{absent, mode, put, secret, secret_syntax};
use crate::bulkstats::{Kind, unknown_variable};
use crate::{Bulkstats, BulkstatsFile, BulkstatsReceiver, Config, SYSTEM_SCHEMA, TransferMechanism};

pub(super) fn declare(tree: &mut Tree<Config>) {
    let initial = Bulkstats::default();
    tree.root()
        .explain("bulkstats", "Bulk statistics")
        .add(Command::flag(
            "bulkstats collection",
            "Collects bulk statistics",
            lens!(bulkstats.collection),
            initial.collection,
        ))
        .add(
            Command::<Config>::new("bulkstats mode", "Goes to the settings of bulk statistics")
                .enter_field(
                    mode::BULKSTATS,
                    lens!(bulkstats),
                    |_| Some("bulkstats mode".to_owned()),
                    |bulkstats| {
                        let collection = bulkstats.collection;
                        *bulkstats
                            != Bulkstats {
                                collection,
                                ..Bulkstats::default()
                            }
                    },
                )
                .no("bulkstats mode")
                .unset(|config, _| {
                    config.bulkstats = Bulkstats {
                        collection: config.bulkstats.collection,
                        ..Bulkstats::default()
                    };
                    Ok(())
                }),
        )
        .unsupported(&[
            "bulkstats historical",
            "bulkstats smart-license",
            "bulkstats push",
        ]);
    let mut settings = tree.mode::<Bulkstats>(mode::BULKSTATS, "Bulk statistics configuration mode", |_| {
        "config-bulkstats".to_owned()
    });
    settings
        .add(Command::value(
            "sample-interval <value:1-1440'Minutes'>",
            "Sets the time between samples",
            lens!(sample_interval),
            initial.sample_interval,
        ))
        .add(Command::value(
            "transfer-interval <value:1-999999'Minutes'>",
            "Sets the time between files",
            lens!(transfer_interval),
            initial.transfer_interval,
        ))
        .add(Command::value(
            "limit <value:20-4000'Kilobytes'>",
            "Limits the collected data",
            lens!(limit),
            initial.limit,
        ))
        .add(
            Command::<Bulkstats>::new("file <file:1-4'Number'>", "Goes to one file and creates it")
                .enter(
                    mode::BULKSTATS_FILE,
                    lens!(files),
                    |bulkstats, args| {
                        let number: u8 = args.need("file")?;
                        bulkstats.files.entry(number).or_default();
                        Ok(number)
                    },
                    |number, _| format!("file {number}"),
                )
                .no("file <file:1-4>")
                .unset(|bulkstats, args| {
                    let number: u8 = args.need("file")?;
                    bulkstats
                        .files
                        .remove(&number)
                        .map(|_| ())
                        .ok_or_else(|| absent(args, "file"))
                }),
        );
    // Outside a file, the same commands mean the first one; they are printed there.
    file_commands(&mut settings, |bulkstats| bulkstats.files.entry(1).or_default());
    settings.unsupported(&["gather-on-standby", "remotefile dir", "config"]);
    let mut file = tree.mode::<BulkstatsFile>(
        mode::BULKSTATS_FILE,
        "Bulk statistics file configuration mode",
        |_| "config-bulkstats-file".to_owned(),
    );
    file_commands(&mut file, |file| file);
    file.print(print);
}

/// Longest `schema ... format`, `header format`, `footer format`, `remotefile format`.
const MAX_FORMAT: usize = 3_599;
const MAX_HEADER: usize = 2_047;
const MAX_NAME: usize = 127;

fn file_commands<T: 'static>(mode: &mut ModeBuilder<'_, T>, file: fn(&mut T) -> &mut BulkstatsFile) {
    mode.add(format(
        "remotefile'The written file' format",
        MAX_NAME,
        "Sets the name of the file",
        file,
        |file| &mut file.remotefile,
    ));
    mode.add(format(
        "header'First line' format",
        MAX_HEADER,
        "Sets the first line",
        file,
        |file| &mut file.header,
    ));
    mode.add(format(
        "footer'Last line' format",
        MAX_HEADER,
        "Sets the last line",
        file,
        |file| &mut file.footer,
    ));
    mode.add(receiver(file));
    mode.explain("schema", "A line of the file");
    mode.explain("format", "What the line says");
    let definition = format!(
        "schema <schema:name(31)'Name of the schema'> format <format:text({MAX_FORMAT})'Text with %variables%'>"
    );
    mode.add(schema("", &definition, file));
    mode.add(schema("<type:name(31)'Type of the schema'> ", &definition, file));
}

fn format<T: 'static>(
    words: &str,
    max: usize,
    help: &'static str,
    file: fn(&mut T) -> &mut BulkstatsFile,
    field: fn(&mut BulkstatsFile) -> &mut Option<String>,
) -> Command<T> {
    let plain = words.split('\'').step_by(2).collect::<String>();
    Command::<T>::new(
        format!("{words} <format:text({max})'Text with %variables%'>"),
        help,
    )
    .undo(&plain)
    .set(move |object, args| {
        variables_exist(args, None)?;
        *field(file(object)) = args.get("format")?;
        Ok(())
    })
    .unset(move |object, _| {
        *field(file(object)) = None;
        Ok(())
    })
}

fn schema<T: 'static>(kind: &str, definition: &str, file: fn(&mut T) -> &mut BulkstatsFile) -> Command<T> {
    let key = |args: &Args<'_>| -> Result<(String, String), Error> {
        let kind = args.text("type").unwrap_or(SYSTEM_SCHEMA).to_owned();
        Ok((kind, args.need("schema")?))
    };
    Command::<T>::new(
        format!("{kind}{definition}"),
        "Adds a line for each object of this type",
    )
    .no(format!("{kind}schema <schema:name(31)>"))
    .set(move |object, args| {
        let schemas = &mut file(object).schemas;
        let key = key(args)?;
        // Of other types nothing is written, which is a finding.
        if let Some(kind) = Kind::find(&key.0) {
            variables_exist(args, Some(kind))?;
        }
        if schemas.len() == MAX_SCHEMAS && !schemas.contains_key(&key) {
            return Err(args.refuse("schema", format!("the file has {MAX_SCHEMAS} schemas already")));
        }
        schemas.insert(key, args.need("format")?);
        Ok(())
    })
    .unset(move |object, args| {
        let gone = file(object).schemas.remove(&key(args)?);
        gone.map(|_| ()).ok_or_else(|| absent(args, "schema"))
    })
}

/// Refuses a format with a variable that would stay in the file as it is written. `kind` is that of a schema; `None`: any other format.
fn variables_exist(args: &Args<'_>, kind: Option<Kind>) -> Result<(), Error> {
    let text = args.text("format").unwrap_or_default();
    let Some(variable) = unknown_variable(kind, text) else {
        return Ok(());
    };
    let variable = format!("%{variable}%");
    let place = kind.map_or_else(|| "here".to_owned(), |kind| format!("in {} schemas", kind.name()));
    let message = format!("there is no variable {variable} {place}: \"show bulkstats variables\" lists them");
    Err(args.refuse_part("format", text.find(&variable).unwrap_or(0), message))
}

/// Most schemas of a file.
const MAX_SCHEMAS: usize = 1_000;
/// Most receivers of a file: one primary, one secondary, in four sets.
const MAX_RECEIVERS: usize = 8;

fn receiver<T: 'static>(file: fn(&mut T) -> &mut BulkstatsFile) -> Command<T> {
    let login = format!(
        "login'User' <user:name(31)'User name'> {}",
        secret_syntax("password", "password", 31)
    );
    Command::<T>::new(
        format!(
            "receiver <address:ip'Server address'> {{primary'Tried first'|secondary'Tried when the first fails'}} \
             [mechanism'How' {{tftp'TFTP' | {{ftp'FTP'|sftp'SFTP'}} {login}}}]"
        ),
        "Sends the file to a server",
    )
    .no("receiver <address:ip>")
    .set(move |object, args| {
        let login = || -> Result<_, Error> { Ok((args.need("user")?, secret(args, "password")?)) };
        let mechanism = if args.has("sftp") {
            let (user, password) = login()?;
            TransferMechanism::Sftp(user, password)
        } else if args.has("ftp") {
            let (user, password) = login()?;
            TransferMechanism::Ftp(user, password)
        } else {
            TransferMechanism::Tftp
        };
        let receiver = BulkstatsReceiver {
            address: args.need("address")?,
            primary: args.has("primary"),
            mechanism,
        };
        put(&mut file(object).receivers, receiver, MAX_RECEIVERS, |one, other| one.address == other.address)
            .map_err(|message| args.refuse("address", message))
    })
    .unset(move |object, args| {
        let address: IpAddr = args.need("address")?;
        let receivers = &mut file(object).receivers;
        let before = receivers.len();
        receivers.retain(|receiver| receiver.address != address);
        if receivers.len() == before { Err(absent(args, "address")) } else { Ok(()) }
    })
}

fn print(file: &BulkstatsFile, out: &mut Lines) {
    for (words, text) in [
        ("remotefile format", &file.remotefile),
        ("header format", &file.header),
        ("footer format", &file.footer),
    ] {
        if let Some(text) = text {
            out.quoted(words, text);
        }
    }
    for receiver in &file.receivers {
        let role = if receiver.primary { "primary" } else { "secondary" };
        let mechanism = match &receiver.mechanism {
            TransferMechanism::Tftp => "tftp".to_owned(),
            TransferMechanism::Ftp(user, password) => {
                format!("ftp login {user} encrypted password {}", password.sealed())
            }
            TransferMechanism::Sftp(user, password) => {
                format!("sftp login {user} encrypted password {}", password.sealed())
            }
        };
        out.line(format!(
            "receiver {} {role} mechanism {mechanism}",
            receiver.address
        ));
    }
    for ((kind, name), format) in &file.schemas {
        let prefix = if kind == SYSTEM_SCHEMA {
            String::new()
        } else {
            format!("{kind} ")
        };
        out.line(format!("{prefix}schema {name} format {}", quote(format)));
    }
}
