//! The pure middle: no clock, no randomness, no I/O, no async. Time is an argument.

pub mod fence;
pub mod header;
pub mod ledger;
pub mod message;
pub mod partition;
pub mod record;
pub mod table;
