//! The polled outbox: takes the oldest rows under lock, sends them, deletes them.

use rdkafka::{
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use sqlx::{PgConnection, postgres::PgPool};

const ROWS_MAX: i64 = 1000;

/// Writes a message to be sent, in the transaction of what it tells.
pub async fn put(
    database: &mut PgConnection,
    topic: &str,
    key: &str,
    event: &str,
    data: &serde_json::Value,
) -> anyhow::Result<()> {
    let insert = "insert into outbox (topic, key, type, value) values ($1, $2, $3, $4)";
    let query = sqlx::query(insert).bind(topic).bind(key).bind(event).bind(data.to_string().into_bytes());
    query.execute(database).await?;
    Ok(())
}

/// One batch; gives how many were sent.
pub async fn step(producer: &FutureProducer, pool: &PgPool) -> anyhow::Result<usize> {
    let mut transaction = pool.begin().await?;
    let select = "select id, topic, key, type, value from outbox order by id limit $1 for update skip locked";
    let rows: Vec<(i64, String, String, String, Vec<u8>)> =
        sqlx::query_as(select).bind(ROWS_MAX).fetch_all(&mut *transaction).await?;
    let mut sent = Vec::with_capacity(rows.len());
    for (id, topic, key, event, value) in &rows {
        let id = id.to_string();
        let headers = OwnedHeaders::new()
            .insert(Header { key: "ce_specversion", value: Some("1.0") })
            .insert(Header { key: "ce_id", value: Some(&id) })
            .insert(Header { key: "ce_source", value: Some("/textbook") })
            .insert(Header { key: "ce_type", value: Some(event) });
        let record = FutureRecord::to(topic).key(key).payload(value).headers(headers);
        // Given to the client in the order of the table; the answers are awaited together.
        sent.push(producer.send_result(record).map_err(|(error, _)| error)?);
    }
    for answer in sent {
        answer.await?.map_err(|(error, _)| error)?;
    }
    let ids: Vec<i64> = rows.iter().map(|(id, ..)| *id).collect();
    sqlx::query("delete from outbox where id = any($1)").bind(ids).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(rows.len())
}
