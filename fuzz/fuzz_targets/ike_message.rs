//! See `ikev2::fuzz::message`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ikev2::fuzz::message(data));
