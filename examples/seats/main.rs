//! A team's own worker: seats of a theatre, each booked once, however many ask at the same time.
//!
//! All that a team writes is here: one kind with its events, rows and decision, its table, and a main. Nobody
//! writes SQL statements, offsets, retries or locks. Run it against a broker that has the topics `seats`,
//! `dlq.seats` and `bookings`:
//!
//! ```sh
//! SERIATIM_KAFKA__BROKERS=127.0.0.1:29092 SERIATIM_DATABASE__URL=sqlite:seats.db cargo run --example seats
//! ```

use serde_json::json;
use seriatim::{
    config::{Config, Need, Sources},
    core::{
        catalog::Catalog,
        effect::{Effects, Objection},
        kind::{Entity, EventType, Invalid, Nature},
        rows::Rows,
    },
    store::{
        open,
        schema::{Schema, Script},
    },
    worker::{self, Environment},
};

seriatim::table! {
    /// Who has a seat.
    main Seat in "theatre"."seat" {
        /// Its row and number.
        key seat: String;
        /// By whom it is booked.
        guest: String,
    }
}

/// Someone asks for a seat.
struct Booked {
    guest: String,
}

/// The kind.
struct Seats;

impl Entity for Seats {
    const KIND: &'static str = "seat";
    const TOPIC: &'static str = "seats";
    const KEY_FIELD: &'static str = "seat";
    const EVENTS: &'static [EventType] = &[EventType { name: "seat.booked", nature: Nature::Request }];
    type Main = Seat;
    type Event = Booked;

    fn parse(_: &str, data: &serde_json::Value) -> Result<Booked, Invalid> {
        let guest = data["guest"].as_str().ok_or_else(|| Invalid::new("guest", "is missing or not a string"))?;
        Ok(Booked { guest: guest.to_owned() })
    }

    fn decide(&self, rows: &mut Rows<'_>, event: &Booked, effects: &mut Effects) -> Result<(), Objection> {
        if rows.main::<Seat>().is_some() {
            return Err(Objection::Refused("the seat is taken".to_owned()));
        }
        let seat = rows.entity_id().to_owned();
        effects.send("bookings", &seat, "booking.confirmed", json!({ "seat": seat, "guest": event.guest }));
        rows.put(Seat { seat, guest: event.guest.clone() });
        Ok(())
    }
}

const SCHEMA: &[Script] = &[Script { version: 1001, name: "seat", sql: include_str!("1001_seat.sqlite.sql") }];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::load(&Sources::default(), Need::Kafka)?;
    let schema = Schema { scripts: SCHEMA, kinds: &[] };
    open::migrate(&config.database, &schema).await?;
    let store = open::open(&config.database, &schema).await?;
    let catalog = Catalog::new("").kind(Seats).destination("bookings", true);
    worker::run(&config, catalog, Environment::new(store), async {
        // Without a terminal there is no Ctrl-C to wait for: then it runs until it is killed, which is safe.
        let _interrupted = tokio::signal::ctrl_c().await;
    })
    .await
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use seriatim::testing::given;

    use super::{Seat, Seats};

    #[test]
    fn a_seat_is_booked_once() {
        given(Seats)
            .row(Seat { seat: "A1".to_owned(), guest: "Ada".to_owned() })
            .when("seat.booked", json!({"seat": "A1", "guest": "Bob"}))
            .then_refused();
    }
}
