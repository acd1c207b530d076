//! The pure middle: no clock, no randomness, no I/O, no async. Time is an argument.

pub mod catalog;
pub mod effect;
pub mod event;
pub mod explore;
pub mod fence;
pub mod header;
pub mod kind;
pub mod ledger;
pub mod marks;
pub mod message;
pub mod partition;
pub mod record;
pub mod rows;
pub mod saga;
pub mod state;
pub mod table;
