//! See `pki::fuzz::file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pki::fuzz::file(data));
