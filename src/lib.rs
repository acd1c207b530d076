//! Processes purchase and payment events from Kafka in order per entity, each exactly once, into SQL.
//!
//! The one shape: load what is needed, decide with a pure function, write everything in one
//! transaction, only then act outside. The modules stand in the order of that path.

pub mod config;
pub mod failpoint;
pub mod failure;
pub mod telemetry;

pub mod core;

pub mod broker;
pub mod kafka;
pub mod store;

pub mod memory;
pub mod postgres;
pub mod sqlite;

pub mod worker;

pub mod admin;
pub mod fsck;
pub mod shop;
pub mod simulation;
pub mod testing;
