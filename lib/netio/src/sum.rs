//! The sum behind Internet checksums (RFC 1071), with the widest vectors that the processor has.

/// Words summed side by side.
const LANES: usize = 16;
const BLOCK: usize = LANES * 4;
/// Below that nothing is gained by wide vectors.
const SHORT: usize = 2 * BLOCK;

/// The sum of the 32-bit words of `data` in the machine's byte order, the last one filled up with zeros. Does not overflow below 16 GiB.
pub fn sum_words(data: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if data.len() >= SHORT {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { with_avx512(data) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: likewise.
            return unsafe { with_avx2(data) };
        }
    }
    portable(data)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn with_avx512(data: &[u8]) -> u64 {
    use std::arch::x86_64::{
        _mm256_loadu_si256, _mm512_add_epi64, _mm512_cvtepu32_epi64, _mm512_reduce_add_epi64,
        _mm512_setzero_si512,
    };
    let (blocks, rest) = data.as_chunks::<BLOCK>();
    let (mut low, mut high) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    for block in blocks {
        let (first, second) = block.split_at(BLOCK / 2);
        // SAFETY: both are 32 bytes long, and need not be aligned.
        let (first, second) = unsafe {
            (
                _mm256_loadu_si256(first.as_ptr().cast()),
                _mm256_loadu_si256(second.as_ptr().cast()),
            )
        };
        low = _mm512_add_epi64(low, _mm512_cvtepu32_epi64(first));
        high = _mm512_add_epi64(high, _mm512_cvtepu32_epi64(second));
    }
    _mm512_reduce_add_epi64(_mm512_add_epi64(low, high)).cast_unsigned() + portable(rest)
}

/// The portable sum, for which the compiler uses the vectors.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2(data: &[u8]) -> u64 {
    portable(data)
}

#[inline(always)]
fn portable(data: &[u8]) -> u64 {
    let (blocks, rest) = data.as_chunks::<BLOCK>();
    let mut lanes = [0u64; LANES];
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks().0) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let (words, rest) = rest.as_chunks();
    let tail = words
        .iter()
        .map(|word| u64::from(u32::from_ne_bytes(*word)))
        .sum::<u64>();
    let mut last = [0; 4];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    lanes.iter().sum::<u64>() + tail + u64::from(u32::from_ne_bytes(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Word by word.
    fn reference(data: &[u8]) -> u64 {
        let word = |chunk: &[u8]| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from(u32::from_ne_bytes(word))
        };
        data.chunks(4).map(word).sum()
    }

    /// All that this processor can do.
    fn all(data: &[u8]) -> Vec<u64> {
        let mut sums = vec![sum_words(data), portable(data)];
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: it has AVX2.
                sums.push(unsafe { with_avx2(data) });
            }
            if std::arch::is_x86_feature_detected!("avx512f") {
                // SAFETY: it has AVX-512.
                sums.push(unsafe { with_avx512(data) });
            }
        }
        sums
    }

    #[test]
    fn the_largest_words_do_not_overflow() {
        let data = vec![0xff; 65_535];
        assert!(all(&data).iter().all(|sum| *sum == reference(&data)));
    }

    proptest! {
        #[test]
        fn every_way_gives_the_same(data in proptest::collection::vec(any::<u8>(), 0..2000), start in 0usize..70) {
            let data = data.get(start..).unwrap_or_default();
            for sum in all(data) {
                prop_assert_eq!(sum, reference(data));
            }
        }
    }
}
