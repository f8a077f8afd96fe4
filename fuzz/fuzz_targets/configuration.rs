//! See `config::fuzz::configuration`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| config::fuzz::configuration(data));
