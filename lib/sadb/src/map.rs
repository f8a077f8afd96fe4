//! The one place that maps memory. Everything above works on references to atomics.

use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};

use crate::Error;

/// A type that may lie in memory which another process writes.
///
/// # Safety
/// The implementor is `repr(C)`, consists of atomic integers only (so that every bit pattern is valid and concurrent access is
/// defined), has no padding that matters and no destructor.
pub(crate) unsafe trait Shared: Sized {}

// SAFETY: an atomic integer.
unsafe impl Shared for std::sync::atomic::AtomicU64 {}
// SAFETY: an atomic integer.
unsafe impl Shared for std::sync::atomic::AtomicU8 {}

/// May this mapping be written?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Loads only; a store would fault.
    Read,
    /// Loads and stores.
    ReadWrite,
}

/// A mapped file or memfd; unmapped on drop. Whoever holds one with [`Access::Read`] offers no method that stores.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    length: NonZeroUsize,
    _owns: PhantomData<u8>,
}

// SAFETY: the mapping is plain memory, reached only through atomics or, in `bytes_at`, under the caller's protocol.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `length` bytes of `file`, which must be at least that long and must not shrink later (seals, or files that are
    /// only ever replaced).
    pub(crate) fn new(file: impl AsFd, length: usize, access: Access) -> Result<Self, Error> {
        let size = nix::sys::stat::fstat(file.as_fd())
            .map_err(|e| Error::system("inspect a shared segment", e))?
            .st_size;
        let size = usize::try_from(size).unwrap_or(0);
        let length = NonZeroUsize::new(length)
            .filter(|l| l.get() <= size)
            .ok_or(Error::Layout {
                field: "size",
                found: size as u64,
                expected: length as u64,
            })?;
        let protection = match access {
            Access::Read => ProtFlags::PROT_READ,
            Access::ReadWrite => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        };
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, file, 0) }
            .map_err(|e| Error::system("map a shared segment", e))?;
        Ok(Self {
            base: base.cast(),
            length,
            _owns: PhantomData,
        })
    }

    /// Keeps the mapping out of core dumps.
    pub(crate) fn keep_out_of_core_dumps(&self) -> Result<(), Error> {
        // SAFETY: the range is exactly our own mapping, and MADV_DONTDUMP does not change its contents.
        unsafe { madvise(self.base.cast(), self.length.get(), MmapAdvise::MADV_DONTDUMP) }
            .map_err(|e| Error::system("keep a shared segment out of core dumps", e))
    }

    /// Gives whole pages back to the kernel; they read as zeros from then on. Writable mappings only.
    pub(crate) fn give_back(&self, offset: usize, length: usize) -> Result<(), Error> {
        let (Some(end), Some(length)) = (offset.checked_add(length), NonZeroUsize::new(length)) else {
            return Ok(());
        };
        if end > self.length.get() {
            return Ok(());
        }
        // SAFETY: the range is inside our own mapping by the check above. Its contents become zeros, which every type of `Shared` may hold; whoever reads
        // them meanwhile reads atomics.
        unsafe {
            madvise(
                self.base.add(offset).cast(),
                length.get(),
                MmapAdvise::MADV_REMOVE,
            )
        }
        .map_err(|e| Error::system("give back pages of a shared segment", e))
    }

    /// `count` values at byte `offset`; empty when they do not lie wholly inside the mapping or are not aligned.
    pub(crate) fn slice<T: Shared>(&self, offset: usize, count: usize) -> &[T] {
        let end = size_of::<T>()
            .checked_mul(count)
            .and_then(|bytes| bytes.checked_add(offset));
        if end.is_none_or(|end| end > self.length.get()) || !offset.is_multiple_of(align_of::<T>()) {
            return &[];
        }
        // SAFETY: in range by the check above; aligned because mmap aligns to pages and `offset` to T; valid for any bits and for
        // concurrent writers by the contract of `Shared`; alive as long as `self`.
        unsafe { std::slice::from_raw_parts(self.base.add(offset).cast().as_ptr(), count) }
    }

    /// One value at byte `offset`, `None` as for [`Mapping::slice`].
    pub(crate) fn value<T: Shared>(&self, offset: usize) -> Option<&T> {
        self.slice(offset, 1).first()
    }

    /// Copies bytes out of the mapping. False, and nothing copied, when they do not lie wholly inside.
    ///
    /// By the ring's protocol nobody writes them now. A process that broke it could make the copy garbage, no more: bytes have no invalid
    /// values, and callers check what they read.
    pub(crate) fn copy_out(&self, offset: usize, to: &mut [u8]) -> bool {
        if offset
            .checked_add(to.len())
            .is_none_or(|end| end > self.length.get())
        {
            return false;
        }
        // SAFETY: the source is inside the mapping by the check above, the destination is a live slice of ours, and a mapping never
        // overlaps a Rust object. Bytes have no invalid values.
        unsafe { std::ptr::copy_nonoverlapping(self.base.add(offset).as_ptr(), to.as_mut_ptr(), to.len()) };
        true
    }

    /// Copies bytes into the mapping, which must be writable and, by the caller's protocol, not read by anyone now. False, and nothing
    /// copied, when they do not lie wholly inside.
    pub(crate) fn copy_in(&self, offset: usize, from: &[u8]) -> bool {
        if offset
            .checked_add(from.len())
            .is_none_or(|end| end > self.length.get())
        {
            return false;
        }
        // SAFETY: as in `copy_out`, the other way; only the ring's producer calls this, on its read-write mapping, for bytes that the
        // consumer does not touch before they are published.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), self.base.add(offset).as_ptr(), from.len()) };
        true
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and every reference into it borrows `self`. Failing to unmap leaks it, no more.
        let _ = unsafe { munmap(self.base.cast(), self.length.get()) };
    }
}

/// Bytes that the processor fetches at once.
const CACHE_LINE: usize = 64;

/// Asks the processor to fetch all of `value`, which will be needed a few packets from now. Nothing of it is read.
pub fn prefetch<T>(value: &T) {
    prefetch_front(value, size_of::<T>());
}

/// Likewise, only the line in which it begins.
pub fn prefetch_line<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch has no effect but on the cache, for any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast::<i8>()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Likewise, only the first `bytes` of it.
pub fn prefetch_front<T>(value: &T, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = std::ptr::from_ref(value).cast::<i8>();
        // Known at compile time of what is aligned: no loop is left then.
        let before = if align_of::<T>() >= CACHE_LINE {
            0
        } else {
            first.addr() % CACHE_LINE
        };
        for offset in (0..bytes + before).step_by(CACHE_LINE) {
            // SAFETY: a prefetch has no effect but on the cache, for any address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(first.wrapping_sub(before).wrapping_add(offset)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (value, bytes);
}
