//! See `esp::fuzz::clear`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| esp::fuzz::clear(data));
