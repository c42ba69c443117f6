//! The whole of Crossfade on a real PostgreSQL: the demo, kills, rollbacks, differences, metadata, bad input.

mod application;
mod bad_input;
mod catalog;
mod common;
mod corpus;
mod ddl;
mod demo;
mod differential;
mod functions;
mod majors;
mod modifiers;
mod newer;
mod null;
mod raw;
mod retype;
mod rollback;
