//! The benchmark's outside world: what producers send, and whether what came out of it is right.
//!
//!     load feed      writes a stream of movements as fast as the broker takes them
//!     load pace      writes it at a steady rate, and tells how long each took until it was seen
//!     load audit     compares the tables and the messages with what the stream says
//!     load shop      writes stock and purchases as fast as the broker takes them
//!     load gateway   answers what is asked of the payment gateway
//!     load settle    compares the shop's tables and outcomes with what was bought
//!
//! A stream follows from its shape and its seed; nobody has to keep it.

mod audit;
mod feed;
mod gateway;
mod pace;
mod shop;
mod stream;
mod whole;

use clap::Parser;

#[derive(Parser)]
enum Arguments {
    /// Writes a stream as fast as it goes.
    Feed(feed::Feed),
    /// Writes a stream at a steady rate and measures.
    Pace(pace::Pace),
    /// Compares tables and messages with the stream.
    Audit(audit::Audit),
    /// Writes stock and purchases.
    Shop(shop::Shop),
    /// Answers what is asked of the payment gateway, until it is killed.
    Gateway(gateway::Gateway),
    /// Compares the shop's tables and outcomes with what was bought.
    Settle(shop::Settle),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse() {
        Arguments::Feed(feed) => feed::run(&feed),
        Arguments::Pace(pace) => pace::run(pace).await,
        Arguments::Audit(audit) => audit::run(&audit).await,
        Arguments::Shop(shop) => shop::run(&shop),
        Arguments::Gateway(gateway) => gateway::run(&gateway),
        Arguments::Settle(settle) => shop::settle(&settle).await,
    }
}
