//! Transform sets.

use command::{Command, Keyword, Tree, lens};

use super::network::ContextMode;
use super::{find_or_make, mode, remove};
use crate::{
    Config, Context, DEFAULT_LIFETIME, Encryption, Group, Hmac, IkeTransformSet, IpsecTransformSet, Prf,
};

pub(super) fn declare(tree: &mut Tree<Config>) {
    tree.context_mode()
        .add(replay())
        .add(
            Command::<Context>::new(
                "ipsec transform-set <set:name(127)'Name of the transform set'>",
                "Goes to a transform set for child SAs and creates it",
            )
            .enter(
                mode::IPSEC_TRANSFORM_SET,
                lens!(ipsec_transform_sets),
                |context, args| find_or_make(&mut context.ipsec_transform_sets, args, "set"),
                |name, _| format!("ipsec transform-set {name}"),
            )
            .no("ipsec transform-set <set:name(127)>")
            .unset(|context, args| remove(&mut context.ipsec_transform_sets, args, "set")),
        )
        .add(
            Command::<Context>::new(
                "{ikev2-ikesa'IKE SAs' | ~ikev2} transform-set'Transform set for IKE SAs' <set:name(127)'Name of the transform set'>",
                "Goes to a transform set for IKE SAs and creates it",
            )
            .enter(
                mode::IKE_TRANSFORM_SET,
                lens!(ike_transform_sets),
                |context, args| find_or_make(&mut context.ike_transform_sets, args, "set"),
                |name, _| format!("ikev2-ikesa transform-set {name}"),
            )
            .no("ikev2-ikesa transform-set <set:name(127)>")
            .unset(|context, args| remove(&mut context.ike_transform_sets, args, "set")),
        );
    ipsec(tree);
    ike(tree);
}

fn replay() -> Command<Context> {
    let sizes = "{32'Packets'|64'Packets (default)'|128'Packets'|256'Packets'|384'Packets'|512'Packets'}";
    Command::<Context>::new(
        format!("ipsec replay [window-size'Size of the window' {sizes}]"),
        "Discards packets that were received before",
    )
    .undo("ipsec replay")
    .set(|context, args| {
        let size = args.words().find_map(|word| word.parse().ok());
        context.replay_window = Some(size.unwrap_or(crate::DEFAULT_REPLAY_WINDOW));
        Ok(())
    })
    .unset(|context, _| {
        context.replay_window = None;
        Ok(())
    })
    .reset(|context, _| {
        context.replay_window = Some(crate::DEFAULT_REPLAY_WINDOW);
        Ok(())
    })
    .show(|context, out| match context.replay_window {
        Some(crate::DEFAULT_REPLAY_WINDOW) => {}
        Some(size) => out.line(format!("ipsec replay window-size {size}")),
        None => out.line("no ipsec replay"),
    })
}

fn ipsec(tree: &mut Tree<Config>) {
    let initial = IpsecTransformSet::default();
    tree.mode::<IpsecTransformSet>(
        mode::IPSEC_TRANSFORM_SET,
        "IPsec transform set configuration mode",
        |_| "cfg-ctx-ipsec-tran-set".to_owned(),
    )
    .add(Command::choice::<Encryption>(
        "encryption",
        "|!des-cbc|!3des-cbc",
        "Sets the cipher",
        lens!(encryption),
        initial.encryption,
    ))
    .add(Command::choice::<Hmac>(
        "hmac",
        "|!md5-96|!aes-xcbc-96|!null",
        "Sets the integrity algorithm",
        lens!(hmac),
        initial.hmac,
    ))
    .add(
        Command::<IpsecTransformSet>::new(
            format!(
                "group {{none'No perfect forward secrecy'|{}|!1}}",
                Group::alternatives()
            ),
            "Sets the Diffie-Hellman group of rekeying",
        )
        .undo("group")
        .set(|set, args| {
            set.group = args.keyword();
            Ok(())
        })
        .unset(|set, _| {
            set.group = None;
            Ok(())
        })
        .show(|set, out| {
            if let Some(group) = set.group {
                out.line(format!("group {group}"));
            }
        }),
    )
    .add(
        Command::<IpsecTransformSet>::new(
            "mode {tunnel'Whole packets are protected'|!transport}",
            "Sets the mode of encapsulation",
        )
        .undo("mode")
        .set(|_, _| Ok(()))
        .unset(|_, _| Ok(())),
    )
    .add(Command::flag(
        "esn",
        "Offers and accepts extended sequence numbers",
        lens!(esn),
        initial.esn,
    ));
}

fn ike(tree: &mut Tree<Config>) {
    let initial = IkeTransformSet::default();
    // An IKE SA without encryption is against RFC 7296, 3.3.2.
    let ciphers: Vec<String> = Encryption::ALL
        .iter()
        .filter(|cipher| **cipher != Encryption::Null)
        .map(|cipher| format!("{}'{}'", cipher.keyword(), cipher.help()))
        .collect();
    tree.mode::<IkeTransformSet>(
        mode::IKE_TRANSFORM_SET,
        "IKEv2 SA transform set configuration mode",
        |_| "cfg-ctx-ikev2ikesa-tran-set".to_owned(),
    )
    .add(
        Command::<IkeTransformSet>::new(
            format!("encryption {{{}|!des-cbc|!3des-cbc|!null}}", ciphers.join("|")),
            "Sets the cipher",
        )
        .undo("encryption")
        .set(|set, args| {
            set.encryption = args.need_keyword()?;
            Ok(())
        })
        .unset(move |set, _| {
            set.encryption = initial.encryption;
            Ok(())
        })
        .show(move |set, out| {
            if set.encryption != IkeTransformSet::default().encryption {
                out.line(format!("encryption {}", set.encryption));
            }
        }),
    )
    .add(Command::choice::<Group>(
        "group",
        "|!1",
        "Sets the Diffie-Hellman group",
        lens!(group),
        initial.group,
    ))
    .add(Command::choice::<Hmac>(
        "hmac",
        "|!md5-96|!aes-xcbc-96",
        "Sets the integrity algorithm",
        lens!(hmac),
        initial.hmac,
    ))
    .add(Command::value(
        "lifetime <value:60-86400'Seconds'>",
        "Limits the life of IKE SAs",
        lens!(lifetime),
        DEFAULT_LIFETIME,
    ))
    .add(Command::choice::<Prf>(
        "prf",
        "|!md5|!aes-scbc-128|!aes-xcbc-128",
        "Sets the pseudo-random function",
        lens!(prf),
        initial.prf,
    ))
    .unsupported(&["mode"]);
}
