//! See `crossfade_fuzz::messages`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| crossfade_fuzz::messages(bytes));
