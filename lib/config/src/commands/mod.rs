//! The table of configuration commands: one file per mode or kind of object.

mod aaa;
pub(crate) mod access_list;
mod bulkstats;
mod context;
pub(crate) mod management;
mod network;
mod pki;
mod pool;
mod resources;
mod service;
mod subscriber;
mod system;
mod template;
mod transform;

use std::sync::OnceLock;

use command::{Args, Error, Tree};

use crate::{Config, SecretText};

/// Names of the modes.
mod mode {
    pub(super) const CONTEXT: &str = "context";
    pub(super) const INTERFACE: &str = "interface";
    pub(super) const PORT: &str = "port";
    pub(super) const IPV4_ACCESS_LIST: &str = "ip access-list";
    pub(super) const IPV6_ACCESS_LIST: &str = "ipv6 access-list";
    pub(super) const IPSEC_TRANSFORM_SET: &str = "ipsec transform-set";
    pub(super) const IKE_TRANSFORM_SET: &str = "ikev2-ikesa transform-set";
    pub(super) const AUTH_METHOD_SET: &str = "auth-method-set";
    pub(super) const EAP_AUTHENTICATION: &str = "eap authentication";
    pub(super) const TEMPLATE: &str = "crypto template";
    pub(super) const PAYLOAD: &str = "payload";
    pub(super) const EAP_PROFILE: &str = "eap-profile";
    pub(super) const AAA_GROUP: &str = "aaa group";
    pub(super) const SUBSCRIBER: &str = "subscriber";
    pub(super) const WSG_SERVICE: &str = "wsg-service";
    pub(super) const REMOTE_SECRETS: &str = "remote-secret-list";
    pub(super) const BULKSTATS: &str = "bulkstats";
    pub(super) const BULKSTATS_FILE: &str = "bulkstats file";
}

/// Every configuration command.
pub fn tree() -> &'static Tree<Config> {
    static TREE: OnceLock<Tree<Config>> = OnceLock::new();
    TREE.get_or_init(|| {
        let mut tree = Tree::new("Global configuration mode", "config");
        // `show configuration` prints in this order.
        system::declare(&mut tree);
        resources::declare(&mut tree);
        pki::declare(&mut tree);
        management::declare(&mut tree);
        context::declare(&mut tree);
        management::declare_context(&mut tree);
        network::declare(&mut tree);
        access_list::declare(&mut tree);
        pool::declare(&mut tree);
        aaa::declare(&mut tree);
        subscriber::declare(&mut tree);
        transform::declare(&mut tree);
        template::declare(&mut tree);
        service::declare(&mut tree);
        bulkstats::declare(&mut tree);
        system::declare_ports(&mut tree);
        tree
    })
}

/// The syntax of a secret: plain, or sealed as it is printed. Both are the parameter `name`.
fn secret_syntax(keyword: &str, name: &str, max: usize) -> String {
    format!(
        "{{{keyword}'In plain text' <{name}:secret({max})'Secret'> | encrypted'As printed by show configuration' \
         {keyword}'Encrypted form' <{name}:sealed>}}"
    )
}

/// A secret of the line, which the machinery has sealed.
fn secret(args: &Args<'_>, name: &str) -> Result<SecretText, Error> {
    optional_secret(args, name).ok_or_else(|| Error::refused("a secret is missing"))
}

fn optional_secret(args: &Args<'_>, name: &str) -> Option<SecretText> {
    args.text(name).map(SecretText::from_sealed)
}

/// A refusal because what should be removed is not there.
fn absent(args: &Args<'_>, name: &str) -> Error {
    let value = args.text(name).unwrap_or_default();
    args.refuse(name, format!("\"{value}\" is not configured"))
}

/// Removes the entry that the parameter `name` names.
fn remove<V>(
    map: &mut std::collections::BTreeMap<String, V>,
    args: &Args<'_>,
    name: &str,
) -> Result<(), Error> {
    match map.remove(args.text(name).unwrap_or_default()) {
        Some(_) => Ok(()),
        None => Err(absent(args, name)),
    }
}

/// Puts an entry where the same one stands already, otherwise at the end, so that a command entered again changes nothing.
fn put<V>(list: &mut Vec<V>, entry: V, max: usize, same: impl Fn(&V, &V) -> bool) -> Result<(), String> {
    let full = list.len() >= max;
    match list.iter_mut().find(|other| same(other, &entry)) {
        Some(place) => *place = entry,
        None if full => return Err(format!("there are {max} already")),
        None => list.push(entry),
    }
    Ok(())
}

/// Finds or makes the entry that the parameter `name` names, and returns its key.
fn find_or_make<V: Default>(
    map: &mut std::collections::BTreeMap<String, V>,
    args: &Args<'_>,
    name: &str,
) -> Result<String, Error> {
    let key: String = args.need(name)?;
    map.entry(key.clone()).or_default();
    Ok(key)
}

#[cfg(test)]
mod tests {
    #[test]
    fn declarations_are_sound() {
        assert_eq!(super::tree().defects(), Vec::<String>::new());
    }
}
