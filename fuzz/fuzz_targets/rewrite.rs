//! See `crossfade_fuzz::rewrite`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| crossfade_fuzz::rewrite(bytes));
