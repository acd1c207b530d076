//! Laws of the core, tried on many histories: against a naive model, under any cut into batches, through
//! crashes before and after the commit; and what a batch costs, however many events it holds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "properties/bounds.rs"]
mod bounds;
#[path = "properties/checkouts.rs"]
mod checkouts;
#[path = "properties/costs.rs"]
mod costs;
#[path = "support/lane_world.rs"]
mod lane_world;
#[path = "properties/model.rs"]
mod model;
#[path = "properties/order.rs"]
mod order;
#[path = "properties/orders.rs"]
mod orders;
#[path = "properties/parking.rs"]
mod parking;
#[path = "support/tally.rs"]
mod tally;
#[path = "properties/told.rs"]
mod told;
#[path = "properties/trace.rs"]
mod trace;
