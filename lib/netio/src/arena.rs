//! Places for many values of one type that are met at random, side by side in huge pages: to find out where an ordinary page is costs about as much as to read it.

use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};

/// What a huge page has on x86-64, and on arm64 with pages of 4 KiB.
const HUGE_PAGE: usize = 2 << 20;

/// Values by place; a place that is given out begins with the default. Addresses are reserved for as many as there can be, memory is taken as they come, in order: the
/// first 2 MiB page by page, so that few values cost little, then in huge pages. It stays when places are given back, for those to come. Without huge pages
/// (`/sys/kernel/mm/transparent_hugepage/enabled` is `never`) all are ordinary. Kept out of core dumps.
pub struct Arena<T> {
    most: usize,
    values: Option<Values<T>>,
    free: Vec<Place>,
}

/// Where a value is in its [`Arena`]. There is one for each, so none is given back twice.
#[derive(Debug, PartialEq, Eq)]
pub struct Place(NonZeroU32);

impl<T: Default> Arena<T> {
    /// For at most so many values; reserves nothing yet.
    pub const fn new(most: usize) -> Self {
        Self {
            most,
            values: None,
            free: Vec::new(),
        }
    }

    /// A place for a value. `None` when there is no memory for it, or there are as many as there can be.
    pub fn place(&mut self) -> Option<Place> {
        if let Some(place) = self.free.pop() {
            return Some(place);
        }
        if self.values.is_none() {
            self.values = Values::new(self.most);
        }
        let values = self.values.as_mut().filter(|values| values.len() < self.most)?;
        values.push(T::default())?;
        u32::try_from(values.len())
            .ok()
            .and_then(NonZeroU32::new)
            .map(Place)
    }

    /// The value at a place. Nothing of it is looked at.
    #[inline]
    pub fn get(&self, place: &Place) -> Option<&T> {
        self.values.as_ref()?.get(place.0.get() as usize - 1)
    }

    /// Likewise, to be changed.
    #[inline]
    pub fn get_mut(&mut self, place: &Place) -> Option<&mut T> {
        self.values.as_mut()?.get_mut(place.0.get() as usize - 1)
    }

    /// Takes a place back. The value is dropped where it lies: what its destructor overwrites is gone.
    pub fn give_back(&mut self, place: Place) {
        if let Some(value) = self.get_mut(&place) {
            *value = T::default();
            self.free.push(place);
        }
    }
}

/// A vector that never moves.
struct Values<T> {
    base: NonNull<T>,
    length: usize,
    /// Octets that can be used, and that are reserved.
    usable: usize,
    reserved: NonZeroUsize,
}

// SAFETY: it owns its values as a vector does.
unsafe impl<T: Send> Send for Values<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Values<T> {}

impl<T> Values<T> {
    /// Room for `most`; `None` when there are not so many addresses.
    fn new(most: usize) -> Option<Self> {
        const { assert!(size_of::<T>() > 0 && align_of::<T>() <= HUGE_PAGE) };
        let reserved = most
            .checked_mul(size_of::<T>())?
            .checked_next_multiple_of(HUGE_PAGE)?;
        // One more, so that they can begin as a huge page does.
        let length = NonZeroUsize::new(reserved.checked_add(HUGE_PAGE)?)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of ours.
        let start =
            unsafe { mmap_anonymous(None, length, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE) }.ok()?;
        let before = start.as_ptr().align_offset(HUGE_PAGE).min(HUGE_PAGE);
        // SAFETY: `before` is at most what was added.
        let (base, after) = unsafe { (start.byte_add(before), start.byte_add(before + reserved)) };
        for (unused, length) in [(start, before), (after, HUGE_PAGE - before)] {
            if length > 0 {
                // SAFETY: a part of the mapping that was just made and that nothing refers to. If it stays, it costs addresses and no memory.
                let _ = unsafe { munmap(unused, length) };
            }
        }
        let first = reserved.min(HUGE_PAGE);
        // SAFETY: both ranges are our own mapping, and neither advice changes contents. A kernel that does not take one does without.
        unsafe {
            let _ = madvise(base, reserved, MmapAdvise::MADV_DONTDUMP);
            let _ = madvise(base.byte_add(first), reserved - first, MmapAdvise::MADV_HUGEPAGE);
        }
        Some(Self {
            base: base.cast(),
            length: 0,
            usable: 0,
            reserved: NonZeroUsize::new(reserved)?,
        })
    }

    /// Appends a value; `None`, and the value is dropped, if there is no memory for it.
    fn push(&mut self, value: T) -> Option<()> {
        while (self.length + 1) * size_of::<T>() > self.usable {
            if self.usable >= self.reserved.get() {
                return None;
            }
            let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            // SAFETY: the next piece is inside our own mapping by the check, whose length is a multiple of it; nothing refers to it yet.
            unsafe { mprotect(self.base.byte_add(self.usable).cast(), HUGE_PAGE, protection) }.ok()?;
            self.usable += HUGE_PAGE;
        }
        // SAFETY: inside what is usable by the loop; aligned, as the base is aligned to more than T and values follow each other; nothing lies there yet.
        unsafe { self.base.add(self.length).write(value) };
        self.length += 1;
        Some(())
    }
}

impl<T> Deref for Values<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: so many values were written there, and are ours.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.length) }
    }
}

impl<T> DerefMut for Values<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.length) }
    }
}

impl<T> Drop for Values<T> {
    fn drop(&mut self) {
        // SAFETY: the values are ours and are not used again; then the mapping is exactly ours, and nothing refers to it.
        unsafe {
            std::ptr::drop_in_place::<[T]>(&mut **self);
            let _ = munmap(self.base.cast(), self.reserved.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// Some 1,000 octets, so that 2 MiB hold about 2,000.
    #[derive(Default)]
    struct Value(
        u32,
        #[expect(dead_code, reason = "room")] [[u64; 31]; 4],
        Option<Arc<()>>,
    );

    #[test]
    fn values_stay_where_they_are_and_places_are_used_again() {
        let alive = Arc::new(());
        let mut arena = Arena::<Value>::new(5000);
        let put = |arena: &mut Arena<Value>, number| {
            let place = arena.place().unwrap();
            let value = arena.get_mut(&place).unwrap();
            assert!(value.0 == 0 && value.2.is_none(), "the default");
            *value = Value(number, [[7; 31]; 4], Some(alive.clone()));
            place
        };
        let places: Vec<Place> = (1..=5000).map(|n| put(&mut arena, n)).collect();
        assert_eq!(arena.place(), None, "as many as there can be");
        let first = std::ptr::from_ref(arena.get(&places[0]).unwrap());
        assert_eq!(first.addr() % HUGE_PAGE, 0);
        let (gone, kept): (Vec<_>, Vec<_>) = places.into_iter().zip(1..).partition(|(_, n)| n % 2 == 0);
        gone.into_iter().for_each(|(place, _)| arena.give_back(place));
        assert_eq!(Arc::strong_count(&alive), 1 + kept.len());
        let again: Vec<Place> = (0..2500).map(|_| put(&mut arena, 99)).collect();
        assert_eq!(arena.place(), None, "no more memory");
        assert!(kept.iter().all(|(place, n)| arena.get(place).unwrap().0 == *n));
        assert!(again.iter().all(|place| arena.get(place).unwrap().0 == 99));
        drop(arena);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn without_addresses_there_is_no_place() {
        assert_eq!(Arena::<Value>::new(usize::MAX).place(), None);
        assert_eq!(Arena::<Value>::new(1 << 50).place(), None);
    }
}
