//! Reading and writing fields of packets by offset, without panics. Network byte order.

/// The byte at `at`.
pub(crate) fn byte(data: &[u8], at: usize) -> Option<u8> {
    data.get(at).copied()
}

/// The 16-bit field at `at`.
pub(crate) fn word(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*data.get(at..)?.first_chunk()?))
}

/// The 32-bit field at `at`.
pub(crate) fn long(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*data.get(at..)?.first_chunk()?))
}

/// The 128-bit field at `at`.
pub(crate) fn quad(data: &[u8], at: usize) -> Option<u128> {
    Some(u128::from_be_bytes(*data.get(at..)?.first_chunk()?))
}

/// Overwrites what lies at `at`; `None` (and nothing is written) when that is not all inside.
pub(crate) fn put<const N: usize>(data: &mut [u8], at: usize, value: [u8; N]) -> Option<()> {
    *data.get_mut(at..)?.first_chunk_mut()? = value;
    Some(())
}
