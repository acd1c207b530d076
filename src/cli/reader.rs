//! Reading the database for the commands: a session, the names of topics and lanes, and pages of rows.

use seriatim::{
    config::{Config, Need},
    core::{
        catalog::Catalog,
        record::LaneId,
        table::{Key, Row, Table, Type, Value, Want},
    },
    failure::unreachable,
    shop,
    store::Session,
};

use super::{arguments::Settings, run::open, shown};

/// Rows in one page of a scan.
const PAGE_ROWS: usize = 500;

/// A session with the configured database, and what this worker knows.
pub struct Reader {
    pub session: Box<dyn Session>,
    pub catalog: Catalog,
}

impl Reader {
    /// Opens the configured database. One that is behind this release, or ahead, is refused with what to do.
    pub async fn open(settings: &Settings) -> anyhow::Result<Self> {
        let config = Config::load(&settings.sources(), Need::Nothing)?;
        let store = open(&config).await?;
        let session = store.session().await.map_err(unreachable)?;
        let catalog = shop::catalog(&shop::Settings::from(&config.saga), &config.topics.prefix);
        Ok(Self { session, catalog })
    }

    /// The whole name of a topic that may be named without its prefix.
    pub fn topic(&self, name: &str) -> String {
        if self.catalog.home_topics().any(|topic| topic == name) { name.to_owned() } else { self.catalog.topic(name) }
    }

    /// The lane of a topic that may be named without its prefix.
    pub fn lane(&self, topic: &str, partition: i32) -> anyhow::Result<LaneId> {
        let lane = LaneId { topic: self.topic(topic), partition };
        if !self.catalog.home_topics().any(|topic| topic == lane.topic) {
            let known: Vec<&str> = self.catalog.home_topics().collect();
            anyhow::bail!("{} is no home topic; known are {}", lane.topic, known.join(", "));
        }
        Ok(lane)
    }

    /// The partition count in force of a topic; none if no worker has ever started on this database.
    pub async fn partitions(&mut self, topic: &str) -> anyhow::Result<Option<i32>> {
        let rows = self.keyed(&shown::TOPIC, vec![Value::text(topic)]).await?;
        let count = rows.first().and_then(|row| shown::number(&shown::TOPIC, row, "partitions"));
        Ok(count.and_then(|count| i32::try_from(count).ok()))
    }

    /// The rows whose key begins with this one. Only for those that are few.
    pub async fn keyed(&mut self, table: &'static Table, key: Key) -> anyhow::Result<Vec<Row>> {
        self.load(table, Want::Keys(vec![key])).await
    }

    /// At most `limit` rows whose key begins with `prefix`, in key order, after a whole key.
    pub async fn scan(
        &mut self,
        table: &'static Table,
        prefix: &Key,
        after: Option<Key>,
        limit: usize,
    ) -> anyhow::Result<Vec<Row>> {
        self.load(table, Want::Scan { prefix: prefix.clone(), after, limit }).await
    }

    async fn load(&mut self, table: &'static Table, want: Want) -> anyhow::Result<Vec<Row>> {
        let mut answer = self.session.load(&[(table, want)]).await.map_err(unreachable)?;
        Ok(answer.pop().unwrap_or_default())
    }

    /// At most `limit` rows that are wanted, of all whose key begins with `prefix`: memory is bounded, time is the table's.
    pub async fn filtered(
        &mut self,
        table: &'static Table,
        prefix: &Key,
        limit: usize,
        wanted: impl Fn(&Row) -> bool,
    ) -> anyhow::Result<Vec<Row>> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = self.scan(table, prefix, after, PAGE_ROWS).await?;
            let whole = page.len() < PAGE_ROWS;
            after = page.last().map(|row| row[..table.key].to_vec());
            found.extend(page.into_iter().filter(&wanted).take(limit - found.len()));
            if whole || found.len() == limit {
                return Ok(found);
            }
        }
    }

    /// The different texts in the key column behind `prefix`, one statement each, so that the rows between cost nothing.
    pub async fn distinct(&mut self, table: &'static Table, prefix: &Key, limit: usize) -> anyhow::Result<Vec<String>> {
        let mut found: Vec<String> = Vec::new();
        while found.len() < limit {
            // No text lies between one and the same with the smallest character behind it: NUL is refused everywhere.
            let after = found.last().map(|last| {
                let mut key = prefix.clone();
                key.push(Value::Text(format!("{last}\u{1}")));
                key.extend(table.columns[key.len()..table.key].iter().map(|column| smallest(column.kind)));
                key
            });
            match self.scan(table, prefix, after, 1).await?.pop() {
                Some(row) => match &row[prefix.len()] {
                    Value::Text(text) => found.push(text.clone()),
                    other => anyhow::bail!("{} holds {other:?} where a text is declared", table.name),
                },
                None => break,
            }
        }
        Ok(found)
    }
}

fn smallest(kind: Type) -> Value {
    match kind {
        Type::Int => Value::Int(i64::MIN),
        Type::Time => Value::Time(0),
        Type::Text | Type::Json | Type::Bytes => Value::text(""),
    }
}
