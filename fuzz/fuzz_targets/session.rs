//! See `crossfade_fuzz::session`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| crossfade_fuzz::session(bytes));
