use super::*;

fn ours() -> IkeProposal {
    IkeProposal {
        ciphers: vec![Cipher::AesGcm256Icv16, Cipher::AesCbc128],
        integrities: vec![Integrity::HmacSha2_256_128],
        prfs: vec![Prf::HmacSha2_256],
        groups: vec![DhGroup::Curve25519],
    }
}

#[test]
fn an_offer_is_taken_and_its_answer_is_proper() {
    let offer = offer_ike(&[ours()], ProposalSpi::None);
    assert_eq!(offer.len(), 2, "AEAD and others are proposals of their own");
    let chosen = choose_ike(&offer, &[ours()]).unwrap();
    assert_eq!(chosen.algorithms.cipher, Cipher::AesGcm256Icv16);
    assert_eq!(chosen.algorithms.integrity, None);
    let answer = [answer_ike(&chosen, ProposalSpi::None)];
    assert!(is_answer(&answer));
    assert!(!is_answer(&offer));
    assert_eq!(choose_ike(&answer, &[ours()]).unwrap(), chosen);
}

#[test]
fn the_second_proposal_is_chosen_by_number() {
    let offer = offer_ike(&[ours()], ProposalSpi::None);
    let cbc = IkeProposal {
        ciphers: vec![Cipher::AesCbc128],
        ..ours()
    };
    let chosen = choose_ike(&offer, &[cbc]).unwrap();
    assert_eq!(chosen.number, 2);
    assert_eq!(chosen.algorithms.integrity, Some(Integrity::HmacSha2_256_128));
}

#[test]
fn a_mismatch_names_each_transform_that_differs() {
    let theirs = IkeProposal {
        ciphers: vec![Cipher::AesGcm256Icv16],
        groups: vec![DhGroup::Modp2048],
        ..ours()
    };
    let offer = offer_ike(&[theirs], ProposalSpi::None);
    let mismatch = choose_ike(&offer, &[ours()]).unwrap_err();
    assert_eq!(
        mismatch.to_string(),
        "IKE DH group differs: peer offers 14, configured 31"
    );
    let theirs = IkeProposal {
        ciphers: vec![Cipher::AesCbc256],
        prfs: vec![Prf::HmacSha1],
        ..ours()
    };
    let offer = offer_ike(&[theirs], ProposalSpi::None);
    let mismatch = choose_ike(&offer, &[ours()]).unwrap_err();
    assert_eq!(
        mismatch.to_string(),
        "IKE encryption differs: peer offers AES-CBC-256, configured AES-GCM-16-256, AES-CBC-128; \
         IKE PRF differs: peer offers HMAC-SHA1, configured HMAC-SHA2-256"
    );
}

#[test]
fn esp_takes_a_group_only_in_create_child_sa() {
    let esp = EspProposal {
        ciphers: vec![Cipher::Null],
        integrities: vec![Integrity::HmacSha1_96],
        groups: vec![DhGroup::Ecp256],
        esn: vec![false],
    };
    let first = offer_esp(std::slice::from_ref(&esp), 7, Pfs::Never);
    let chosen = choose_esp(&first, std::slice::from_ref(&esp), Pfs::Never).unwrap();
    assert_eq!(chosen.algorithms.group, None);
    assert_eq!(chosen.spi, ProposalSpi::Esp(7));
    let mismatch = choose_esp(&first, std::slice::from_ref(&esp), Pfs::AsConfigured).unwrap_err();
    assert_eq!(
        mismatch.to_string(),
        "ESP DH group differs: peer offers none, configured 19"
    );
    let without = EspProposal {
        groups: Vec::new(),
        ..esp.clone()
    };
    let later = offer_esp(&[esp], 7, Pfs::AsConfigured);
    assert!(choose_esp(&later, &[without], Pfs::AsConfigured).is_err());
}

#[test]
fn aead_with_an_integrity_algorithm_is_not_taken() {
    let mut offer = offer_ike(&[ours()], ProposalSpi::None);
    offer.truncate(1);
    offer[0].transforms.push(integrity(Integrity::HmacSha2_256_128));
    let mismatch = choose_ike(&offer, &[ours()]).unwrap_err();
    assert_eq!(
        mismatch.to_string(),
        "IKE integrity differs: peer offers HMAC-SHA2-256-128, configured none"
    );
    // RFC 7296 3.3.3: offering NONE beside an AEAD is allowed.
    offer[0]
        .transforms
        .push(Transform::new(TransformKind::Integrity, 0));
    assert!(choose_ike(&offer, &[ours()]).is_ok());
}

#[test]
fn an_unknown_attribute_or_type_spoils_what_has_it() {
    let mut offer = offer_ike(&[ours()], ProposalSpi::None);
    for proposal in &mut offer {
        proposal.transforms[0].unknown_attribute = true;
    }
    assert!(choose_ike(&offer, &[ours()]).is_err());
    let mut offer = offer_ike(&[ours()], ProposalSpi::None);
    for proposal in &mut offer {
        proposal.transforms.push(Transform {
            kind: None,
            id: 1,
            key_length: None,
            unknown_attribute: false,
        });
    }
    assert!(choose_ike(&offer, &[ours()]).is_err());
}
