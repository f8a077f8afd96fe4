//! See `radius::fuzz::packet`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| radius::fuzz::packet(data));
