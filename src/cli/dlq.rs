//! `dlq`: dead letters as they stand in the database, with their bytes, and the orders that close them.

use serde_json::{Value as Json, json};
use seriatim::{
    core::{
        header,
        ledger::{DEAD_LETTER, DeadLetter},
        obey::action,
        record::LaneId,
        table::{Key, Value},
    },
    failure::Exit,
};

use super::{
    arguments::{Change, Dlq, LetterName, Settings},
    block_on,
    order::{self, Order},
    print::{self, Output, Part},
    reader::Reader,
    shown,
};

/// Runs `dlq list`, `show`, `replay` or `discard`.
pub fn run(settings: &Settings, action: &Dlq) -> anyhow::Result<Exit> {
    block_on(async {
        let mut reader = Reader::open(settings).await?;
        match action {
            Dlq::List { topic, status, limit, reading } => {
                let prefix = topic.iter().map(|topic| Value::Text(reader.topic(topic))).collect();
                let wanted = status.map(|status| status.as_str());
                let limit = usize::try_from(limit.limit).unwrap_or(usize::MAX);
                let has_status =
                    |row: &_| wanted.is_none_or(|wanted| shown::text(&shown::LETTER, row, "status") == wanted);
                let rows = reader.filtered(&shown::LETTER, &prefix, limit, has_status).await?;
                let rows: Vec<Vec<Json>> = rows.iter().map(|row| shown::cells(&shown::LETTER, row)).collect();
                print::rows(reading.output, &shown::names(&shown::LETTER), &rows)?;
                Ok(Exit::Done)
            }
            Dlq::Show { name, reading } => show(&mut reader, name, reading.output).await,
            Dlq::Replay { name, change } => close(&mut reader, name, change, action::LETTER_REPLAY).await,
            Dlq::Discard { name, change } => close(&mut reader, name, change, action::LETTER_DISCARD).await,
        }
    })
}

fn key(lane: &LaneId, offset: i64) -> Key {
    vec![Value::text(&lane.topic), Value::Int(lane.partition.into()), Value::Int(offset)]
}

fn no_letter(lane: &LaneId, offset: i64) -> anyhow::Error {
    anyhow::anyhow!("there is no dead letter of {lane} offset {offset}")
}

async fn close(reader: &mut Reader, name: &LetterName, change: &Change, action: &'static str) -> anyhow::Result<Exit> {
    let lane = reader.lane(&name.topic, name.partition)?;
    let Some(row) = reader.keyed(&shown::LETTER, key(&lane, name.offset)).await?.pop() else {
        return Err(no_letter(&lane, name.offset));
    };
    let status = shown::text(&shown::LETTER, &row, "status");
    if status != "replayable" {
        anyhow::bail!("the dead letter of {lane} offset {} is {status} already", name.offset);
    }
    let order = Order { action, lane, entity: None, argument: json!({ "offset": name.offset }) };
    order::place(reader, &order, change).await
}

async fn show(reader: &mut Reader, name: &LetterName, output: Output) -> anyhow::Result<Exit> {
    let lane = LaneId { topic: reader.topic(&name.topic), partition: name.partition };
    let rows = reader.keyed(&DEAD_LETTER, key(&lane, name.offset)).await?;
    let Some(letter) = rows.first().and_then(|row| DeadLetter::read(row)) else {
        return Err(no_letter(&lane, name.offset));
    };
    let bytes = |bytes: Option<&[u8]>| bytes.map_or(Json::Null, shown::raw);
    let headers = header::from_text(&letter.headers);
    let headers = headers.iter().map(|(name, value)| vec![name.into(), bytes(value)]).collect();
    let parts = [
        ("topic", Part::Value(letter.topic.into())),
        ("partition", Part::Value(letter.partition.into())),
        ("offset", Part::Value(letter.record_offset.into())),
        ("timestamp_ms", Part::Value(letter.timestamp_ms.into())),
        ("status", Part::Value(letter.status.into())),
        ("reason", Part::Value(letter.reason.into())),
        ("error", Part::Value(letter.error.into())),
        ("kind", Part::Value(letter.kind.into())),
        ("entity_id", Part::Value(letter.entity_id.into())),
        ("source", Part::Value(letter.source.into())),
        ("sequence", Part::Value(letter.sequence.into())),
        ("attempts", Part::Value(letter.attempts.into())),
        ("count", Part::Value(letter.count.into())),
        ("first_failed_at", Part::Value(shown::time(letter.first_failed_at.0))),
        ("failed_at", Part::Value(shown::time(letter.failed_at.0))),
        ("key", Part::Value(bytes(letter.key.as_deref()))),
        ("value", Part::Value(bytes(letter.value.as_deref()))),
        ("headers", Part::Rows(vec!["name", "value"], headers)),
    ];
    print::document(output, &parts)?;
    Ok(Exit::Done)
}
