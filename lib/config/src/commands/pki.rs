//! Certificates, keys, remote secrets.

use std::net::IpAddr;

use command::{Args, Command, Error, Keyword, Lines, Tree, lens, quote};

use super::{absent, find_or_make, mode, remove, secret, secret_syntax};
use crate::{
    CaCertificate, Certificate, CertificateSource, Config, Encoding, IdType, Identity, MAX_REMOTE_SECRETS,
    PrivateKey, RemoteSecretList,
};

pub(super) fn declare(tree: &mut Tree<Config>) {
    tree.root()
        .explain("crypto", "IPsec policy")
        .explain("certificate", "Our certificates")
        .explain("ca-certificate", "Certificates of authorities")
        .explain("name", "Its name")
        .add(certificate())
        .add(private_key())
        .add(ca_certificate())
        .add(
            Command::<Config>::new(
                "crypto remote-secret-list <list:name(127)'Name of the list'>",
                "Goes to a list of pre-shared keys by identity and creates it",
            )
            .enter(
                mode::REMOTE_SECRETS,
                lens!(remote_secret_lists),
                |config, args| {
                    // One list per system; it may hold any number of templates.
                    let name = args.text("list").unwrap_or_default();
                    if let Some(other) = config.remote_secret_lists.keys().find(|other| *other != name) {
                        return Err(args.refuse(
                            "list",
                            format!("there is the list {other} already, and only one can be"),
                        ));
                    }
                    find_or_make(&mut config.remote_secret_lists, args, "list")
                },
                |name, _| format!("crypto remote-secret-list {name}"),
            )
            .no("crypto remote-secret-list <list:name(127)>")
            .unset(|config, args| {
                let name = args.text("list").unwrap_or_default();
                let templates = config
                    .contexts
                    .values()
                    .flat_map(|context| context.crypto_templates.iter());
                let user = templates
                    .filter(|(_, template)| {
                        template
                            .remote_secret_list
                            .as_deref()
                            .is_some_and(|list| list == name || list.is_empty())
                    })
                    .map(|(template, _)| template.clone())
                    .next();
                match user {
                    Some(user) => Err(args.refuse("list", format!("crypto template {user} uses this list"))),
                    None => remove(&mut config.remote_secret_lists, args, "list"),
                }
            }),
        );
    tree.mode::<RemoteSecretList>(
        mode::REMOTE_SECRETS,
        "Remote secret list configuration mode",
        |_| "config-remote-secret-list".to_owned(),
    )
    .explain("remote-id", "Identity of peers")
    .explain("id-type", "Type of the identity")
    .add(remote_id());
}

/// A private key, as in `private-key ...`; its parameters are called `key-...`.
const PRIVATE_KEY: &str = "{pem'Text form' {data'In this line' <key-data:secret(8000)'Text; \\n stands for a new line'> | encrypted'As printed by \
     show configuration' data'Encrypted form' <key-data:sealed> | url'In a file' {~file: <key-url:text(1023)'File'> | <key-url:text(1023)'File'>}} | \
     der'Binary form' url'In a file' {~file: <key-der-url:text(1023)> | <key-der-url:text(1023)'File'>}}";

/// A certificate; its parameters are called `data`, `url`, `der-url`.
const CERTIFICATE: &str = "pem'Text form' {data'In this line' <data:text(8000)'Text; \\n stands for a new line'> | url'In a file' \
     {~file: <url:text(1023)'File'> | <url:text(1023)'File'>}} | der'Binary form' url'In a file' {~file: <der-url:text(1023)> | <der-url:text(1023)'File'>}";

fn certificate() -> Command<Config> {
    Command::<Config>::new(
        format!(
            "certificate name <name:name(129)'Name of the certificate'> {{{CERTIFICATE}}} [private-key'Its key' {PRIVATE_KEY}] [!cert-enc]"
        ),
        "Loads a certificate of this node",
    )
    .no("certificate name <name:name(129)>")
    .set(|config, args| {
        let certificate = Certificate {
            source: source(args)?,
            private_key: key(args)?,
        };
        config.certificates.insert(args.need("name")?, certificate);
        Ok(())
    })
    .unset(|config, args| remove(&mut config.certificates, args, "name"))
    .show(|config, out| {
        for (name, certificate) in &config.certificates {
            let key = certificate.private_key.as_ref().map(|key| format!(" private-key {}", key_words(key)));
            out.line(format!(
                "certificate name {name} {}{}",
                source_words(&certificate.source),
                key.unwrap_or_default()
            ));
        }
    })
}

fn private_key() -> Command<Config> {
    Command::<Config>::new(
        format!("private-key {PRIVATE_KEY}"),
        "Loads the key of certificates that name none",
    )
    .no("private-key")
    .set(|config, args| {
        config.private_key = key(args)?;
        Ok(())
    })
    .unset(|config, _| {
        config.private_key = None;
        Ok(())
    })
    .show(|config, out: &mut Lines| {
        if let Some(key) = &config.private_key {
            out.line(format!("private-key {}", key_words(key)));
        }
    })
}

fn ca_certificate() -> Command<Config> {
    Command::<Config>::new(
        format!("ca-certificate name <name:name(129)'Name of the authority'> {{{CERTIFICATE}}}"),
        "Loads the certificate of an authority",
    )
    .no("ca-certificate name <name:name(129)>")
    .set(|config, args| {
        let certificate = CaCertificate {
            source: source(args)?,
        };
        config.ca_certificates.insert(args.need("name")?, certificate);
        Ok(())
    })
    .unset(|config, args| remove(&mut config.ca_certificates, args, "name"))
    .show(|config, out| {
        for (name, certificate) in &config.ca_certificates {
            out.line(format!(
                "ca-certificate name {name} {}",
                source_words(&certificate.source)
            ));
        }
    })
}

fn source(args: &Args<'_>) -> Result<CertificateSource, Error> {
    if let Some(data) = args.text("data") {
        return Ok(CertificateSource::Data(data.to_owned()));
    }
    if let Some(url) = args.text("der-url") {
        return Ok(CertificateSource::Url(Encoding::Der, url.to_owned()));
    }
    Ok(CertificateSource::Url(Encoding::Pem, args.need("url")?))
}

fn key(args: &Args<'_>) -> Result<Option<PrivateKey>, Error> {
    if args.text("key-data").is_some() {
        return Ok(Some(PrivateKey::Data(secret(args, "key-data")?)));
    }
    let url = |name: &str, encoding| {
        args.text(name)
            .map(|url| PrivateKey::Url(encoding, url.to_owned()))
    };
    Ok(url("key-url", Encoding::Pem).or_else(|| url("key-der-url", Encoding::Der)))
}

fn source_words(source: &CertificateSource) -> String {
    match source {
        CertificateSource::Data(data) => format!("pem data {}", quote(data)),
        CertificateSource::Url(encoding, url) => format!("{encoding} url {}", quote(url)),
    }
}

fn key_words(key: &PrivateKey) -> String {
    match key {
        PrivateKey::Data(sealed) => format!("pem encrypted data {}", sealed.sealed()),
        PrivateKey::Url(encoding, url) => format!("{encoding} url {}", quote(url)),
    }
}

fn remote_id() -> Command<RemoteSecretList> {
    Command::<RemoteSecretList>::new(
        format!(
            "remote-id id-type {{{}}} id'Its value' <id:text(255)'Identity'> secret'Its pre-shared key' {}",
            IdType::alternatives(),
            secret_syntax("key", "key", 255)
        ),
        "Sets the pre-shared key of an identity",
    )
    .no(format!(
        "remote-id id-type {{{}}} id <id:text(255)>",
        IdType::alternatives()
    ))
    .set(|list, args| {
        let identity = identity(args)?;
        if list.secrets.len() == MAX_REMOTE_SECRETS && !list.secrets.contains_key(&identity) {
            return Err(args.refuse("id", format!("the list has {MAX_REMOTE_SECRETS} entries already")));
        }
        list.secrets.insert(identity, secret(args, "key")?);
        Ok(())
    })
    .unset(|list, args| {
        let gone = list.secrets.remove(&identity(args)?);
        gone.map(|_| ()).ok_or_else(|| absent(args, "id"))
    })
    .show(|list, out| {
        for (identity, sealed) in &list.secrets {
            out.line(format!(
                "remote-id id-type {} id {} secret encrypted key {}",
                identity.kind,
                quote(&identity.value),
                sealed.sealed()
            ));
        }
    })
}

/// The identity of the line: the keyword of its type, and the parameter `id`.
pub(super) fn identity(args: &Args<'_>) -> Result<Identity, Error> {
    let identity = Identity {
        kind: args.need_keyword()?,
        value: args.need("id")?,
    };
    if identity.value.is_empty() {
        return Err(args.refuse("id", "an identity cannot be empty"));
    }
    if identity.kind == IdType::IpAddr && identity.value.parse::<IpAddr>().is_err() {
        return Err(args.refuse("id", format!("\"{}\" is not an address", identity.value)));
    }
    Ok(identity)
}
