//! Configuration files: golden ones, the reference's printed examples, bad lines.

mod common;

use common::Visible;
use config::{
    AddressAllocation, Config, DeploymentMode, EapMode, Encryption, Group, LocalAuthentication, PortDevice,
    RemoteAuthentication, load,
};

/// Each file of `tests/golden` is what `show configuration` prints for `NAME.in`. `UPDATE_GOLDEN=1` rewrites them.
#[test]
fn golden_files() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let input = entry.unwrap().path();
        if input.extension().is_none_or(|extension| extension != "in") {
            continue;
        }
        seen += 1;
        let loaded = load(&std::fs::read_to_string(&input).unwrap(), &Visible);
        assert_eq!(loaded.errors, [], "{}", input.display());
        let printed = loaded.config.to_text();
        let output = input.with_extension("cfg");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&output, &printed).unwrap();
        }
        assert_eq!(
            printed,
            std::fs::read_to_string(&output).unwrap(),
            "{}",
            output.display()
        );
        assert_eq!(
            Config::parse(&printed).as_ref(),
            Ok(&loaded.config),
            "{}",
            output.display()
        );
    }
    assert!(seen >= 3);
}

/// Femto example of the reference (configuration of a crypto map template), with its slips.
#[test]
fn reference_femto_example() {
    let loaded = load(
        "configure
  context vpn
    eap-profile eap1
      mode authentication-pass-through
    exit
  ip pool ipsec 10.1.0.0 255.255.0.0
  ipsec transform-set tset
  exit
  ikev2 transform-set iset
  exit
  crypto template segw
    authentication eap-profile eap1
    exit
    ikev2-ikesa transform set list iset
    payload p1 match childsa match ipv4
      ip-address-alloc dynamic
      ipsec transform-setlist tset
    exit
    ikev2-ikesa keepalive-user-activity
  end
",
        &Visible,
    );
    assert_eq!(loaded.errors, []);
    let context = &loaded.config.contexts["vpn"];
    assert_eq!(
        context.eap_profiles["eap1"].mode,
        Some(EapMode::AuthenticatorPassThrough)
    );
    let template = &context.crypto_templates["segw"];
    assert_eq!(
        template.authentication.remote,
        Some(RemoteAuthentication::EapProfile("eap1".into()))
    );
    assert_eq!(template.ikesa.transform_sets, ["iset"]);
    assert!(template.ikesa.keepalive_user_activity);
    let payload = &template.payloads["p1"];
    assert_eq!(
        (payload.allocation, payload.transform_sets.as_slice()),
        (AddressAllocation::Dynamic, &["tset".to_owned()][..])
    );
    let printed = loaded.config.to_text();
    for right in [
        "mode authenticator-pass-through",
        "crypto template segw ikev2-dynamic",
        "ip-address-allocation dynamic",
        "ipsec transform-set list tset",
        "ikev2-ikesa transform-set list iset",
    ] {
        assert!(printed.contains(right), "{right} in\n{printed}");
    }
}

/// X.509 example of the reference: `exit` leaves the configuration, and the template has no context.
#[test]
fn reference_certificate_example() {
    let loaded = load(
        "configure
certificate name gw pem url /flash/gw.pem
private-key pem url /flash/gw.key
ca-certificate name root pem url /flash/root.pem
exit
crypto template segw ikev2-dynamic
authentication local certificate
authentication remote certificate
keepalive interval 120 timeout 5
certificate gw
ca-certificate list ca-cert-name root
payload p match childsa match ipv4
ip-address-alloc dynamic
ipsec transform-setlist tset
end
configure
context vpn
subscriber default
ip context-name vpn
ip address pool name p1
end
",
        &Visible,
    );
    assert_eq!(loaded.errors, []);
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].line, 6);
    let template = &loaded.config.contexts["local"].crypto_templates["segw"];
    assert_eq!(
        template.authentication.local,
        Some(LocalAuthentication::Certificate)
    );
    assert_eq!(template.certificate.as_deref(), Some("gw"));
    assert_eq!(
        template
            .keepalive
            .map(|keepalive| (keepalive.interval, keepalive.timeout, keepalive.num_retry)),
        Some((120, 5, 2))
    );
    assert_eq!(loaded.config.contexts["vpn"].subscriber.ip_pools, ["p1"]);
}

/// Multiple authentication example of the reference, outside any context as it is printed.
#[test]
fn reference_multiple_authentication_example() {
    let loaded = load(
        "configure
ca-certificate name ca1 pem url file: /flash/ca.pem
ca-certificate name gw1 pem url file: /flash/gw.pem
private-key pem url file:/flash/gw.key
eap-profile eap1
  mode authenticator-pass-through
  exit
ikev2-ikesa auth-method-set list-1
  authentication remote certificate
  authentication local certificate
  exit
ikev2-ikesa auth-method-set list-2
  authentication eap-profile eap1
  exit
crypto template boston ikev2-subscriber
  ikev2-ikesa auth-method-set list list-2 list-2
  ca-certificate list ca-cert-name ca1
  exit
",
        &Visible,
    );
    assert_eq!(loaded.errors, []);
    let local = &loaded.config.contexts["local"];
    let template = &local.crypto_templates["boston"];
    assert_eq!(template.auth_method_sets, ["list-2"]);
    assert_eq!(template.ca_certificates, ["ca1"]);
    let methods = local.authentication_of(template);
    assert_eq!(methods.len(), 1);
    assert_eq!(
        methods[0].remote,
        Some(RemoteAuthentication::EapProfile("eap1".into()))
    );
}

/// WSG example of the reference, without any indentation.
#[test]
fn reference_wsg_example() {
    let loaded = load(
        "config
context wsg
interface ran
ip address 192.0.2.1 255.255.255.0
exit
ip access-list acl1
permit any
exit
ip pool pool1 10.9.0.0/16
crypto template t ikev2-dynamic
authentication local pre-shared-key key foo
authentication remote pre-shared-key encrypted key +bar
max-childsa 3 overload action terminate
ikev2-ikesa policy error-notification invalid-major-version invalid-message-id invalid-syntax
dos cookie-challenge notify-payload half-open-sess-count start 50000 stop 20000
exit
wsg-service s
bind address 192.0.2.1 crypto-template t
deployment-mode site-to-site
ip access-group acl1
ip address pool name pool1
pre_fragment mtu 1300
duplicate-session-detection
end
",
        &Visible,
    );
    assert_eq!(loaded.errors, []);
    let context = &loaded.config.contexts["wsg"];
    assert_eq!(
        context.wsg_services["s"].deployment_mode,
        DeploymentMode::SiteToSite
    );
    assert_eq!(context.wsg_services["s"].pre_fragment_mtu, 1_300);
    assert!(
        loaded
            .config
            .to_text()
            .contains("max-childsa 3 overload-action terminate")
    );
}

#[test]
fn defaults_are_the_reference_s() {
    let loaded = load(
        "config\ncontext c\nipsec transform-set e\n#exit\nikev2-ikesa transform-set i\n#exit\nport ethernet 1/10\n#exit\nend\n",
        &Visible,
    );
    assert_eq!(loaded.errors, []);
    let context = &loaded.config.contexts["c"];
    assert_eq!(context.id, 2);
    assert_eq!(context.replay_window, Some(64));
    let ike = &context.ike_transform_sets["i"];
    assert_eq!(
        (ike.encryption, ike.group, ike.lifetime),
        (Encryption::AesCbc128, Group::Group2, 86_400)
    );
    assert_eq!(context.ipsec_transform_sets["e"].group, None);
    let port = loaded.config.ports.values().next().unwrap();
    assert!(port.shutdown);
    assert_eq!(port.device, PortDevice::None);
}

#[test]
fn a_bad_line_is_reported_and_the_rest_is_applied() {
    let loaded = load(
        "config
  system hostname gw
  context isp
    interface ran
      ip address 10.0.0.1 255.0.255.0
      ip address 10.0.0.1 255.255.255.0
    #exit
    ggsn-service g
      accounting context x
      interface ran
    #exit
    ipsec transform-set e
      encryption des-cbc
      hmac sha2-256-128
    #exit
    frobnicate
  #exit
  port ethernet 1/1
    device eth0
  #exit
end
",
        &Visible,
    );
    let errors: Vec<(usize, Option<usize>, &str)> = loaded
        .errors
        .iter()
        .map(|error| (error.line, error.column, error.message.as_str()))
        .collect();
    assert_eq!(
        errors,
        [
            (
                5,
                Some(26),
                "\"255.0.255.0\" is not a netmask (255.255.255.0) (<mask>)"
            ),
            (8, Some(4), "not supported: ggsn-service"),
            (9, None, "not applied, because it belongs to line 8"),
            (10, None, "not applied, because it belongs to line 8"),
            (13, Some(17), "not supported: encryption des-cbc"),
            (16, Some(4), "Unknown command - \"frobnicate\""),
        ]
    );
    let context = &loaded.config.contexts["isp"];
    assert!(context.interfaces["ran"].primary.is_some());
    assert_eq!(context.ipsec_transform_sets["e"].hmac, config::Hmac::Sha2_256);
    assert_eq!(loaded.config.ports.len(), 1);
}

#[test]
fn remarks_pipes_and_abbreviations() {
    let loaded = load(
        "# a remark\nconf\nsys host gw | grep x\n\ncont c\n  inter i lo\n ip add 10.0.0.1/32\n",
        &Visible,
    );
    assert_eq!(loaded.errors, []);
    assert_eq!(loaded.config.system.hostname, "gw");
    assert!(loaded.config.contexts["c"].interfaces["i"].loopback);
}

#[test]
fn context_identifiers_survive_a_removed_context() {
    let mut config = load("context a\nexit\ncontext b\nexit\ncontext c\n", &Visible).config;
    config.contexts.remove("b");
    let printed = config.to_text();
    assert!(printed.contains("context c context-id 4"), "{printed}");
    assert_eq!(Config::parse(&printed).unwrap(), config);
    assert!(
        config
            .context_text("c")
            .unwrap()
            .contains("context c context-id 4")
    );
    assert!(config.context_text("b").is_err());
}

#[test]
fn canonical_text_has_no_plain_secret() {
    let loaded = load(
        "context c\ncrypto template t\nauthentication local pre-shared-key key \"two words\"\n",
        &Visible,
    );
    let printed = loaded.config.to_text();
    assert!(
        printed.contains("pre-shared-key encrypted key +two_words"),
        "{printed}"
    );
    let error = Config::parse("context c\ncrypto template t\nauthentication local pre-shared-key key x\n")
        .unwrap_err();
    assert_eq!(error.line, 3);
}

/// The reference prints the interval of NAT keepalives beside `send-keepalive` and not below it.
#[test]
fn natt_intervals_as_the_reference_prints_them() {
    for (line, printed) in [
        (
            "natt interval 40",
            "natt send-keepalive idle-interval 60 interval 40",
        ),
        (
            "natt include-header interval 40",
            "natt include-header send-keepalive idle-interval 60 interval 40",
        ),
        (
            "natt include-header send-keepalive idle-interval 30 interval 40",
            "natt include-header send-keepalive idle-interval 30 interval 40",
        ),
    ] {
        let loaded = load(&format!("context c\ncrypto template t\n{line}\n"), &Visible);
        assert_eq!(loaded.errors, []);
        let text = loaded.config.to_text();
        assert!(text.contains(&format!("{printed}\n")), "{line}:\n{text}");
    }
}
