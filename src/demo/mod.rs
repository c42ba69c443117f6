//! The demo: an old application under load while its schema moves, and the proof that nothing was lost.

pub mod postgres;
