//! The pure middle: no clock, no randomness, no I/O, no async. Time is an argument.

pub mod record;
pub mod table;
