//! The clients against the client library's own mock cluster, which can be told to fail, and against a real
//! broker, which knows what the mock does not: the newer group protocol, transactions, topics' settings.

#![allow(clippy::unwrap_used, reason = "a failed call is a failed test")]

mod broken;
mod broker;
mod producing;
mod reading;
mod sharing;
mod support;
