//! Who simulated peers are: the options of every command that has several of them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use clap::value_parser;
use ikev2::{Profile, Retransmission};
use ipnet::IpNet;

use crate::credentials::Credentials;
use crate::initiator::{Common, profile};
use crate::offer::Offer;

/// Simulated peers of one gateway.
#[derive(Debug, Clone, clap::Args)]
pub struct Peers {
    /// Address of the gateway
    #[arg(long)]
    pub gateway: IpAddr,
    /// Local outer addresses; tunnels are spread over them
    #[arg(long, required = true, value_delimiter = ',')]
    pub local: Vec<IpAddr>,
    /// Keys or certificates
    #[command(flatten)]
    pub credentials: Credentials,
    /// Algorithms
    #[command(flatten)]
    pub offer: Offer,
    /// Set-ups (rekeys, checks) under way at a time
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u32).range(1..))]
    pub concurrent: u32,
    /// Identities are PREFIXn.sim.test, unless certificates say otherwise
    #[arg(long, default_value = "enb")]
    pub identity_prefix: String,
    /// Ask for an inner address instead of bringing one
    #[arg(long)]
    pub ask_for_address: bool,
    /// First inner address
    #[arg(long, default_value = "10.64.0.1")]
    pub inner: Ipv4Addr,
    /// Network behind the gateway
    #[arg(long, default_value = "172.16.0.0/24")]
    pub protected: IpNet,
    /// Milliseconds after which an unanswered request is sent again
    #[arg(long, default_value_t = 1000, value_parser = value_parser!(u64).range(1..=60_000))]
    pub retransmit_ms: u64,
    /// How often an unanswered request is sent again
    #[arg(long, default_value_t = 4)]
    pub retransmissions: u8,
    /// Wait equally long each time, instead of twice as long
    #[arg(long)]
    pub steady: bool,
}

impl Peers {
    /// What they have in common; reads key and certificate files.
    pub(crate) fn common(&self) -> Result<Common, String> {
        Ok(Common {
            credentials: Arc::new(self.credentials.read()?),
            offer: self.offer.clone(),
            protected: self.protected,
            asks_for_address: self.ask_for_address,
            fakes_nat: true,
            identity_prefix: self.identity_prefix.clone(),
            per_resource: 0,
            retransmission: Retransmission {
                timeout: Duration::from_millis(self.retransmit_ms),
                exponential: !self.steady,
                max: self.retransmissions,
            },
        })
    }

    /// The policy of peer `number`.
    pub(crate) fn profile(&self, common: &Common, number: usize) -> Arc<Profile> {
        profile(common, number, self.inner(number))
    }

    /// Outer address of peer `number`.
    pub(crate) fn outer(&self, number: usize) -> IpAddr {
        // At least one is required.
        self.local
            .get(number % self.local.len().max(1))
            .copied()
            .unwrap_or(self.gateway)
    }

    /// Inner address of peer `number`, unless the gateway gives it one.
    pub(crate) fn inner(&self, number: usize) -> Ipv4Addr {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        Ipv4Addr::from_bits(self.inner.to_bits().wrapping_add(number))
    }

    /// From a request to the end of all its retransmissions.
    pub(crate) fn silence(&self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(600);
        let waits = |exponent: u8| 2_u32.saturating_pow(u32::from(exponent));
        let times = if self.steady {
            u32::from(self.retransmissions) + 1
        } else {
            waits(self.retransmissions.saturating_add(1)).saturating_sub(1)
        };
        Duration::from_millis(self.retransmit_ms)
            .saturating_mul(times)
            .min(LONGEST)
    }

    /// Set-ups under way at a time.
    pub(crate) fn concurrent(&self) -> usize {
        usize::try_from(self.concurrent).unwrap_or(usize::MAX)
    }
}
