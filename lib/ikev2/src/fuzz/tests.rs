//! What no true peer does: messages that are authentic and against the rules.

use super::*;
use crate::event::{ChildExchange, Count, Event};
use crate::message::{NotifyKind, ProposalSpi};
use crate::negotiate::{Pfs, offer_esp, offer_ike};
use crate::output::IkeSaId;
use crate::selectors::TrafficSelector;
use crate::show::{ChildSaView, Cursor};

/// The fuzzer must get as far as the true peer does.
#[test]
fn a_script_reaches_what_lies_behind_the_integrity_check() {
    let mut run = Run::new();
    assert_eq!(run.peers[1].totals().established, 1);
    run.step(1, &[2, payload::NONE]);
    let mut counted = Vec::new();
    while let Some(output) = run.peers[1].poll() {
        if let Output::Event(Event::Count(count)) = output {
            counted.push(count);
        }
    }
    assert!(counted.contains(&Count::LivenessReplied), "{counted:?}");
    // CREATE_CHILD_SA without anything in it is malformed, and answered.
    run.step(1, &[1, payload::NONE]);
    run.step(1, &[2, payload::DELETE, 0, 0, 0, 8, 1, 0, 0, 0]);
    assert_eq!(run.peers[1].totals().established, 0);
    run.end();
}

/// The payloads of a request that rekeys the child SA which the peer receives with `old`.
fn rekey(old: u32, new: u32) -> Vec<u8> {
    let profile = profile();
    let key = DhGroup::Curve25519.generate(&mut TestRandom::new(u64::from(new)));
    let key = key.unwrap();
    let mut builder = Builder::new(HEADER_LEN);
    builder.notify_esp(NotifyKind::REKEY_SA, old);
    builder.sa(&offer_esp(&profile.children[0].proposals, new, Pfs::AsConfigured));
    builder.nonce(&[7; 32]);
    builder.key_exchange(key.group().transform_id(), key.public());
    builder.selectors(payload::TSI, &[TrafficSelector::ANY_IPV4]);
    builder.selectors(payload::TSR, &[TrafficSelector::ANY_IPV4]);
    let (first, _, written) = builder.into_parts();
    let mut script = vec![1, first];
    script.extend_from_slice(&written[HEADER_LEN..]);
    script
}

fn children(run: &Run) -> Vec<ChildSaView> {
    let (views, _) = run.peers[1].ike_sas(run.now, Cursor::default(), 1, &run.sad);
    views[0].children.clone()
}

fn delete(run: &mut Run, spi: u32) {
    let mut delete = Builder::new(HEADER_LEN);
    delete.delete_esp(&[spi]);
    let (first, _, written) = delete.into_parts();
    run.step(1, &[&[2, first], &written[HEADER_LEN..]].concat());
}

#[test]
fn a_child_sa_that_the_peer_lost_comes_back_for_the_same_traffic() {
    let mut run = Run::new();
    // The true peer never hears of this rekey: it is as if it had lost what came of it.
    let old = children(&run)[0].outbound_spi;
    run.step(1, &rekey(old, 0x1000));
    delete(&mut run, old);
    run.collect(1, &mut Vec::new());
    let lost = children(&run).pop().unwrap();
    assert_eq!((lost.outbound_spi, lost.remote_selectors.len()), (0x1000, 1));
    let (views, _) = run.peers[1].ike_sas(run.now, Cursor::default(), 1, &run.sad);
    let action = Action::RekeyChild(lost.inbound_spi);
    let _ = run.peers[1].action(run.now, views[0].id, action, &mut run.sad);
    run.exchange();
    let restored = children(&run).pop().unwrap();
    assert_ne!(restored.inbound_spi, lost.inbound_spi);
    assert_eq!(restored.local_selectors, lost.local_selectors);
    assert_eq!(restored.remote_selectors, lost.remote_selectors);
    run.end();
}

#[test]
fn a_peer_that_never_deletes_what_it_rekeyed_gets_no_chain_of_child_sas() {
    let mut run = Run::new();
    for new in 0x1000..0x1020 {
        let newest = children(&run).last().unwrap().outbound_spi;
        run.step(1, &rekey(newest, new));
        run.collect(1, &mut Vec::new());
    }
    let left: Vec<u32> = children(&run).iter().map(|child| child.outbound_spi).collect();
    assert_eq!((left.len(), left[1]), (2, 0x1000), "{left:x?}");
    // Once it keeps to the rules it is served again.
    delete(&mut run, left[0]);
    run.step(1, &rekey(0x1000, 0x2000));
    assert_eq!(children(&run).last().unwrap().outbound_spi, 0x2000);
    run.end();
}

/// The IKE SAs of the responder, in the order in which they were made.
fn ike_sas(run: &Run) -> Vec<IkeSaId> {
    let (mut views, _) = run.peers[1].ike_sas(run.now, Cursor::default(), 64, &run.sad);
    views.sort_by_key(|view| view.id.index());
    views.iter().map(|view| view.id).collect()
}

/// The peer sends this request in the IKE SA; gives what the responder counts.
fn request(run: &mut Run, ike: IkeSaId, exchange: Exchange, builder: Builder) -> Vec<Count> {
    message(run, ike, exchange, false, builder)
}

/// The peer sends this request or response in the IKE SA; gives what the other one counts.
fn message(run: &mut Run, ike: IkeSaId, exchange: Exchange, response: bool, builder: Builder) -> Vec<Count> {
    let (first, _, written) = builder.into_parts();
    let plaintext = &written[HEADER_LEN..];
    run.peers[1].mark_changed(run.now, ike, &mut run.sad);
    let datagram = run.peers[1]
        .forge(ike, exchange, response, first, plaintext)
        .unwrap();
    run.receive(1, path(0), &datagram);
    let mut counted = Vec::new();
    while let Some(output) = run.peers[1].poll() {
        if let Output::Event(Event::Count(count)) = output {
            counted.push(count);
        }
    }
    counted
}

/// The peer rekeys the IKE SA. False: that is put off.
fn rekey_ike(run: &mut Run, ike: IkeSaId, new: u64) -> bool {
    let key = DhGroup::Curve25519.generate(&mut TestRandom::new(new)).unwrap();
    let mut builder = Builder::new(HEADER_LEN);
    builder.sa(&offer_ike(&profile().proposals, ProposalSpi::Ike(new)));
    builder.nonce(&[7; 32]);
    builder.key_exchange(key.group().transform_id(), key.public());
    let counted = request(run, ike, Exchange::CreateChildSa, builder);
    let put_off = counted.contains(&Count::RekeyIgnored(ChildExchange::RekeyIke));
    assert_eq!(
        put_off,
        counted.contains(&Count::NotifySent(NotifyKind::TEMPORARY_FAILURE))
    );
    !put_off
}

fn delete_ike(run: &mut Run, ike: IkeSaId) {
    let mut builder = Builder::new(HEADER_LEN);
    builder.delete_ike();
    request(run, ike, Exchange::Informational, builder);
}

/// Two minutes go by, in which the peer keeps this IKE SA alive and nothing else.
fn wait(run: &mut Run, ike: IkeSaId) {
    for _ in 0..12 {
        run.step(3, &[10]);
        run.collect(1, &mut Vec::new());
        request(run, ike, Exchange::Informational, Builder::new(HEADER_LEN));
    }
}

#[test]
fn a_peer_that_rekeys_its_ike_sa_without_end_is_put_off_until_those_before_are_gone() {
    for deletes in [false, true] {
        let mut run = Run::new();
        let mut done = 0;
        for new in 1..=32 {
            let newest = *ike_sas(&run).last().unwrap();
            if rekey_ike(&mut run, newest, new) {
                done += 1;
                if deletes {
                    delete_ike(&mut run, newest);
                }
            }
        }
        assert_eq!(done, 4, "deletes: {deletes}");
        assert_eq!(ike_sas(&run).len(), if deletes { 1 } else { 5 });
        // Once there is nothing left of them it is served again.
        let newest = *ike_sas(&run).last().unwrap();
        wait(&mut run, newest);
        assert_eq!(ike_sas(&run), [newest]);
        assert!(rekey_ike(&mut run, newest, 99));
        run.end();
    }
}

#[test]
fn a_peer_that_rekeys_the_ike_sa_again_in_the_middle_of_a_collision_is_put_off() {
    let mut run = Run::new();
    let old = ike_sas(&run)[0];
    let _ = run.peers[1].action(run.now, old, Action::RekeyIke, &mut run.sad);
    run.collect(1, &mut Vec::new());
    assert!(rekey_ike(&mut run, old, 1));
    let rival = *ike_sas(&run).last().unwrap();
    assert!(!rekey_ike(&mut run, old, 2), "it is rekeyed already");
    assert!(!rekey_ike(&mut run, rival, 3), "it may have to go yet");
    assert_eq!(ike_sas(&run), [old, rival]);
    // No answer to ours comes, so the peer's stands.
    wait(&mut run, rival);
    assert_eq!(ike_sas(&run), [rival]);
    assert_eq!(children(&run).len(), 1);
    assert!(rekey_ike(&mut run, rival, 4));
    run.end();
}

#[test]
fn a_peer_may_ask_for_another_group_once() {
    for (action, exchange) in [
        (Action::RekeyIke, ChildExchange::RekeyIke),
        (Action::CreateChild(0), ChildExchange::Create),
    ] {
        let mut run = Run::new();
        let ike = ike_sas(&run)[0];
        let _ = run.peers[1].action(run.now, ike, action, &mut run.sad);
        run.collect(1, &mut Vec::new());
        for (group, asks_again) in [(DhGroup::Ecp256, true), (DhGroup::Curve25519, false)] {
            let mut builder = Builder::new(HEADER_LEN);
            let wanted = group.transform_id().to_be_bytes();
            builder.notify(NotifyKind::INVALID_KE_PAYLOAD, &wanted);
            let counted = message(&mut run, ike, Exchange::CreateChildSa, true, builder);
            let asked = counted.contains(&Count::ChildRequestSent(exchange));
            assert_eq!(asked, asks_again, "{exchange:?} with {group:?}");
        }
        run.end();
    }
}
