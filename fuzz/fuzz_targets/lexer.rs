//! See `crossfade_fuzz::lexer`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| crossfade_fuzz::lexer(bytes));
