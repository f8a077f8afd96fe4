//! See `esp::fuzz::inbound`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| esp::fuzz::inbound(data));
