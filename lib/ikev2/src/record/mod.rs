//! Records of IKE SAs: what a later life of the process must know to go on where this one ended.
//!
//! A record is a version, a head that can be read without the profile (which service, which SPIs), and the IKE SA. All numbers are little-endian;
//! times are milliseconds since the epoch of [`EngineConfig`](crate::EngineConfig), in 6 octets; lengths are in groups of 7 bits, the lowest
//! first; what may be missing begins with 0 or 1. Each type names its fields once, and reading follows from that. Another version of this layout
//! gets another first octet.

mod values;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::Secret;
use zeroize::Zeroize;

use crate::profile::Profile;

/// Newest version of the layout. An IKE SA is written in the oldest that has room for what it has, so that an earlier version of the software reads most
/// of them: [`PER_RESOURCE`] is for those that have child SAs beside others.
pub const VERSION: u8 = PER_RESOURCE;
/// Oldest version that is read.
pub const OLDEST_VERSION: u8 = 1;
/// First version that says which child SAs stand beside others.
pub(crate) const PER_RESOURCE: u8 = 2;

/// Octets of a time.
const TIME_LEN: usize = 6;
/// Room for a record to begin with: all but those with long chains of certificates fit.
pub(crate) const ROOM: usize = 16 * 1024;

/// What can stand in a record. What was read and is written again gives the same octets.
pub(crate) trait Stored: Sized {
    /// Writes it.
    fn store(&self, out: &mut Sink);

    /// Reads it; `None` if the octets cannot be one.
    fn load(from: &mut Source<'_>) -> Option<Self>;

    /// Writes several, without their number.
    fn store_all(items: &[Self], out: &mut Sink) {
        for item in items {
            item.store(out);
        }
    }

    /// Reads `count` of them. Each takes at least an octet, so their number is bounded by what there is.
    fn load_all(count: usize, from: &mut Source<'_>) -> Option<Vec<Self>> {
        if count > from.rest.len() {
            return None;
        }
        (0..count).map(|_| Self::load(from)).collect()
    }
}

/// Where a record is written. It holds keys: it never leaves octets behind in freed memory.
pub(crate) struct Sink {
    bytes: Vec<u8>,
    epoch: Instant,
    failed: bool,
}

/// Where a record is read from.
pub(crate) struct Source<'a> {
    rest: &'a [u8],
    epoch: Instant,
    /// That of the IKE SA.
    pub profile: &'a Arc<Profile>,
}

impl Sink {
    /// An empty one; times count from `epoch`.
    pub fn new(epoch: Instant) -> Self {
        Self {
            bytes: Vec::new(),
            epoch,
            failed: false,
        }
    }

    /// What was written so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// True if something could not be written: what is here is no record.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Notes that something could not be written.
    pub fn fail(&mut self) {
        self.failed = true;
    }

    /// Forgets what was written, and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.as_mut_slice().zeroize();
        self.bytes.clear();
        self.failed = false;
    }

    /// Appends octets.
    pub fn put(&mut self, octets: &[u8]) {
        let needed = self.bytes.len() + octets.len();
        if needed > self.bytes.capacity() {
            let mut larger = Vec::with_capacity(needed.next_power_of_two().max(ROOM));
            larger.extend_from_slice(&self.bytes);
            std::mem::replace(&mut self.bytes, larger).zeroize();
        }
        self.bytes.extend_from_slice(octets);
    }

    /// Appends a length.
    pub fn length(&mut self, mut length: usize) {
        loop {
            let [low, ..] = length.to_le_bytes();
            length >>= 7;
            let more = u8::from(length != 0) << 7;
            self.put(&[low & 0x7f | more]);
            if length == 0 {
                return;
            }
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl<'a> Source<'a> {
    /// Reads `record` of an IKE SA with this profile; times count from `epoch`.
    pub fn new(record: &'a [u8], epoch: Instant, profile: &'a Arc<Profile>) -> Self {
        Self {
            rest: record,
            epoch,
            profile,
        }
    }

    /// True if all is read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// How much there is still to read.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// The next octets.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    /// The next octet.
    pub fn octet(&mut self) -> Option<u8> {
        self.array().map(|[octet]| octet)
    }

    /// A length, in its shortest form.
    pub fn length(&mut self) -> Option<usize> {
        let mut length = 0;
        for shift in (0..28).step_by(7) {
            let octet = self.octet()?;
            length |= usize::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return (octet != 0 || shift == 0).then_some(length);
            }
        }
        None
    }
}

/// Says which fields of a type stand in a record, in their order. What follows `without` is not there and begins anew.
macro_rules! stored {
    ($type:ty { $($field:ident),+ $(,)? } $(without { $($left:ident : $value:expr),+ $(,)? })?) => {
        impl $crate::record::Stored for $type {
            fn store(&self, out: &mut $crate::record::Sink) {
                $(self.$field.store(out);)+
            }

            fn load(from: &mut $crate::record::Source<'_>) -> Option<Self> {
                Some(Self {
                    $($field: $crate::record::Stored::load(from)?,)+
                    $($($left: $value,)+)?
                })
            }
        }
    };
}

/// Says by which octet each variant of an enum begins, and what follows it.
macro_rules! stored_enum {
    ($type:ty { $($tag:literal => $variant:ident $(($field:ident))?),+ $(,)? }) => {
        impl $crate::record::Stored for $type {
            fn store(&self, out: &mut $crate::record::Sink) {
                match self {
                    $(Self::$variant $(($field))? => {
                        out.put(&[$tag]);
                        $($field.store(out);)?
                    })+
                }
            }

            fn load(from: &mut $crate::record::Source<'_>) -> Option<Self> {
                Some(match from.octet()? {
                    $($tag => {
                        $(let $field = $crate::record::Stored::load(from)?;)?
                        Self::$variant $(($field))?
                    })+
                    _ => return None,
                })
            }
        }
    };
}

pub(crate) use {stored, stored_enum};

macro_rules! stored_numbers {
    ($($number:ty),+) => {
        $(impl Stored for $number {
            fn store(&self, out: &mut Sink) {
                out.put(&self.to_le_bytes());
            }

            fn load(from: &mut Source<'_>) -> Option<Self> {
                from.array().map(Self::from_le_bytes)
            }
        })+
    };
}

stored_numbers!(u16, u32, u64);

impl Stored for u8 {
    fn store(&self, out: &mut Sink) {
        out.put(&[*self]);
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        from.octet()
    }

    fn store_all(items: &[Self], out: &mut Sink) {
        out.put(items);
    }

    fn load_all(count: usize, from: &mut Source<'_>) -> Option<Vec<Self>> {
        from.take(count).map(<[u8]>::to_vec)
    }
}

impl Stored for bool {
    fn store(&self, out: &mut Sink) {
        out.put(&[u8::from(*self)]);
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        match from.octet()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl<const N: usize> Stored for [u8; N] {
    fn store(&self, out: &mut Sink) {
        out.put(self);
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        from.array()
    }
}

impl<T: Stored> Stored for Option<T> {
    fn store(&self, out: &mut Sink) {
        self.is_some().store(out);
        if let Some(value) = self {
            value.store(out);
        }
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        Some(match bool::load(from)? {
            true => Some(T::load(from)?),
            false => None,
        })
    }
}

impl<T: Stored> Stored for Box<T> {
    fn store(&self, out: &mut Sink) {
        T::store(self, out);
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        T::load(from).map(Box::new)
    }
}

impl<A: Stored, B: Stored> Stored for (A, B) {
    fn store(&self, out: &mut Sink) {
        self.0.store(out);
        self.1.store(out);
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        Some((A::load(from)?, B::load(from)?))
    }
}

impl<T: Stored> Stored for Vec<T> {
    fn store(&self, out: &mut Sink) {
        out.length(self.len());
        T::store_all(self, out);
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        let count = from.length()?;
        T::load_all(count, from)
    }
}

impl<T: Stored> Stored for Box<[T]> {
    fn store(&self, out: &mut Sink) {
        out.length(self.len());
        T::store_all(self, out);
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        Vec::load(from).map(Vec::into_boxed_slice)
    }
}

impl<T: Stored> Stored for Arc<T> {
    fn store(&self, out: &mut Sink) {
        T::store(self, out);
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        T::load(from).map(Self::new)
    }
}

impl<T: Stored> Stored for Arc<[T]> {
    fn store(&self, out: &mut Sink) {
        out.length(self.len());
        T::store_all(self, out);
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        Vec::load(from).map(Arc::from)
    }
}

impl<T: Stored> Stored for VecDeque<T> {
    fn store(&self, out: &mut Sink) {
        out.length(self.len());
        for item in self {
            item.store(out);
        }
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        Vec::load(from).map(Self::from)
    }
}

impl Stored for String {
    fn store(&self, out: &mut Sink) {
        out.length(self.len());
        out.put(self.as_bytes());
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        Self::from_utf8(Vec::load(from)?).ok()
    }
}

impl Stored for Secret {
    fn store(&self, out: &mut Sink) {
        out.length(self.len());
        out.put(self.as_bytes());
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        let length = from.length()?;
        from.take(length).map(Self::from)
    }
}

impl Stored for Instant {
    fn store(&self, out: &mut Sink) {
        let since = self.saturating_duration_since(out.epoch).as_millis();
        let [a, b, c, d, e, f, ..] = since.to_le_bytes();
        out.put(&[a, b, c, d, e, f]);
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        let [a, b, c, d, e, f] = from.array::<TIME_LEN>()?;
        let since = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        from.epoch.checked_add(Duration::from_millis(since))
    }
}

/// In milliseconds; 49 days at most.
impl Stored for Duration {
    fn store(&self, out: &mut Sink) {
        u32::try_from(self.as_millis()).unwrap_or(u32::MAX).store(out);
    }

    fn load(from: &mut Source<'_>) -> Option<Self> {
        u32::load(from).map(|milliseconds| Self::from_millis(milliseconds.into()))
    }
}
