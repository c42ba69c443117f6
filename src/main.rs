//! Crossfade.
fn main() {}
