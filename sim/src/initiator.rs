//! The IKE side of simulated eNodeBs: our engine as initiator, with everything it asks answered from memory.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use crypto::Secret;
use ikev2::{
    Answer, ChildProfile, ConfigurationRequest, Identity, Liveness, LocalAuth, Profile, Question, RemoteAuth,
    Retransmission, Sad, SelectorPolicy, TrafficSelector, Usage,
};
use ipnet::IpNet;

use crate::offer::Offer;
use crate::progress::LONGEST;

/// How a gateway is asked whether it is there. It is not asked by itself for so long that it never is: a measurement is not disturbed.
const LIVENESS: Liveness = Liveness {
    interval: Duration::from_secs(LONGEST),
    timeout: Duration::from_secs(1),
    retries: 2,
};

/// What the eNodeBs have in common.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    pub secret: Secret,
    pub offer: Offer,
    pub protected: IpNet,
    pub asks_for_address: bool,
    /// A NAT is faked, so that ESP goes over UDP.
    pub fakes_nat: bool,
    pub identity_prefix: String,
}

/// The policy of eNodeB `number`, whose inner address is `inner`.
pub(crate) fn profile(common: &Common, number: usize, inner: Ipv4Addr) -> Arc<Profile> {
    let own = if common.asks_for_address {
        SelectorPolicy::Assigned
    } else {
        SelectorPolicy::Ranges(vec![TrafficSelector::host(inner.into())])
    };
    let far = TrafficSelector::prefix(common.protected.addr(), common.protected.prefix_len());
    Arc::new(Profile {
        name: format!("{}{number}", common.identity_prefix),
        tag: number as u64,
        proposals: common.offer.ike(),
        children: vec![Arc::new(ChildProfile::new(
            "net",
            common.offer.esp(),
            own,
            SelectorPolicy::Ranges(vec![far]),
        ))],
        local_identity: Identity::fqdn(&format!("{}{number}.sim.test", common.identity_prefix)),
        local_auth: LocalAuth::Psk,
        remote_auth: RemoteAuth {
            psk: true,
            ..RemoteAuth::default()
        },
        retransmission: Retransmission {
            timeout: Duration::from_secs(1),
            exponential: true,
            max: 4,
        },
        liveness: Some(LIVENESS),
        configuration_request: common.asks_for_address.then(|| ConfigurationRequest {
            ipv4: Some(Ipv4Addr::UNSPECIFIED),
            ..ConfigurationRequest::default()
        }),
        force_encapsulation: common.fakes_nat,
        ..Profile::default()
    })
}

/// Answers what an initiator with a pre-shared key is asked.
pub(crate) fn answer(common: &Common, question: &Question) -> Answer {
    match question {
        Question::Psk {
            wants_local,
            wants_remote,
            ..
        } => Answer::Psk {
            local: wants_local.then(|| common.secret.clone()),
            remote: wants_remote.then(|| common.secret.clone()),
        },
        _ => Answer::Unavailable("a simulated eNodeB has a pre-shared key and nothing else".to_owned()),
    }
}

/// SPIs and usage in plain memory.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    next: u32,
    used: HashMap<u32, Usage>,
}

impl Memory {
    /// Notes what a child SA carries.
    pub(crate) fn usage_mut(&mut self, spi: u32) -> Option<&mut Usage> {
        self.used.get_mut(&spi)
    }

    pub(crate) fn remove(&mut self, spi: u32) {
        self.used.remove(&spi);
    }
}

impl Sad for Memory {
    fn allocate_spi(&mut self, slot: u8) -> Option<u32> {
        const NUMBERS: u32 = 0x00ff_ffff;
        for _ in 0..NUMBERS {
            self.next = self.next % NUMBERS + 1;
            let spi = u32::from(slot) << 24 | self.next;
            if let std::collections::hash_map::Entry::Vacant(place) = self.used.entry(spi) {
                place.insert(Usage::default());
                return Some(spi);
            }
        }
        None
    }

    fn free_spi(&mut self, spi: u32) {
        self.remove(spi);
    }

    fn usage(&self, spi: u32) -> Usage {
        self.used.get(&spi).copied().unwrap_or_default()
    }
}
