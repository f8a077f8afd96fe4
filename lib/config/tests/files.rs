//! Configuration files: golden ones, the reference's printed examples, bad lines.

mod common;

use common::Visible;
use config::{
    AddressAllocation, Config, DeploymentMode, EapMode, Encryption, Group, LocalAuthentication, PortDevice,
    RemoteAuthentication, check, load,
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
fn a_setting_without_effect_says_so() {
    let text = "context c
wsg-service s
ip access-group a
deployment-mode site-to-site
bind address 10.0.0.1 crypto-template t
#exit
crypto template t
natt include-header
payload p match childsa
ip-address-allocation dynamic
";
    let findings = load(text, &Visible).config.findings();
    let found = |is_error: bool, part: &str| {
        let matches =
            |finding: &&config::Finding| finding.is_error == is_error && finding.message.contains(part);
        assert!(
            findings.iter().any(|finding| matches(&finding)),
            "{part}: {findings:#?}"
        );
    };
    found(
        true,
        "ip access-group has no effect in this version: every packet passes",
    );
    found(false, "natt include-header has no effect in this version");
    found(
        false,
        "payload ip-address-allocation dynamic has no effect with deployment-mode site-to-site",
    );
}

#[test]
fn services_share_no_address_even_in_different_contexts() {
    let service = "crypto template t\n#exit\nwsg-service s\nbind address 10.0.0.1 crypto-template t\n#exit\n";
    let text = format!("context one\n{service}#exit\ncontext two\n{service}#exit\n");
    let findings = load(&text, &Visible).config.findings();
    let shared: Vec<_> = findings
        .iter()
        .filter(|finding| finding.message.contains("is bound to"))
        .map(|finding| (finding.is_error, finding.to_string()))
        .collect();
    let expected = "context two, wsg-service s: wsg-service s of context one is bound to 10.0.0.1 already";
    assert_eq!(shared, [(true, expected.to_owned())]);
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

#[test]
fn what_does_not_fit_together_is_found() {
    let checked = check(
        "config
context isp
ipsec transform-set e
encryption aes-128-gcm-128
#exit
crypto template t ikev2-dynamic
authentication remote eap-profile nowhere
ikev2-ikesa transform-set list missing
#exit
wsg-service s
bind address 10.0.0.1 crypto-template other
#exit
#exit
port ethernet 1/1
no shutdown
bind interface ran isp
#exit
end
",
    );
    assert_eq!(checked.errors, []);
    let found = |line: usize, part: &str| {
        assert!(
            checked
                .findings
                .iter()
                .any(|(found, finding)| *found == line && finding.message.contains(part)),
            "{line} {part}: {:#?}",
            checked.findings
        );
    };
    found(3, "encryption aes-128-gcm-128 needs hmac none");
    found(6, "there is no authentication local");
    found(6, "eap-profile nowhere does not exist");
    found(6, "ikev2-ikesa transform-set missing does not exist");
    found(6, "there is no payload");
    found(10, "crypto template other does not exist");
    found(10, "10.0.0.1 is not an address of an interface");
    found(14, "it has no device");
    found(14, "interface ran does not exist in context isp");
}

#[test]
fn the_form_of_sealed_secrets_is_checked() {
    let key = crypto::MasterKey::generate(&mut crypto::SystemRandom);
    let good = key.seal(b"x").unwrap();
    let checked = check(&format!(
        "context c
crypto template t
authentication local pre-shared-key encrypted key {good}
authentication remote pre-shared-key encrypted key +B1short
snmp community plain
"
    ));
    assert_eq!(checked.errors, []);
    assert_eq!(checked.sealed, 2);
    let wrong: Vec<_> = checked
        .findings
        .iter()
        .filter(|(_, finding)| finding.message.contains("not a sealed secret"))
        .map(|(line, finding)| (*line, finding.is_error, finding.message.as_str()))
        .collect();
    assert_eq!(
        wrong,
        [(
            4,
            true,
            "context c, crypto template t ikev2-dynamic, authentication remote pre-shared-key encrypted key ...: this is not a sealed secret"
        )]
    );
}

#[test]
fn names_of_traps_and_schemas_are_looked_up() {
    let text = "snmp trap enable NoSuchTrap
snmp trap suppress NoSuchTrap LongDurationDetected
bulkstats mode
card schema c format x
wsg schema w format x
gtpu schema g format x
schema s format x
default logging filter runtime facility all
";
    let loaded = load(text, &Visible);
    let errors: Vec<_> = loaded
        .errors
        .iter()
        .map(|error| (error.line, error.message.as_str()))
        .collect();
    assert_eq!(errors, [(1, "this version sends no trap NoSuchTrap")]);
    let findings = loaded.config.findings();
    let told = |part: &str| {
        findings
            .iter()
            .filter(|finding| finding.message.contains(part))
            .count()
    };
    assert_eq!(told("sends no trap of this name"), 2);
    assert_eq!(told("no schemas of this type"), 1);
    assert_eq!(told("gtpu schema g"), 1);
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
