//! See `ikev2::fuzz::record`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ikev2::fuzz::record(data));
