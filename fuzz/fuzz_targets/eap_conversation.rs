//! See `eap::fuzz::conversation`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| eap::fuzz::conversation(data));
