//! From configuration to policy.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use config::{
    AddressRange, AuthMethodSet, CookieChallenge, EapMode, Encryption, Group, Hmac, IdType, IkeTransformSet,
    IpsecTransformSet, Keepalive, LocalAuthentication, MaxChildSa, OverloadAction, Payload, PayloadTsi,
    PeerAuthentication, PeerNetwork, RemoteSecretList, SecretText, ServiceBinding,
};
use crypto::{Cipher, DhGroup, Integrity, Prf};
use ikev2::{Identity, LocalAuth, RemoteAuth, SelectorPolicy, TrafficSelector};

fn sealed(text: &str) -> SecretText {
    SecretText::from_sealed(text)
}

fn both_psk() -> PeerAuthentication {
    PeerAuthentication {
        local: Some(LocalAuthentication::PreSharedKey(sealed("ours"))),
        remote: Some(RemoteAuthentication::PreSharedKey(sealed("theirs"))),
    }
}

/// A site-to-site service `wsg` in context `isp`, with one payload and the default transform sets.
fn sample(change: impl FnOnce(&mut Context, &mut CryptoTemplate, &mut WsgService)) -> Config {
    let mut config = Config::default();
    let mut context = Context::new(2);
    let mut template = CryptoTemplate {
        authentication: both_psk(),
        payloads: BTreeMap::from([("p".to_owned(), Payload::default())]),
        ..CryptoTemplate::default()
    };
    let mut service = WsgService {
        bind: Some(ServiceBinding {
            address: "192.0.2.1".parse().unwrap(),
            template: "t".to_owned(),
        }),
        deployment_mode: DeploymentMode::SiteToSite,
        ..WsgService::default()
    };
    change(&mut context, &mut template, &mut service);
    context.crypto_templates.insert("t".to_owned(), template);
    context.wsg_services.insert("wsg".to_owned(), service);
    config.contexts.insert("isp".to_owned(), context);
    config
}

fn build(config: &Config) -> Result<Wsg, Problem> {
    Wsg::new(config, "isp", "wsg", &Certificates::default(), 9).map(Option::unwrap)
}

fn problem(change: impl FnOnce(&mut Context, &mut CryptoTemplate, &mut WsgService)) -> String {
    build(&sample(change)).unwrap_err().to_string()
}

#[test]
fn defaults_are_those_of_staros() {
    let wsg = build(&sample(|_, _, _| {})).unwrap();
    let profile = &wsg.profile;
    assert_eq!((profile.name.as_str(), profile.tag), ("t", 9));
    let [proposal] = &profile.proposals[..] else {
        panic!("one proposal expected")
    };
    assert_eq!(proposal.ciphers, [Cipher::AesCbc128]);
    assert_eq!(proposal.integrities, [Integrity::HmacSha1_96]);
    assert_eq!(
        (&proposal.prfs[..], &proposal.groups[..]),
        (&[Prf::HmacSha1][..], &[DhGroup::Modp1024][..])
    );
    assert_eq!(profile.lifetime.time, Some(Duration::from_secs(86_400)));
    assert!(!profile.lifetime.rekey && profile.liveness.is_none() && profile.cookies.is_none());
    assert_eq!(profile.retransmission.timeout, Duration::from_millis(500));
    assert_eq!(
        (profile.retransmission.max, profile.retransmission.exponential),
        (5, false)
    );
    assert_eq!(
        profile.remote_auth,
        RemoteAuth {
            psk: true,
            ..RemoteAuth::default()
        }
    );
    assert_eq!(wsg.data_path.replay_window, 64);
    assert_eq!(wsg.data_path.context, 2);
    assert_eq!(
        (wsg.data_path.fragment_mtu_ipv4, wsg.data_path.fragment_mtu_ipv6),
        (1400, 1400)
    );
    assert!(wsg.warnings.is_empty());
}

#[test]
fn what_the_template_says_reaches_the_profile() {
    let config = sample(|context, template, _| {
        let strong = IkeTransformSet {
            encryption: Encryption::Aes256Gcm128,
            hmac: Hmac::None,
            prf: config::Prf::Sha2_384,
            group: Group::Group20,
            lifetime: 3600,
        };
        context.ike_transform_sets.insert("strong".to_owned(), strong);
        context
            .ike_transform_sets
            .insert("weak".to_owned(), IkeTransformSet::default());
        context.ipsec_transform_sets.insert(
            "esp".to_owned(),
            IpsecTransformSet {
                group: Some(Group::Group31),
                esn: true,
                ..IpsecTransformSet::default()
            },
        );
        context.replay_window = None;
        template.ikesa.transform_sets = vec!["strong".to_owned(), "weak".to_owned()];
        template.keepalive = Some(Keepalive {
            interval: 30,
            timeout: 3,
            num_retry: 1000,
        });
        template.cookie_challenge = Some(CookieChallenge { start: 10, stop: 5 });
        template.max_child_sa = MaxChildSa {
            number: 3,
            overload: OverloadAction::Terminate,
        };
        template.ipv4_mtu = 1200;
        template.identity = Some(config::Identity {
            kind: IdType::Fqdn,
            value: "gw.example".to_owned(),
        });
        let payload = template.payloads.get_mut("p").unwrap();
        payload.transform_sets = vec!["esp".to_owned()];
        payload.lifetime_kilobytes = Some(7);
        payload.tsr = vec![AddressRange {
            start: "10.0.0.0".parse().unwrap(),
            end: "10.0.255.255".parse().unwrap(),
        }];
    });
    let wsg = build(&config).unwrap();
    let profile = &wsg.profile;
    assert_eq!(profile.proposals[0].ciphers, [Cipher::AesGcm256Icv16]);
    assert!(profile.proposals[0].integrities.is_empty());
    assert_eq!(profile.proposals[1].ciphers, [Cipher::AesCbc128]);
    assert_eq!(profile.lifetime.time, Some(Duration::from_secs(3600)));
    let liveness = profile.liveness.unwrap();
    assert_eq!(
        (
            liveness.interval.as_secs(),
            liveness.timeout.as_secs(),
            liveness.retries
        ),
        (30, 3, 255)
    );
    assert_eq!(
        profile.cookies.map(|cookies| (cookies.start, cookies.stop)),
        Some((10, 5))
    );
    assert_eq!(profile.max_children, 3);
    assert_eq!(profile.local_identity, Identity::fqdn("gw.example"));
    let child = &profile.children[0];
    assert_eq!(
        (child.proposals[0].groups[0], &child.proposals[0].esn[..]),
        (DhGroup::Curve25519, &[true, false][..])
    );
    assert_eq!(child.lifetime.kilobytes, Some(7));
    let expected = TrafficSelector::range("10.0.0.0".parse().unwrap(), "10.0.255.255".parse().unwrap());
    assert_eq!(child.local, SelectorPolicy::Ranges(vec![expected]));
    assert_eq!(
        (wsg.data_path.replay_window, wsg.data_path.fragment_mtu_ipv4),
        (0, 1200)
    );
}

#[test]
fn hosts_use_what_they_are_given_and_sites_what_they_have() {
    let remote = |mode, tsi| {
        let config = sample(|_, template, service| {
            service.deployment_mode = mode;
            template.payloads.get_mut("p").unwrap().tsi = tsi;
        });
        let wsg = build(&config).unwrap();
        (wsg.profile.children[0].remote.clone(), wsg.routes_selectors)
    };
    use DeploymentMode::{RemoteAccess, SiteToSite};
    assert_eq!(
        remote(RemoteAccess, PayloadTsi::Endpoint),
        (SelectorPolicy::Assigned, false)
    );
    assert_eq!(
        remote(RemoteAccess, PayloadTsi::Any),
        (SelectorPolicy::Received, false)
    );
    assert_eq!(
        remote(SiteToSite, PayloadTsi::Endpoint),
        (SelectorPolicy::Received, true)
    );
}

#[test]
fn what_is_missing_is_named() {
    let all = [
        (
            problem(|_, _, service| service.bind.as_mut().unwrap().template = "x".to_owned()),
            "crypto template x does not exist",
        ),
        (
            problem(|_, t, _| t.ikesa.transform_sets = vec!["y".to_owned()]),
            "ikev2-ikesa transform-set y does not exist",
        ),
        (problem(|_, t, _| t.payloads.clear()), "has no payload"),
        (
            problem(|_, t, _| t.payloads.get_mut("p").unwrap().transform_sets = vec!["z".to_owned()]),
            "payload p: ipsec transform-set z",
        ),
        (
            problem(|_, t, _| t.authentication.local = None),
            "no 'authentication local'",
        ),
        (
            problem(|_, t, _| t.authentication.remote = None),
            "no 'authentication remote'",
        ),
        (
            problem(|_, t, _| t.authentication.local = Some(LocalAuthentication::Certificate)),
            "needs 'certificate NAME'",
        ),
        (
            problem(|_, t, _| t.authentication.remote = Some(RemoteAuthentication::Certificate)),
            "needs 'ca-certificate list'",
        ),
        (
            problem(|_, t, _| {
                t.authentication.remote = Some(RemoteAuthentication::EapProfile("e".to_owned()))
            }),
            "eap-profile e does not exist",
        ),
        (
            problem(|c, t, _| {
                let mode = Some(EapMode::AuthenticatorPassThrough);
                c.eap_profiles.insert("e".to_owned(), EapProfile { mode });
                t.authentication.remote = Some(RemoteAuthentication::EapProfile("e".to_owned()));
            }),
            "needs \"authentication local certificate\"",
        ),
        (
            problem(|c, _, _| c.subscriber.context_name = Some("sgi".to_owned())),
            "context sgi does not exist",
        ),
        (
            problem(|_, t, _| {
                t.identity = Some(config::Identity {
                    kind: IdType::IpAddr,
                    value: "gw".to_owned(),
                })
            }),
            "'gw' is not a ip-addr",
        ),
    ];
    for (found, expected) in all {
        assert!(
            found.starts_with("wsg-service wsg (context isp): ") && found.contains(expected),
            "{found}"
        );
    }
}

#[test]
fn an_unbound_or_unknown_service_wants_nothing() {
    let config = sample(|_, _, service| service.bind = None);
    assert!(
        Wsg::new(&config, "isp", "wsg", &Certificates::default(), 0)
            .unwrap()
            .is_none()
    );
    assert!(
        Wsg::new(&config, "isp", "other", &Certificates::default(), 0)
            .unwrap()
            .is_none()
    );
    assert!(
        Wsg::new(&config, "other", "wsg", &Certificates::default(), 0)
            .unwrap()
            .is_none()
    );
}

#[test]
fn the_most_specific_secret_proves_the_peer() {
    let mut config = sample(|_, template, _| {
        template.remote_secret_list = Some(String::new());
        let network = |text: &str, secret: Option<&str>| PeerNetwork {
            network: text.parse().unwrap(),
            secret: secret.map(sealed),
        };
        template.peer_networks = vec![
            network("203.0.113.0/24", Some("wide")),
            network("203.0.113.16/28", Some("narrow")),
            network("2001:db8::/32", None),
        ];
    });
    let listed = config::Identity {
        kind: IdType::Fqdn,
        value: "Enb1.example".to_owned(),
    };
    let list = RemoteSecretList {
        secrets: BTreeMap::from([(listed, sealed("listed"))]),
    };
    config.remote_secret_lists.insert("l".to_owned(), list);
    let wsg = build(&config).unwrap();
    let secret = |identity: &str, address: &str| {
        let identity = Identity::from_text(identity).unwrap();
        wsg.secrets
            .remote(&identity, address.parse().unwrap())
            .unwrap()
            .sealed()
            .to_owned()
    };
    assert_eq!(secret("enb1.EXAMPLE", "203.0.113.17"), "listed");
    assert_eq!(secret("enb1@example", "203.0.113.17"), "narrow");
    assert_eq!(secret("enb2.example", "203.0.113.5"), "wide");
    assert_eq!(secret("enb2.example", "2001:db8::1"), "theirs");
    assert_eq!(wsg.secrets.local().unwrap().sealed(), "ours");
    assert_eq!(wsg.secrets.all().count(), 5);
    assert!(
        wsg.admits_from("203.0.113.200".parse().unwrap()) && wsg.admits_from("2001:db8::9".parse().unwrap())
    );
    assert!(!wsg.admits_from("198.51.100.1".parse().unwrap()));
}

#[test]
fn certificates_are_asked_for_only_where_they_are_used() {
    let with = |local, remote| {
        sample(|context, template, _| {
            template.authentication = PeerAuthentication {
                local: Some(local),
                remote: Some(remote),
            };
            template.certificate = Some("own".to_owned());
            template.ca_certificates = vec!["root".to_owned()];
            context.eap_profiles.insert(
                "e".to_owned(),
                EapProfile {
                    mode: Some(EapMode::AuthenticatorPassThrough),
                },
            );
        })
    };
    let psk = with(
        LocalAuthentication::PreSharedKey(sealed("a")),
        RemoteAuthentication::PreSharedKey(sealed("b")),
    );
    assert_eq!(certificates_of(&psk, "isp", "wsg"), CertificateNames::default());

    let eap = with(
        LocalAuthentication::Certificate,
        RemoteAuthentication::EapProfile("e".to_owned()),
    );
    let names = certificates_of(&eap, "isp", "wsg");
    assert_eq!((names.own.as_deref(), names.authorities.len()), (Some("own"), 0));
    assert!(
        build(&eap)
            .unwrap_err()
            .to_string()
            .contains("certificate own is not loaded")
    );
    let chain: Arc<[Vec<u8>]> = vec![vec![1, 2, 3]].into();
    let certificates = Certificates {
        chain: Some(chain),
        ..Certificates::default()
    };
    let wsg = Wsg::new(&eap, "isp", "wsg", &certificates, 0).unwrap().unwrap();
    assert!(matches!(&wsg.profile.local_auth, LocalAuth::Certificate { chain } if chain[0] == [1, 2, 3]));
    assert_eq!(
        (wsg.profile.remote_auth.eap, wsg.eap_profile.as_deref()),
        (true, Some("e"))
    );

    let both = with(
        LocalAuthentication::Certificate,
        RemoteAuthentication::Certificate,
    );
    assert_eq!(certificates_of(&both, "isp", "wsg").authorities, ["root"]);
}

#[test]
fn a_method_set_adds_a_way_to_authenticate() {
    let config = sample(|context, template, _| {
        template.ca_certificates = vec!["root".to_owned()];
        template.auth_method_sets = vec!["m".to_owned()];
        let set = PeerAuthentication {
            local: None,
            remote: Some(RemoteAuthentication::Certificate),
        };
        context
            .auth_method_sets
            .insert("m".to_owned(), AuthMethodSet(set));
    });
    let wsg = build(&config).unwrap();
    assert_eq!(
        wsg.profile.remote_auth,
        RemoteAuth {
            psk: true,
            certificate: true,
            eap: false
        }
    );
    assert!(matches!(wsg.profile.local_auth, LocalAuth::Psk));
}

#[test]
fn one_of_the_pools_that_are_named_must_exist() {
    let has_pool = |mode, names: &[&str]| {
        let config = sample(|context, _, service| {
            let pool = config::Ipv4Pool {
                addresses: config::Ipv4Range::Network("10.30.0.0/24".parse().unwrap()),
                access: config::PoolAccess::Public(0),
                group: Some("gold".to_owned()),
                hold_timer: 0,
                include_network_and_broadcast: false,
                allow_static: false,
            };
            context.ipv4_pools.insert("v4".to_owned(), pool);
            service.deployment_mode = mode;
            service.ip_pools = names.iter().map(|name| (*name).to_owned()).collect();
        });
        build(&config).unwrap().has_pool
    };
    let hosts = DeploymentMode::RemoteAccess;
    assert!(has_pool(hosts, &[]) && has_pool(hosts, &["none", "v4"]) && has_pool(hosts, &["gold"]));
    assert!(!has_pool(hosts, &["none"]));
    assert!(
        has_pool(DeploymentMode::SiteToSite, &["none"]),
        "sites are given no addresses"
    );
}
