//! The process of a side is killed and replaced, at every step of every exchange: the same IKE SAs and child SAs go on, nothing is contradicted
//! and no nonce comes twice (the log of the wire looks at every message), and nobody begins anew. The same when the slot moves to another engine.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crypto::{Cipher, DhGroup};
use ikev2::{
    Action, ConfigurationRequest, CookieThresholds, Count, Event, FragmentMtu, IkeLifetime, Liveness,
    LocalAuth, Profile, RemoteAuth,
};

use crate::world::Side::{A, B};
use crate::world::{Death, Host, Plan, RESTART_VARIABLE, SECOND, Side, World, change_child, profile};

/// Tests of what a new life does not know, each with what that is.
const NOT_WITH_RESTARTS: [&str; 21] = [
    // How often something is saved.
    "records::",
    // The fragments of a message that is not whole: the peer sends all of them again.
    "auth::before_the_peer_is_known_little_is_put_together",
    "auth::fragments_in_any_order_and_twice_and_lost",
    "auth::long_chains_travel_in_fragments",
    // Open questions: they are asked again when the peer sends its message again.
    "auth::no_answer_from_within_is_a_failure_with_its_reason",
    "bad_input::peers_that_are_being_authenticated_are_half_open_too",
    "setup::a_slow_answer_is_as_good_as_a_fast_one",
    "setup::late_and_foreign_answers_have_no_effect",
    // When somebody was heard, how much was carried at the last look, how often was asked and answered.
    "bad_input::a_request_for_a_lost_ike_sa_is_answered_without_protection_and_not_too_often",
    "informational::a_dead_peer_is_found_out_in_the_configured_time",
    "informational::esp_is_a_sign_of_life",
    "informational::kilobytes_count_too",
    "informational::liveness_is_checked_after_silence_and_answered",
    "informational::sequence_numbers_do_not_run_out",
    "loss::a_recorded_request_is_answered_now_and_then_and_is_no_sign_of_life",
    "loss::retransmission_backs_off_and_gives_up",
    "nat::a_nat_moves_them_to_port_4500",
    "nat::a_peer_behind_a_nat_that_moves_silently_is_found_where_esp_came_from",
    // That cookies are asked for, and secrets from outside.
    "bad_input::above_a_quarter_of_the_limit_cookies_are_asked_for_though_nobody_configured_it",
    "setup::cookies_are_asked_for_and_checked",
    "setup::a_cookie_that_got_too_old_is_replaced",
];

/// The same for moves: the secrets of cookies stay, so a cookie that one engine made is void to the other.
const NOT_WITH_MOVES: [&str; 3] = [
    "setup::a_late_copy_of_the_first_request_does_not_spoil_the_one_with_the_cookie",
    "bad_input::one_source_cannot_have_all_half_open_ike_sas",
    "bad_input::the_limit_of_half_open_ike_sas_holds",
];

/// Every other test of this suite, with a new process, or another engine, after every, every second and every third call.
#[test]
fn nobody_notices_a_restart() {
    if std::env::var_os(RESTART_VARIABLE).is_some() {
        return;
    }
    for plan in [
        "A dies 1",
        "B dies 1",
        "AB dies 1",
        "AB dies 2",
        "AB dies 3",
        "A moves 1",
        "B moves 1",
        "AB moves 1",
        "AB moves 3",
    ] {
        let mut suite = Command::new(std::env::current_exe().unwrap());
        suite.env(RESTART_VARIABLE, plan);
        let moves = NOT_WITH_MOVES.iter().filter(|_| plan.contains("moves"));
        for name in NOT_WITH_RESTARTS.iter().chain(moves) {
            suite.args(["--skip", name]);
        }
        let output = suite.output().unwrap();
        let report = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "restarts {plan}:\n{report}");
        assert!(report.contains(" passed; 0 failed"), "{report}");
    }
}

/// What a side wants to do.
type Wish = fn(&World, Side) -> Action;

/// A world, and a way to go through it: `begin` sets up, then `wish` does one thing.
struct Scenario {
    name: &'static str,
    profiles: fn() -> (Profile, Profile),
    nat: bool,
    wishes: &'static [(Side, Wish)],
    /// IKE SAs and child SAs in the end.
    ends_with: (usize, usize),
}

const fn scenario(name: &'static str, profiles: fn() -> (Profile, Profile)) -> Scenario {
    Scenario {
        name,
        profiles,
        nat: false,
        wishes: &[],
        ends_with: (1, 1),
    }
}

fn psk() -> (Profile, Profile) {
    let [ours, theirs] = [A, B].map(|side| Profile {
        allow_empty: true,
        max_children: 5,
        rfc7296_notifies: true,
        ..profile(side)
    });
    (ours, theirs)
}

fn certificates() -> (Profile, Profile) {
    let [ours, theirs] = [A, B].map(|side| Profile {
        local_auth: LocalAuth::Certificate {
            chain: Arc::new([vec![0x30; 900], vec![0x31; 900]]),
        },
        remote_auth: RemoteAuth {
            certificate: true,
            ..RemoteAuth::default()
        },
        fragment_mtu: FragmentMtu {
            ipv4: 576,
            ipv6: 1280,
        },
        admission: side == B,
        ..profile(side)
    });
    (ours, theirs)
}

fn eap() -> (Profile, Profile) {
    let (ours, theirs) = certificates();
    (
        Profile {
            local_auth: LocalAuth::Eap,
            configuration_request: Some(ConfigurationRequest::default()),
            ..ours
        },
        Profile {
            remote_auth: RemoteAuth {
                eap: true,
                ..RemoteAuth::default()
            },
            ..theirs
        },
    )
}

fn cookies() -> (Profile, Profile) {
    let (ours, mut theirs) = psk();
    theirs.cookies = Some(CookieThresholds { start: 0, stop: 0 });
    (ours, theirs)
}

/// Both groups are not the one that A tries first.
fn groups() -> (Profile, Profile) {
    let (mut ours, theirs) = psk();
    ours.proposals[0].groups = vec![DhGroup::Ecp256, DhGroup::Modp1024, DhGroup::Curve25519];
    let with_pfs = |mut profile: Profile, groups: &[DhGroup]| {
        change_child(&mut profile, |child| {
            let mut proposal = child.proposals[0].clone();
            proposal.groups = groups.to_vec();
            child.proposals = vec![proposal];
        });
        profile
    };
    (
        with_pfs(ours, &[DhGroup::Modp1024, DhGroup::Curve25519]),
        with_pfs(theirs, &[DhGroup::Curve25519]),
    )
}

fn cbc() -> (Profile, Profile) {
    let (mut ours, mut theirs) = psk();
    for profile in [&mut ours, &mut theirs] {
        profile.proposals[0].ciphers = vec![Cipher::AesCbc256];
    }
    (ours, theirs)
}

fn lively() -> (Profile, Profile) {
    let (mut ours, mut theirs) = psk();
    for profile in [&mut ours, &mut theirs] {
        profile.liveness = Some(Liveness {
            interval: 2 * SECOND,
            timeout: SECOND,
            retries: 10,
        });
    }
    (ours, theirs)
}

fn short_lived() -> (Profile, Profile) {
    let (mut ours, theirs) = psk();
    ours.lifetime = IkeLifetime {
        time: Some(40 * SECOND),
        rekey: true,
    };
    change_child(&mut ours, |child| {
        child.lifetime.time = Some(30 * SECOND);
        child.lifetime.rekey = true;
        child.lifetime.rekey_idle = true;
    });
    (ours, theirs)
}

const REKEY_CHILD: Wish = |world, side| {
    let sending = &world.look(side).sending;
    Action::RekeyChild(sending.first().copied().unwrap_or(0))
};
const DELETE_CHILD: Wish = |world, side| {
    let sending = &world.look(side).sending;
    Action::DeleteChild(sending.first().copied().unwrap_or(0))
};
const CREATE_CHILD: Wish = |_, _| Action::CreateChild(0);
const REKEY_IKE: Wish = |_, _| Action::RekeyIke;
const DELETE: Wish = |_, _| Action::Delete;
const LIVENESS: Wish = |_, _| Action::CheckLiveness;

fn scenarios() -> Vec<Scenario> {
    let with = |name, wishes, ends_with| Scenario {
        wishes,
        ends_with,
        ..scenario(name, psk)
    };
    vec![
        scenario("PSK", psk),
        scenario("certificates in fragments", certificates),
        scenario("EAP", eap),
        scenario("cookies", cookies),
        scenario("AES-CBC", cbc),
        scenario("liveness", lively),
        scenario("lifetimes", short_lived),
        Scenario {
            wishes: &[(A, CREATE_CHILD), (A, REKEY_CHILD)],
            ends_with: (1, 2),
            ..scenario("other groups", groups)
        },
        Scenario {
            nat: true,
            wishes: &[(A, LIVENESS), (B, LIVENESS)],
            ..scenario("NAT", psk)
        },
        with("create child", &[(A, CREATE_CHILD), (B, CREATE_CHILD)], (1, 3)),
        with("rekey child, A", &[(A, REKEY_CHILD)], (1, 1)),
        with("rekey child, B", &[(B, REKEY_CHILD)], (1, 1)),
        with("delete child", &[(A, DELETE_CHILD)], (1, 0)),
        with("delete child, B", &[(B, DELETE_CHILD)], (1, 0)),
        with("rekey IKE, A", &[(A, REKEY_IKE)], (1, 1)),
        with("rekey IKE, B", &[(B, REKEY_IKE)], (1, 1)),
        with("delete, A", &[(A, DELETE)], (0, 0)),
        with("delete, B", &[(B, DELETE)], (0, 0)),
        with(
            "many wishes",
            &[(A, LIVENESS), (A, REKEY_CHILD), (A, REKEY_IKE), (A, CREATE_CHILD)],
            (1, 2),
        ),
        with(
            "child rekeys collide",
            &[(A, REKEY_CHILD), (B, REKEY_CHILD)],
            (1, 1),
        ),
        with("IKE rekeys collide", &[(A, REKEY_IKE), (B, REKEY_IKE)], (1, 1)),
        with(
            "IKE and child rekey collide",
            &[(A, REKEY_IKE), (B, REKEY_CHILD)],
            (1, 1),
        ),
        with(
            "IKE rekey and new child collide",
            &[(B, REKEY_IKE), (A, CREATE_CHILD)],
            (1, 2),
        ),
        with("deletes collide", &[(A, DELETE), (B, DELETE)], (0, 0)),
        with(
            "child deletes collide",
            &[(A, DELETE_CHILD), (B, DELETE_CHILD)],
            (1, 0),
        ),
    ]
}

/// Goes through a scenario; gives the world as it is in the end.
fn play(scenario: &Scenario) -> World {
    let mut world = World::new();
    if scenario.nat {
        world.nat = true;
        world.a_outside = "198.51.100.7:500".parse().unwrap();
    }
    let (ours, theirs) = (scenario.profiles)();
    world.serve(theirs);
    world.initiate(ours.clone());
    if world.a.engine.totals().ike_sas == 0 {
        // It died before anybody knew of it.
        world.initiate(ours);
    }
    let step = Duration::from_millis(250);
    world.run(20 * SECOND, step);
    let first = world.look(A).sending.clone();
    assert_eq!(first.len(), 1, "{}", scenario.name);
    for (side, wish) in scenario.wishes {
        let deaths = world.plan.deaths.len();
        act(&mut world, *side, *wish);
        if world.plan.deaths[deaths..] == [Death::BeforeCommit] {
            // It died before anybody knew of the wish.
            act(&mut world, *side, *wish);
        }
    }
    world.run(90 * SECOND, step);
    // What was replaced just now still receives for a while.
    let (ike_sas, child_sas) = scenario.ends_with;
    let is_quiet = |host: &Host| {
        host.sad.allocated.len() == child_sas && host.engine.totals().ike_sas as usize == ike_sas
    };
    for _ in 0..60 {
        if !is_quiet(&world.a) || !is_quiet(&world.b) {
            world.run(SECOND, step);
        }
    }
    check(&world, scenario);
    world
}

fn act(world: &mut World, side: Side, wish: Wish) {
    let action = wish(world, side);
    // It may be impossible just now.
    let _ = world.try_action(side, action);
}

/// Whatever happened, it ends as if nothing had.
fn check(world: &World, scenario: &Scenario) {
    let (ike_sas, child_sas) = scenario.ends_with;
    let what = format!("{}, deaths {:?}", scenario.name, world.plan);
    for host in [&world.a, &world.b] {
        let totals = host.engine.totals();
        assert_eq!(
            (host.established(), totals.ike_sas as usize),
            (ike_sas, ike_sas),
            "{what}"
        );
        assert_eq!(totals.children as usize, child_sas, "{what}");
        assert_eq!(host.installed.len(), child_sas, "{what}");
        assert_eq!(host.sad.allocated.len(), child_sas, "{what}");
    }
    world.check_pairs(child_sas);
    assert_eq!(world.log.begun.len(), 1, "{what}: no other IKE_SA_INIT");
    let ended = |event: &Event| matches!(event, Event::Deleted { .. } | Event::SetupFailed { .. });
    if ike_sas > 0 {
        assert!(!world.a.events.iter().any(ended), "{what}");
    }
}

#[test]
fn who_has_nothing_to_do_rests_and_is_there_at_once() {
    if std::env::var_os(RESTART_VARIABLE).is_some() {
        return;
    }
    let mut world = World::connected();
    let resting = |world: &World| [&world.a, &world.b].map(|host| host.engine.totals().resting);
    assert_eq!(resting(&world), [1, 1]);
    let (ike, child) = (world.ike(B), world.child(B));
    world.action(A, Action::CheckLiveness);
    assert_eq!(resting(&world), [0, 1]);
    world.settle();
    assert_eq!(resting(&world), [1, 1]);
    assert_eq!(world.b.count(Count::LivenessReplied), 1);
    // A timer wakes it up as well, as often as it would otherwise, and no older timer is in the way.
    world.run(Duration::from_secs(200), SECOND);
    assert_eq!(resting(&world), [1, 1]);
    world.action(B, Action::RekeyChild(child));
    world.settle();
    assert_eq!(resting(&world), [0, 0], "what is replaced receives for a while");
    world.run(Duration::from_secs(10), SECOND);
    assert_eq!(resting(&world), [1, 1]);
    assert_eq!(world.ike(B), ike);
    world.check_pairs(1);
    // Other parts of its record are the shell's.
    let now = world.now;
    world.b.engine.mark_changed(now, ike, &mut world.b.sad);
    assert_eq!(resting(&world), [1, 0]);
    world.collect(B);
    assert_eq!(resting(&world), [1, 1]);
    world.action(B, Action::Delete);
    world.settle();
    world.check_ended();
}

#[test]
fn who_cannot_be_read_any_more_is_gone_and_said_so() {
    let mut world = World::connected();
    let ike = world.ike(B);
    world.b.lose_record(ike);
    world.action(A, Action::CheckLiveness);
    world.deliver_next(B);
    let lost = |event: &Event| matches!(event, Event::RecordLost { ike: lost } if *lost == ike);
    assert!(world.b.events.iter().any(lost));
    let totals = world.b.engine.totals();
    assert_eq!((totals.ike_sas, totals.children, totals.resting), (0, 0, 0));
}

#[test]
fn whoever_dies_at_whichever_step_it_ends_the_same() {
    /// Calls of a side at which it dies; later ones repeat what was before.
    const MOST: usize = 60;
    if std::env::var_os(RESTART_VARIABLE).is_some() {
        return;
    }
    for scenario in scenarios() {
        Plan::never();
        let calls = play(&scenario).plan.calls;
        for (side, calls) in [A, B].into_iter().zip(calls) {
            for call in 1..=calls.min(MOST) + 1 {
                for death in [
                    Death::BeforeCommit,
                    Death::AfterCommit,
                    Death::AfterAll,
                    Death::Move,
                ] {
                    Plan::deaths(&[(side, call, death)]);
                    play(&scenario);
                    Plan::deaths(&[(side, call, death), (side, call + 1, Death::AfterCommit)]);
                    play(&scenario);
                }
                // The new owner dies at once, and the slot goes back to the former one, whose timers are old.
                let back = [Death::Move, Death::BeforeCommit, Death::Move];
                let plan: Vec<_> = (call..)
                    .zip(back)
                    .map(|(call, death)| (side, call, death))
                    .collect();
                Plan::deaths(&plan);
                play(&scenario);
            }
        }
    }
    Plan::never();
}
