//! The contender: a worker on this library whose one kind does what the textbook's consumer does. Each movement of an
//! account changes its balance and sends one message.
//!
//!     accounts journaled      each event leaves a journal row
//!     accounts unjournaled    none does
//!     accounts unjudged       none does, and repeats and disorder are not looked for: what that costs is the difference.
//!                             Only in a build with the feature `faults`
//!
//! Configured by the environment, as every worker is. It makes its tables by itself.

use anyhow::bail;
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

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

seriatim::table! {
    /// An account.
    main Account in "bank"."account" {
        /// Its number.
        key account: String;
        /// The sum of all movements, in the currency's minor unit.
        balance_minor: i64,
        /// How many there were.
        movements: i64,
    }
}

/// Money that came or went.
struct Moved {
    amount_minor: i64,
}

/// The kind, with a journal or without.
struct Accounts<const JOURNALED: bool>;

impl<const JOURNALED: bool> Entity for Accounts<JOURNALED> {
    const KIND: &'static str = "account";
    const TOPIC: &'static str = "accounts";
    const KEY_FIELD: &'static str = "account";
    const EVENTS: &'static [EventType] = &[EventType { name: "account.moved", nature: Nature::Fact }];
    const JOURNALED: bool = JOURNALED;
    type Main = Account;
    type Event = Moved;

    fn parse(_: &str, data: &serde_json::Value) -> Result<Moved, Invalid> {
        let amount = data["amount_minor"].as_i64();
        let amount_minor = amount.ok_or_else(|| Invalid::new("amount_minor", "is missing or not an integer"))?;
        Ok(Moved { amount_minor })
    }

    fn decide(&self, rows: &mut Rows<'_>, event: &Moved, effects: &mut Effects) -> Result<(), Objection> {
        let account = rows.entity_id().to_owned();
        let (balance, movements) = rows.main::<Account>().map_or((0, 0), |row| (row.balance_minor, row.movements));
        let Some(balance_minor) = balance.checked_add(event.amount_minor) else {
            return Err(Objection::Contradiction("the balance would leave int64".to_owned()));
        };
        let movements = movements + 1;
        let data = json!({ "account": account, "balance_minor": balance_minor, "movements": movements });
        effects.send("balances", &account, "account.balance", data);
        rows.put(Account { account, balance_minor, movements });
        Ok(())
    }
}

const SCHEMA: Schema =
    Schema { scripts: &[Script { version: 1001, name: "account", sql: include_str!("account.sql") }], kinds: &[] };

fn main() -> anyhow::Result<()> {
    let kind = std::env::args().nth(1).unwrap_or_default();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    #[cfg(feature = "faults")]
    if kind == "unjudged" {
        use seriatim::core::sabotage::{Safeguard, take_away};
        runtime.on_thread_start(|| take_away(Some(Safeguard::Judgement)));
    }
    runtime.enable_all().build()?.block_on(run(&kind))
}

async fn run(kind: &str) -> anyhow::Result<()> {
    let config = Config::load(&Sources::default(), Need::Kafka)?;
    let catalog = Catalog::new(&config.topics.prefix).destination("balances", false);
    let catalog = match kind {
        "journaled" => catalog.kind(Accounts::<true>),
        "unjournaled" => catalog.kind(Accounts::<false>),
        "unjudged" if cfg!(feature = "faults") => catalog.kind(Accounts::<false>),
        _ => bail!("say journaled or unjournaled"),
    };
    open::migrate(&config.database, &SCHEMA).await?;
    let store = open::open(&config.database, &SCHEMA).await?;
    worker::run(&config, catalog, Environment::new(store), async {
        let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
        match &mut terminated {
            Ok(terminated) => _ = terminated.recv().await,
            Err(_) => std::future::pending().await,
        }
    })
    .await
}
