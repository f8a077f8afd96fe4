//! Who has the SA for a destination that is not ours: what other workers told, remembered for a bounded number of destinations.

use std::net::IpAddr;

use super::engine::SECOND_NS;

/// Destinations that are remembered.
const HINTS: usize = 4096;
/// How long a destination that nobody has an SA for is not asked for again, if no news comes.
const NOBODY_NS: u64 = SECOND_NS;

/// Who has the SA for a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Unknown,
    Worker(u16),
    /// Everybody was asked, and nobody has it.
    Nobody,
}

/// What was told last about each hash of destinations.
pub(crate) struct Hints {
    list: Vec<Hint>,
    /// Counts the times that somebody got SAs for whole networks: what was in vain before may not be now.
    generation: u64,
}

#[derive(Clone, Copy)]
struct Hint {
    context: u32,
    destination: IpAddr,
    owner: Owner,
    /// Of `Nobody`: believed until then (nanoseconds of the monotonic clock), and in this generation.
    until_ns: u64,
    generation: u64,
}

impl Hints {
    /// Knows nothing.
    pub(crate) fn new() -> Self {
        let nothing = Hint {
            context: 0,
            destination: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            owner: Owner::Unknown,
            until_ns: 0,
            generation: 0,
        };
        Self {
            list: vec![nothing; HINTS],
            generation: 0,
        }
    }

    /// Who is known to have the SA for a destination.
    pub(crate) fn owner_of(&self, context: u32, destination: IpAddr, now_ns: u64) -> Owner {
        let hint = self.list.get(place(context, destination));
        match hint.filter(|hint| hint.is_for(context, destination)) {
            Some(hint)
                if hint.owner == Owner::Nobody
                    && (hint.until_ns <= now_ns || hint.generation != self.generation) =>
            {
                Owner::Unknown
            }
            Some(hint) => hint.owner,
            None => Owner::Unknown,
        }
    }

    /// Takes what was found out about a destination.
    pub(crate) fn learn(&mut self, context: u32, destination: IpAddr, owner: Owner, now_ns: u64) {
        if let Some(hint) = self.list.get_mut(place(context, destination)) {
            *hint = Hint {
                context,
                destination,
                owner,
                until_ns: now_ns + NOBODY_NS,
                generation: self.generation,
            };
        }
    }

    /// A worker has a new SA for this destination alone: puts right what is remembered of it, if anything.
    pub(crate) fn correct(&mut self, context: u32, destination: IpAddr, worker: u16) {
        if let Some(hint) = self.list.get_mut(place(context, destination))
            && hint.is_for(context, destination)
        {
            hint.owner = Owner::Worker(worker);
        }
    }

    /// A worker has new SAs for networks or many destinations: whatever nobody had, somebody may have now.
    pub(crate) fn doubt(&mut self) {
        self.generation += 1;
    }
}

impl Hint {
    fn is_for(&self, context: u32, destination: IpAddr) -> bool {
        self.context == context && self.destination == destination
    }
}

fn place(context: u32, destination: IpAddr) -> usize {
    let start = 0xcbf2_9ce4_8422_2325u64 ^ u64::from(context);
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = match destination {
        IpAddr::V4(address) => address.octets().into_iter().fold(start, mix),
        IpAddr::V6(address) => address.octets().into_iter().fold(start, mix),
    };
    (hash >> 32) as usize % HINTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> [IpAddr; 2] {
        ["10.0.0.1", "fd00::1"].map(|address| address.parse().unwrap())
    }

    #[test]
    fn hints_are_for_their_destination_only() {
        let mut hints = Hints::new();
        let [one, two] = addresses();
        assert_eq!(hints.owner_of(1, one, 0), Owner::Unknown);
        hints.learn(1, one, Owner::Worker(3), 100);
        hints.learn(1, two, Owner::Nobody, 100);
        assert_eq!(hints.owner_of(1, one, 2 * NOBODY_NS), Owner::Worker(3));
        assert_eq!(hints.owner_of(1, two, 99 + NOBODY_NS), Owner::Nobody);
        assert_eq!(
            hints.owner_of(1, two, 100 + NOBODY_NS),
            Owner::Unknown,
            "no longer believed"
        );
        assert_eq!(hints.owner_of(2, one, 0), Owner::Unknown);
    }

    #[test]
    fn news_end_the_belief_that_nobody_has_it() {
        let mut hints = Hints::new();
        let [one, two] = addresses();
        hints.learn(1, one, Owner::Nobody, 0);
        hints.learn(1, two, Owner::Nobody, 0);
        hints.correct(1, one, 7);
        hints.correct(2, two, 7);
        assert_eq!(hints.owner_of(1, one, 1), Owner::Worker(7));
        assert_eq!(hints.owner_of(1, two, 1), Owner::Nobody, "of another context");
        hints.doubt();
        assert_eq!(hints.owner_of(1, one, 1), Owner::Worker(7));
        assert_eq!(hints.owner_of(1, two, 1), Owner::Unknown);
    }
}
