//! Memory that the kernel and another life of this process write too.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::Error;

/// A shared mapping of a descriptor; unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    length: NonZeroUsize,
}

// SAFETY: plain memory, reached through atomics or, in `bytes_mut`, under the caller's promise.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `length` octets of a descriptor from `offset` on, present from the beginning.
    pub(crate) fn new(what: impl AsFd, offset: libc::off_t, length: usize) -> Result<Self, Error> {
        let length = NonZeroUsize::new(length).ok_or(Error::Invalid {
            what: "length of a mapping",
            expected: "above 0",
        })?;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe {
            mmap(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE,
                what,
                offset,
            )
        };
        let base = base.map_err(|e| Error::system("map memory that is shared with the kernel", e))?;
        Ok(Self {
            base: base.cast(),
            length,
        })
    }

    /// Where it is, for the kernel.
    pub(crate) fn address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// The words from octet `offset` on; none when they do not lie wholly inside.
    pub(crate) fn words(&self, offset: usize, count: usize) -> &[AtomicU64] {
        if !self.has(offset, count * size_of::<u64>()) || !offset.is_multiple_of(align_of::<AtomicU64>()) {
            return &[];
        }
        // SAFETY: inside by the check, aligned by the check and because mmap aligns to pages, valid for any bits, alive as long as `self`; an atomic may be
        // written by others meanwhile.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset).cast(), count) }
    }

    /// The half word at octet `offset`.
    pub(crate) fn half(&self, offset: usize) -> Option<&AtomicU32> {
        if !self.has(offset, size_of::<u32>()) || !offset.is_multiple_of(align_of::<AtomicU32>()) {
            return None;
        }
        // SAFETY: as in `words`.
        Some(unsafe { &*self.base.as_ptr().add(offset).cast() })
    }

    /// The octets from `offset` on; none when they do not lie wholly inside.
    pub(crate) fn octets(&self, offset: usize, count: usize) -> &[AtomicU8] {
        if !self.has(offset, count) {
            return &[];
        }
        // SAFETY: as in `words`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset).cast(), count) }
    }

    /// Octets, to read and write.
    ///
    /// # Safety
    /// Nobody else, neither the kernel nor this process, reads or writes them as long as the slice lives.
    #[expect(
        clippy::mut_from_ref,
        reason = "disjoint parts of one mapping, which the caller vouches for"
    )]
    pub(crate) unsafe fn bytes_mut(&self, offset: usize, length: usize) -> Option<&mut [u8]> {
        if !self.has(offset, length) {
            return None;
        }
        // SAFETY: inside by the check, alive as long as `self`, and nobody else's by the caller's promise.
        Some(unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(offset), length) })
    }

    fn has(&self, offset: usize, length: usize) -> bool {
        offset
            .checked_add(length)
            .is_some_and(|end| end <= self.length.get())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly our own mapping; every reference into it has ended with `self`.
        let _ = unsafe { munmap(self.base.cast(), self.length.get()) };
    }
}
