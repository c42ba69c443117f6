//! The whole of Crossfade on a real PostgreSQL: the demo, kills, rollbacks, differences, bad input.

mod application;
mod bad_input;
mod common;
mod corpus;
mod demo;
mod differential;
mod null;
mod raw;
mod retype;
mod rollback;
