//! See `bus::fuzz::frame`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bus::fuzz::frame(data));
