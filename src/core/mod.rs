//! The pure middle: no clock, no randomness, no I/O, no async. Time is an argument.
//!
//! First what travels and what is kept, then the path in its order: decode, dedupe, reorder, handle.

pub mod catalog;
pub mod effect;
pub mod event;
pub mod explore;
pub mod fence;
pub mod header;
pub mod kind;
pub mod ledger;
pub mod limits;
pub mod link;
mod lookup;
pub mod marks;
pub mod message;
pub mod partition;
pub mod record;
pub mod rows;
pub mod sabotage;
pub mod saga;
pub mod state;
pub mod table;

pub mod backlog;
pub mod batch;
pub mod lane;

pub mod decode;
mod dedupe;
mod reorder;
mod wait;

mod apply;
mod emit;
mod handle;
mod letter;

mod fire;
pub mod obey;
mod quarantine;
