//! Stateless cookies against floods of IKE_SA_INIT (RFC 7296 2.6).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::{Prf, Random, constant_time_eq};

use crate::engine::CookieSecret;
use crate::output::Path;
use crate::profile::CookieThresholds;
use crate::record::{Sink, Source, Stored, VERSION, stored};

/// The engine's own secrets change this often. A cookie is good for one to two times as long.
const ROTATION: Duration = Duration::from_secs(120);
/// Octets of a cookie after its version.
const MAC_LEN: usize = 32;

/// Makes and checks cookies.
pub(crate) struct Cookies {
    current: Option<CookieSecret>,
    previous: Option<CookieSecret>,
    /// Secrets come from outside.
    external: bool,
    changed: Option<Instant>,
    active: bool,
    /// The secrets are as a later life knows them.
    saved: bool,
}

/// Verdict on a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CookieVerdict {
    /// It is ours, for this peer.
    Match,
    /// It is not, or no longer.
    Mismatch,
}

impl Cookies {
    pub fn new() -> Self {
        Self {
            current: None,
            previous: None,
            external: false,
            changed: None,
            active: false,
            saved: true,
        }
    }

    /// Gives `save` our own secrets as a record for a later life, if they changed since it kept them last. Times count from `epoch`.
    pub fn save(&mut self, epoch: Instant, save: &mut dyn FnMut(&[u8]) -> bool) {
        if self.external || self.saved {
            return;
        }
        let mut out = Sink::new(epoch);
        out.put(&[VERSION]);
        self.changed.store(&mut out);
        self.current.store(&mut out);
        self.previous.store(&mut out);
        self.saved = save(out.bytes());
    }

    /// What was kept of them is not there any more.
    pub fn mark_changed(&mut self) {
        self.saved = self.current.is_none();
    }

    /// Takes over what [`Cookies::save`] gave in an earlier life. False if it cannot be read.
    pub fn restore(&mut self, state: &[u8], epoch: Instant) -> bool {
        let nobody = Arc::default();
        let mut source = Source::new(state, epoch, &nobody);
        let mut read = || {
            (source.octet()? == VERSION).then_some(())?;
            let secrets = (
                Stored::load(&mut source)?,
                Stored::load(&mut source)?,
                Stored::load(&mut source)?,
            );
            source.is_empty().then_some(secrets)
        };
        let Some(secrets) = read() else { return false };
        (self.changed, self.current, self.previous) = secrets;
        true
    }

    pub fn set_secrets(&mut self, current: CookieSecret, previous: Option<CookieSecret>) {
        self.current = Some(current);
        self.previous = previous;
        self.external = true;
    }

    /// True if cookies are asked for now.
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Must an IKE_SA_INIT have a cookie? Begins above `start` and ends below `stop` half-open IKE SAs; at the latest, and without
    /// thresholds, above a quarter of the `max` there may be.
    pub fn required(&mut self, thresholds: Option<CookieThresholds>, half_open: u32, max: u32) -> bool {
        let latest = CookieThresholds {
            start: (max / 4).max(1),
            stop: max / 8,
        };
        let thresholds = thresholds.map_or(latest, |configured| CookieThresholds {
            start: configured.start.min(latest.start),
            stop: configured.stop.min(latest.start),
        });
        if thresholds.start == 0 || half_open > thresholds.start {
            self.active = true;
        } else if half_open < thresholds.stop || thresholds.stop == 0 && half_open == 0 {
            self.active = false;
        }
        self.active
    }

    /// The cookie for this IKE_SA_INIT: version and MAC over nonce, addresses and SPI. Ours is among them, as in another
    /// context another peer may have the same address.
    pub fn make(
        &mut self,
        now: Instant,
        random: &mut dyn Random,
        nonce: &[u8],
        path: Path,
        initiator_spi: u64,
    ) -> Vec<u8> {
        self.rotate(now, random);
        match &self.current {
            Some(secret) => secret.cookie(nonce, path, initiator_spi),
            None => Vec::new(),
        }
    }

    /// Is this cookie the one we made for this IKE_SA_INIT?
    pub fn check(&self, cookie: &[u8], nonce: &[u8], path: Path, initiator_spi: u64) -> CookieVerdict {
        let version = cookie.first().copied();
        let secret = [&self.current, &self.previous]
            .into_iter()
            .flatten()
            .find(|secret| Some(secret.version) == version);
        match secret {
            Some(secret) if constant_time_eq(&secret.cookie(nonce, path, initiator_spi), cookie) => {
                CookieVerdict::Match
            }
            _ => CookieVerdict::Mismatch,
        }
    }

    fn rotate(&mut self, now: Instant, random: &mut dyn Random) {
        if self.external {
            return;
        }
        let due = self
            .changed
            .is_none_or(|changed| now.saturating_duration_since(changed) >= ROTATION);
        if !due {
            return;
        }
        let version = self
            .current
            .as_ref()
            .map_or(0, |secret| secret.version.wrapping_add(1));
        self.previous = self.current.take();
        self.current = Some(CookieSecret {
            version,
            secret: random.array(),
        });
        self.changed = Some(now);
        self.saved = false;
    }
}

stored!(CookieSecret { version, secret });

impl CookieSecret {
    fn cookie(&self, nonce: &[u8], path: Path, initiator_spi: u64) -> Vec<u8> {
        let [local, remote] = [path.local, path.remote].map(|end| match end.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        });
        let parts: [&[u8]; 4] = [&local, &remote, &initiator_spi.to_be_bytes(), nonce];
        let mac = Prf::HmacSha2_256.prf(&self.secret, &parts);
        let mut cookie = Vec::with_capacity(1 + MAC_LEN);
        cookie.push(self.version);
        cookie.extend_from_slice(mac.as_bytes());
        cookie
    }
}

#[cfg(test)]
mod tests {
    use crypto::TestRandom;

    use super::*;

    fn path(local: &str, remote: &str) -> Path {
        let end = |address: &str| std::net::SocketAddr::new(address.parse().unwrap(), 500);
        Path {
            local: end(local),
            remote: end(remote),
        }
    }

    #[test]
    fn a_cookie_is_good_for_its_peer_only_and_for_two_rotations() {
        let peer = path("192.0.2.9", "192.0.2.1");
        let mut random = TestRandom::new(1);
        let mut cookies = Cookies::new();
        let start = Instant::now();
        let nonce = [7; 32];
        let cookie = cookies.make(start, &mut random, &nonce, peer, 1);
        assert_eq!(cookies.check(&cookie, &nonce, peer, 1), CookieVerdict::Match);
        assert_eq!(cookies.check(&cookie, &nonce, peer, 2), CookieVerdict::Mismatch);
        assert_eq!(cookies.check(&cookie, &[8; 32], peer, 1), CookieVerdict::Mismatch);
        for other in [path("192.0.2.9", "192.0.2.2"), path("192.0.2.8", "192.0.2.1")] {
            assert_eq!(cookies.check(&cookie, &nonce, other, 1), CookieVerdict::Mismatch);
        }
        cookies.make(start + ROTATION, &mut random, &nonce, peer, 1);
        assert_eq!(cookies.check(&cookie, &nonce, peer, 1), CookieVerdict::Match);
        cookies.make(start + ROTATION * 2, &mut random, &nonce, peer, 1);
        assert_eq!(cookies.check(&cookie, &nonce, peer, 1), CookieVerdict::Mismatch);
    }

    #[test]
    fn workers_with_the_same_secret_know_each_others_cookies() {
        let secret = CookieSecret {
            version: 9,
            secret: [3; 32],
        };
        let peer = path("192.0.2.9", "192.0.2.1");
        let mut random = TestRandom::new(1);
        let (mut one, mut other) = (Cookies::new(), Cookies::new());
        one.set_secrets(secret.clone(), None);
        other.set_secrets(secret, None);
        let cookie = one.make(Instant::now(), &mut random, &[7; 32], peer, 1);
        assert_eq!(other.check(&cookie, &[7; 32], peer, 1), CookieVerdict::Match);
    }

    #[test]
    fn thresholds_have_a_hysteresis() {
        let mut cookies = Cookies::new();
        let mut required = |thresholds, half_open| cookies.required(thresholds, half_open, 1000);
        let thresholds = Some(CookieThresholds { start: 10, stop: 5 });
        assert!(!required(thresholds, 10));
        assert!(required(thresholds, 11));
        assert!(required(thresholds, 5));
        assert!(!required(thresholds, 4));
        assert!(required(Some(CookieThresholds { start: 0, stop: 0 }), 0));
    }

    #[test]
    fn cookies_are_required_when_it_gets_crowded_whatever_is_configured() {
        let late = CookieThresholds {
            start: 1_000_000,
            stop: 900_000,
        };
        for thresholds in [None, Some(late)] {
            let mut cookies = Cookies::new();
            assert!(!cookies.required(thresholds, 250, 1000));
            assert!(cookies.required(thresholds, 251, 1000));
            assert!(cookies.is_active());
            assert!(!cookies.required(thresholds, 124, 1000));
        }
    }
}
