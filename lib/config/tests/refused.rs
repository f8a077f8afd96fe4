//! What was refused takes its whole mode along, and what follows lands where it belongs.

mod common;

use common::Visible;
use config::{Config, DeploymentMode, Loaded, load};

/// The lines of a configuration that are reported.
fn refused(loaded: &Loaded) -> Vec<usize> {
    loaded.errors.iter().map(|error| error.line).collect()
}

/// The same file as it is printed, without indentation, and with another word for the end of a mode.
fn variants(text: &str) -> Vec<String> {
    let flat: String = text.lines().map(|line| format!("{}\n", line.trim())).collect();
    vec![
        text.replace("#exit", "exit"),
        flat.replace("#exit", "exit"),
        text.to_owned(),
        flat,
    ]
}

/// The reference's way to make the gateway an initiator: a list of peers in the context, and a service after it.
#[test]
fn a_mode_that_is_not_supported_ends_with_its_own_exit() {
    let text = "config
  context wsg
    crypto peer-list ipv4 peer01
      address 192.0.2.7
      address 192.0.2.8
    #exit
    interface ran
      ip address 192.0.2.1 255.255.255.0
    #exit
    wsg-service s
      peer-list peer01
      initiator-mode-duration 20
      deployment-mode site-to-site
    #exit
  #exit
  context other
    crypto map m ikev2-ipv4
      match address acl1
      payload p match ipv4
        lifetime 300
      #exit
      peer 192.0.2.9
    #exit
    crypto peer-list ipv6 empty
    #exit
    ip pool p 10.0.0.0/16
  #exit
end
";
    for text in variants(text) {
        let loaded = load(&text, &Visible);
        assert_eq!(
            refused(&loaded),
            [3, 4, 5, 11, 12, 17, 18, 19, 20, 22, 24],
            "{text}\n{:#?}",
            loaded.errors
        );
        assert_eq!(loaded.warnings, [], "{text}");
        let config = &loaded.config;
        assert!(!config.contexts.contains_key("local") || config.contexts["local"].interfaces.is_empty());
        let wsg = &config.contexts["wsg"];
        assert!(wsg.interfaces["ran"].primary.is_some());
        assert_eq!(wsg.wsg_services["s"].deployment_mode, DeploymentMode::SiteToSite);
        assert!(config.contexts["other"].ipv4_pools.contains_key("p"));
    }
}

/// A supported mode whose own line is refused takes its body along, too.
#[test]
fn a_refused_line_of_a_supported_mode_takes_its_body_along() {
    let text = "config
  context c
    crypto template vendor ikev2-vendor
      keepalive interval 9
      payload p match childsa
        lifetime 300
      #exit
      max-childsa 3
    #exit
    ip pool p 10.0.0.0/16
  #exit
end
";
    for text in variants(text) {
        let loaded = load(&text, &Visible);
        assert_eq!(refused(&loaded), [3, 4, 5, 6, 8], "{text}");
        let context = &loaded.config.contexts["c"];
        assert!(context.crypto_templates.is_empty());
        assert!(context.ipv4_pools.contains_key("p"));
    }
}

/// The reference closes modes at the depth of their bodies, and not at all before `end`.
#[test]
fn sloppy_ends() {
    let loaded = load(
        "configure
  context c
    crypto map m ipsec-ikev1
      ipsec-on-demux
      exit
    ip pool a 10.0.0.0/16
    fng-service f
      exit
    ip pool b 10.1.0.0/16
  crypto map n ipsec-isakmp
  match address acl1
  end
configure
  context c
  wsg-service s
    deployment-mode site-to-site
  end
",
        &Visible,
    );
    assert_eq!(refused(&loaded), [3, 4, 7, 10, 11]);
    let context = &loaded.config.contexts["c"];
    assert_eq!(context.ipv4_pools.len(), 2);
    assert_eq!(
        context.wsg_services["s"].deployment_mode,
        DeploymentMode::SiteToSite
    );
}

/// Nobody knows the mode, but the file is indented: its body is skipped, and its end is not the end of the mode around it.
#[test]
fn the_mode_of_an_unknown_command() {
    for exit in ["exit", "#exit"] {
        let text = format!(
            "config
  context c
    frobnicator f
      one two
      three
        four
      {exit}
      five
    {exit}
    ip pool a 10.0.0.0/16
  {exit}
end
"
        );
        let loaded = load(&text, &Visible);
        assert_eq!(refused(&loaded), [3, 4, 5, 6, 8], "{text}");
        assert_eq!(loaded.config.contexts["c"].ipv4_pools.len(), 1);
    }
}

/// A bad line that leads nowhere does not eat the end of the mode it is in.
#[test]
fn a_bad_setting_takes_nothing_along() {
    let text = "config
context c
interface i
ip address 10.0.0.1 255.0.255.0
exit
ip pool a 10.0.0.0/16
crypto template t
configuration-payload private-attribute-type imei 1
authentication local
exit
ip pool b 10.1.0.0/16
exit
system hostname gw
";
    let loaded = load(text, &Visible);
    assert_eq!(refused(&loaded), [4, 8, 9]);
    assert_eq!(loaded.config.contexts["c"].ipv4_pools.len(), 2);
    assert_eq!(loaded.config.system.hostname, "gw");
}

/// Once a context was entered, a context command outside of any is an error and not one of context `local`.
#[test]
fn nothing_is_taken_for_local_after_a_context() {
    let loaded = load(
        "context c\nexit\ninterface i\nip address 10.0.0.1/24\nexit\n",
        &Visible,
    );
    assert_eq!(refused(&loaded), [3, 4]);
    assert_eq!(loaded.warnings, []);
    assert_eq!(
        loaded.config.contexts["local"],
        Config::default().contexts["local"]
    );
}
