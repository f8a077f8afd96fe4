//! `ikev2-ikesa ...` of a crypto template.

use command::{Command, ModeBuilder, lens};

use super::unique;
use crate::{CryptoTemplate, ErrorNotification, IkeSaPolicy, Rekey};

pub(super) fn add(template: &mut ModeBuilder<'_, CryptoTemplate>) {
    let initial = IkeSaPolicy::default();
    template
        .explain("policy", "Error notifications")
        .add(Command::flag(
            "ikev2-ikesa allow-empty-ikesa",
            "Keeps an IKE SA that has no child left",
            lens!(ikesa.allow_empty),
            initial.allow_empty,
        ))
        .add(auth_method_sets())
        .add(Command::flag(
            "ikev2-ikesa keepalive-user-activity",
            "Counts peers' keepalives as activity of the session",
            lens!(ikesa.keepalive_user_activity),
            initial.keepalive_user_activity,
        ))
        .add(Command::value(
            "ikev2-ikesa max-retransmissions <value:1-8'Retransmissions'>",
            "Sets how often a request is retransmitted",
            lens!(ikesa.max_retransmissions),
            initial.max_retransmissions,
        ))
        .add(congestion_rejection())
        .add(error_notification())
        .add(Command::flag(
            "ikev2-ikesa policy use-rfc5996-notification",
            "Sends TEMPORARY_FAILURE and CHILD_SA_NOT_FOUND",
            lens!(ikesa.use_rfc5996_notification),
            initial.use_rfc5996_notification,
        ))
        .add(rekey())
        .add(retransmission_timeout())
        .add(Command::value(
            "ikev2-ikesa setup-timer <value:1-3600'Seconds'>",
            "Limits the time of a set-up",
            lens!(ikesa.setup_timer),
            initial.setup_timer,
        ))
        .add(transform_sets())
        .unsupported(&[
            "ikev2-ikesa cert-sign",
            "ikev2-ikesa configuration-attribute",
            "ikev2-ikesa ddos",
            "ikev2-ikesa dscp",
            "ikev2-ikesa emergency",
            "ikev2-ikesa fragmentation",
            "ikev2-ikesa idi",
            "ikev2-ikesa ignore-notify-protocol-id",
            "ikev2-ikesa ignore-rekeying-requests",
            "ikev2-ikesa mobike",
            "ikev2-ikesa notify-msg-error-value",
            "ikev2-ikesa timeout",
        ]);
}

fn auth_method_sets() -> Command<CryptoTemplate> {
    Command::<CryptoTemplate>::new(
        "ikev2-ikesa auth-method-set list <set:name(127)'Name of a set of methods'>*3",
        "Adds sets of authentication methods",
    )
    .undo("ikev2-ikesa auth-method-set [list]")
    .set(|template, args| {
        // The reference's example names a set twice, so that this is no mistake.
        let mut sets: Vec<String> = Vec::new();
        for set in args.all("set") {
            if !sets.iter().any(|other| other == set) {
                sets.push(set.to_owned());
            }
        }
        template.auth_method_sets = sets;
        Ok(())
    })
    .unset(|template, _| {
        template.auth_method_sets.clear();
        Ok(())
    })
    .show(|template, out| {
        if !template.auth_method_sets.is_empty() {
            let names = template.auth_method_sets.join(" ");
            out.line(format!("ikev2-ikesa auth-method-set list {names}"));
        }
    })
}

fn congestion_rejection() -> Command<CryptoTemplate> {
    let words = "ikev2-ikesa policy congestion-rejection";
    Command::<CryptoTemplate>::new(
        format!(
            "{words}'New peers in congestion' [notify-status-value'Instead of TEMPORARY_FAILURE' <value:40960-65535'Private status type'>]"
        ),
        "Chooses the notification that refuses new peers in congestion",
    )
    .undo(&format!("{words} [notify-status-value [<value:40960-65535>]]"))
    .set(|template, args| {
        template.ikesa.congestion_notify = args.get("value")?;
        Ok(())
    })
    .unset(|template, _| {
        template.ikesa.congestion_notify = None;
        Ok(())
    })
    .show(move |template, out| {
        if let Some(value) = template.ikesa.congestion_notify {
            out.line(format!("{words} notify-status-value {value}"));
        }
    })
}

fn error_notification() -> Command<CryptoTemplate> {
    Command::<CryptoTemplate>::new(
        "ikev2-ikesa policy {error-notification'Only these are sent' [invalid-major-version'INVALID_MAJOR_VERSION'] \
         [invalid-message-id'INVALID_MESSAGE_ID'] [invalid-syntax'INVALID_SYNTAX'] | ~invalid-syntax [~invalid-major-version]}",
        "Chooses the error notifications that are sent",
    )
    .undo("ikev2-ikesa policy error-notification")
    .set(|template, args| {
        let chosen = ErrorNotification {
            invalid_major_version: args.has("invalid-major-version"),
            invalid_message_id: args.has("invalid-message-id"),
            invalid_syntax: args.has("invalid-syntax"),
        };
        // Without a choice: Message IDs and syntax.
        template.ikesa.error_notification = match chosen == NOTHING {
            true => ErrorNotification {
                invalid_major_version: false,
                ..ErrorNotification::default()
            },
            false => chosen,
        };
        Ok(())
    })
    .unset(|template, _| {
        template.ikesa.error_notification = NOTHING;
        Ok(())
    })
    .reset(|template, _| {
        template.ikesa.error_notification = ErrorNotification::default();
        Ok(())
    })
    .show(|template, out| {
        let chosen = template.ikesa.error_notification;
        if chosen == NOTHING {
            out.line("no ikev2-ikesa policy error-notification");
        } else if chosen != ErrorNotification::default() {
            let mut line = "ikev2-ikesa policy error-notification".to_owned();
            for (sent, word) in [
                (chosen.invalid_major_version, " invalid-major-version"),
                (chosen.invalid_message_id, " invalid-message-id"),
                (chosen.invalid_syntax, " invalid-syntax"),
            ] {
                line.push_str(if sent { word } else { "" });
            }
            out.line(line);
        }
    })
}

const NOTHING: ErrorNotification = ErrorNotification {
    invalid_major_version: false,
    invalid_message_id: false,
    invalid_syntax: false,
};

fn rekey() -> Command<CryptoTemplate> {
    Command::<CryptoTemplate>::new(
        "ikev2-ikesa rekey [disallow-param-change'The peer must keep the parameters']",
        "Rekeys IKE SAs before their lifetime ends",
    )
    .undo("ikev2-ikesa rekey [disallow-param-change]")
    .set(|template, args| {
        template.ikesa.rekey = Some(Rekey {
            disallow_param_change: args.has("disallow-param-change"),
        });
        Ok(())
    })
    .unset(|template, args| {
        template.ikesa.rekey = match (template.ikesa.rekey, args.has("disallow-param-change")) {
            (Some(_), true) => Some(Rekey {
                disallow_param_change: false,
            }),
            _ => None,
        };
        Ok(())
    })
    .show(|template, out| match template.ikesa.rekey {
        Some(Rekey {
            disallow_param_change: true,
        }) => out.line("ikev2-ikesa rekey disallow-param-change"),
        Some(_) => out.line("ikev2-ikesa rekey"),
        None => {}
    })
}

fn retransmission_timeout() -> Command<CryptoTemplate> {
    Command::<CryptoTemplate>::new(
        "ikev2-ikesa retransmission-timeout <milliseconds:300-15000'Milliseconds'> [exponential'Doubled each time']",
        "Sets the time before a request is retransmitted",
    )
    .undo("ikev2-ikesa retransmission-timeout")
    .set(|template, args| {
        template.ikesa.retransmission_timeout = args.need("milliseconds")?;
        template.ikesa.exponential = args.has("exponential");
        Ok(())
    })
    .unset(|template, _| {
        let initial = IkeSaPolicy::default();
        template.ikesa.retransmission_timeout = initial.retransmission_timeout;
        template.ikesa.exponential = initial.exponential;
        Ok(())
    })
    .show(|template, out| {
        let (policy, initial) = (&template.ikesa, IkeSaPolicy::default());
        if policy.exponential || policy.retransmission_timeout != initial.retransmission_timeout {
            let exponential = if policy.exponential { " exponential" } else { "" };
            out.line(format!(
                "ikev2-ikesa retransmission-timeout {}{exponential}",
                policy.retransmission_timeout
            ));
        }
    })
}

fn transform_sets() -> Command<CryptoTemplate> {
    Command::<CryptoTemplate>::new(
        "ikev2-ikesa {transform-set'Proposals' list | ~transform-setlist | ~transform ~set ~list} <set:name(127)'Name of a transform set'>*6",
        "Lists the proposals for IKE SAs, preferred first",
    )
    .undo("ikev2-ikesa transform-set [list]")
    .set(|template, args| {
        template.ikesa.transform_sets = unique(args, "set")?;
        Ok(())
    })
    .unset(|template, _| {
        template.ikesa.transform_sets.clear();
        Ok(())
    })
    .show(|template, out| {
        if !template.ikesa.transform_sets.is_empty() {
            let names = template.ikesa.transform_sets.join(" ");
            out.line(format!("ikev2-ikesa transform-set list {names}"));
        }
    })
}
