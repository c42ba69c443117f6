//! Crossfade: schema changes on a live PostgreSQL, with no downtime and no change to the application.
//!
//! The crate is a set of rooms (see `ARCHITECTURE.md`); each uses only those above it in this list. The first five
//! are pure: no sockets, no clock, no environment, no globals.

pub mod schema;

pub mod migration;

pub mod wire;

pub mod sql;

pub mod session;

pub mod catalog;

pub mod control;

pub mod admin;
pub mod backfill;
pub mod proxy;

pub mod app;
pub mod cli;
pub mod demo;
