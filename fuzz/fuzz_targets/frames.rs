//! See `crossfade_fuzz::frames`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| crossfade_fuzz::frames(bytes));
