//! See `crossfade_fuzz::startup`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| crossfade_fuzz::startup(bytes));
