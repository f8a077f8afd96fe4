//! `authentication ...`, in crypto templates and in method sets.

use command::{Args, Command, Error, Lens, ModeBuilder, Tree, lens};

use super::super::network::ContextMode;
use super::super::{find_or_make, mode, remove, secret, secret_syntax};
use crate::{AuthMethodSet, Config, Context, LocalAuthentication, PeerAuthentication, RemoteAuthentication};

/// `ikev2-ikesa auth-method-set NAME` of a context.
pub(super) fn declare_sets(tree: &mut Tree<Config>) {
    tree.context_mode().add(
        Command::<Context>::new(
            "ikev2-ikesa auth-method-set <set:name(127)'Name of the set'>",
            "Goes to a set of authentication methods and creates it",
        )
        .enter(
            mode::AUTH_METHOD_SET,
            lens!(auth_method_sets),
            |context, args| find_or_make(&mut context.auth_method_sets, args, "set"),
            |name, _| format!("ikev2-ikesa auth-method-set {name}"),
        )
        .no("ikev2-ikesa auth-method-set <set:name(127)>")
        .unset(|context, args| remove(&mut context.auth_method_sets, args, "set")),
    );
    let mut set = tree.mode::<AuthMethodSet>(
        mode::AUTH_METHOD_SET,
        "Authentication method set configuration mode",
        |_| "cfg-ctx-ikev2ikesa-auth-method-set".to_owned(),
    );
    let methods = Lens {
        get: |set: &AuthMethodSet| &set.0,
        get_mut: |set: &mut AuthMethodSet| &mut set.0,
    };
    add(&mut set, methods);
    // Naming an EAP profile leads to a mode of its own, which has no commands yet; whatever follows falls back to the mode around it.
    tree.mode::<PeerAuthentication>(
        mode::EAP_AUTHENTICATION,
        "EAP authentication configuration mode",
        |_| "cfg-crypto-tmpl-eap-key".to_owned(),
    )
    .unsupported(&["max-certificate-length", "password"]);
}

/// Adds the commands that fill a [`PeerAuthentication`].
pub(super) fn add<T: 'static>(builder: &mut ModeBuilder<'_, T>, methods: Lens<T, PeerAuthentication>) {
    let key = secret_syntax("key", "key", 255);
    builder
        .explain("authentication", "How both sides prove who they are")
        .explain("eap-profile", "With EAP")
        .explain("certificate", "With a certificate")
        .explain("pre-shared-key", "With a shared secret");
    builder.add(
        Command::<T>::new(
            format!(
                "authentication local'How we prove it' {{certificate'With a certificate' | pre-shared-key'With a shared secret' {key}}}"
            ),
            "Says how we prove who we are",
        )
        .no("authentication local [certificate | pre-shared-key]")
        .set(move |object, args| {
            (methods.get_mut)(object).local = Some(match args.has("certificate") {
                true => LocalAuthentication::Certificate,
                false => LocalAuthentication::PreSharedKey(secret(args, "key")?),
            });
            Ok(())
        })
        .unset(move |object, _| {
            (methods.get_mut)(object).local = None;
            Ok(())
        })
        .show(move |object, out| match &(methods.get)(object).local {
            Some(LocalAuthentication::Certificate) => out.line("authentication local certificate"),
            Some(LocalAuthentication::PreSharedKey(key)) => {
                out.line(format!("authentication local pre-shared-key encrypted key {}", key.sealed()));
            }
            None => {}
        }),
    );
    builder.add(
        Command::<T>::new(
            format!(
                "authentication remote'How peers prove it' {{certificate'With a certificate' [!second-phase] | \
                 pre-shared-key'With a shared secret' {key} [!second-phase]}}"
            ),
            "Says how peers prove who they are",
        )
        .no("authentication remote [certificate | pre-shared-key | eap-profile]")
        .set(move |object, args| {
            (methods.get_mut)(object).remote = Some(match args.has("certificate") {
                true => RemoteAuthentication::Certificate,
                false => RemoteAuthentication::PreSharedKey(secret(args, "key")?),
            });
            Ok(())
        })
        .unset(move |object, _| {
            (methods.get_mut)(object).remote = None;
            Ok(())
        })
        .show(move |object, out| match &(methods.get)(object).remote {
            Some(RemoteAuthentication::Certificate) => out.line("authentication remote certificate"),
            Some(RemoteAuthentication::PreSharedKey(key)) => {
                out.line(format!("authentication remote pre-shared-key encrypted key {}", key.sealed()));
            }
            Some(RemoteAuthentication::EapProfile(_)) | None => {}
        }),
    );
    builder.add(both_with_secret(methods, &key));
    builder.add(eap(methods));
}

fn both_with_secret<T: 'static>(methods: Lens<T, PeerAuthentication>, key: &str) -> Command<T> {
    Command::<T>::new(
        format!("authentication pre-shared-key'With a shared secret, both sides' {key} [!second-phase]"),
        "Says that both sides prove who they are with a shared secret",
    )
    .no("authentication pre-shared-key")
    .set(move |object, args| {
        let key = secret(args, "key")?;
        *(methods.get_mut)(object) = PeerAuthentication {
            local: Some(LocalAuthentication::PreSharedKey(key.clone())),
            remote: Some(RemoteAuthentication::PreSharedKey(key)),
        };
        Ok(())
    })
    .unset(move |object, _| {
        let methods = (methods.get_mut)(object);
        methods
            .local
            .take_if(|local| matches!(local, LocalAuthentication::PreSharedKey(_)));
        methods
            .remote
            .take_if(|remote| matches!(remote, RemoteAuthentication::PreSharedKey(_)));
        Ok(())
    })
}

fn eap<T: 'static>(methods: Lens<T, PeerAuthentication>) -> Command<T> {
    Command::<T>::new(
        "authentication [remote'How peers prove it'] eap-profile'With EAP' <profile:name(127)'Name of an EAP profile'> [!second-phase]",
        "Says that peers prove who they are with EAP",
    )
    .no("authentication eap-profile [<profile:name(127)>]")
    .set(move |object, args: &Args<'_>| -> Result<(), Error> {
        (methods.get_mut)(object).remote = Some(RemoteAuthentication::EapProfile(args.need("profile")?));
        Ok(())
    })
    .unset(move |object, _| {
        let remote = &mut (methods.get_mut)(object).remote;
        remote.take_if(|remote| matches!(remote, RemoteAuthentication::EapProfile(_)));
        Ok(())
    })
    .enter_field(
        mode::EAP_AUTHENTICATION,
        methods,
        |methods| match &methods.remote {
            Some(RemoteAuthentication::EapProfile(profile)) => {
                Some(format!("authentication remote eap-profile {profile}"))
            }
            _ => None,
        },
        |_| true,
    )
}
