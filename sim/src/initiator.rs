//! The IKE side of simulated eNodeBs: our engine as initiator, with everything it asks answered from memory.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use ikev2::{
    ChildProfile, ConfigurationRequest, Identity, Liveness, Profile, Retransmission, Sad, SelectorPolicy,
    TrafficSelector, Usage,
};
use ipnet::IpNet;

use crate::credentials::Known;
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
    pub credentials: Arc<Known>,
    pub offer: Offer,
    pub protected: IpNet,
    pub asks_for_address: bool,
    /// A NAT is faked, so that ESP goes over UDP.
    pub fakes_nat: bool,
    pub identity_prefix: String,
    pub retransmission: Retransmission,
    /// Child SAs that are made beside the first of each tunnel.
    pub per_resource: u8,
}

/// How requests are sent again unless told otherwise.
pub(crate) const RETRANSMISSION: Retransmission = Retransmission {
    timeout: Duration::from_secs(1),
    exponential: true,
    max: 4,
};

/// The policy of eNodeB `number`, whose inner address is `inner`.
pub(crate) fn profile(common: &Common, number: usize, inner: Ipv4Addr) -> Arc<Profile> {
    let own = if common.asks_for_address {
        SelectorPolicy::Assigned
    } else {
        SelectorPolicy::Ranges(vec![TrafficSelector::host(inner.into())])
    };
    let far = TrafficSelector::prefix(common.protected.addr(), common.protected.prefix_len());
    let mut child = ChildProfile::new("net", common.offer.esp(), own, SelectorPolicy::Ranges(vec![far]));
    child.per_resource.make = common.per_resource;
    let mut profile = Profile {
        name: format!("{}{number}", common.identity_prefix),
        tag: number as u64,
        proposals: common.offer.ike(),
        children: vec![Arc::new(child)],
        local_identity: Identity::fqdn(&format!("{}{number}.sim.test", common.identity_prefix)),
        retransmission: common.retransmission,
        liveness: Some(LIVENESS),
        configuration_request: common.asks_for_address.then(|| ConfigurationRequest {
            ipv4: Some(Ipv4Addr::UNSPECIFIED),
            ..ConfigurationRequest::default()
        }),
        force_encapsulation: common.fakes_nat,
        ..Profile::default()
    };
    common.credentials.apply(number, &mut profile);
    Arc::new(profile)
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
