//! What nobody needs any more, a bounded number of rows at a time.

use super::{
    connection::{Arguments, Open, cell},
    sql::{Statements, Verb},
};
use crate::{
    core::{ledger, table::Table},
    store::{Error, Forgotten, Kept, merge},
};

/// How many rows are looked at for each that may be deleted: what a slow lane still needs is passed over, but
/// not without end.
const LOOKED_AT_PER_TRIMMED: i64 = 16;

const MARKS: &str = "select \"topic\", \"partition\", \"relayed_batch\", \"relayed_index\" from \"seriatim_lane\" \
     order by \"topic\", \"partition\"";

// A message is needed until the brokers have acknowledged it; and while its receiver is a lane of this store, claimed yet
// or not, whose mark has not reached its number. A topic is one of this store's if it is registered here, as every worker
// does with its home topics before it claims the first lane.
const TRIM_OUTBOX: &str = "delete from \"seriatim_outbox\" where \"topic\" = ?1 and \"partition\" = ?2 \
     and (\"batch\", \"idx\") in ( \
     select w.\"batch\", w.\"idx\" from ( \
     select \"batch\", \"idx\", \"to_topic\", \"to_partition\", \"link_sequence\" from \"seriatim_outbox\" \
     where \"topic\" = ?1 and \"partition\" = ?2 and (\"batch\", \"idx\") <= (?3, ?4) \
     order by \"batch\", \"idx\" limit ?6) w \
     left join \"seriatim_link_in\" i on i.\"topic\" = w.\"to_topic\" and i.\"partition\" = w.\"to_partition\" \
     and i.\"from_topic\" = ?1 and i.\"from_partition\" = ?2 \
     where w.\"link_sequence\" is null or i.\"mark\" >= w.\"link_sequence\" or (i.\"mark\" is null and not exists \
     (select 1 from \"seriatim_topic\" h where h.\"name\" = w.\"to_topic\")) \
     order by w.\"batch\", w.\"idx\" limit ?5)";

/// Deletes what lies below every mark, lane after lane.
pub(super) async fn trim_outbox(open: &mut Open, rows_max: i64) -> Result<u64, Error> {
    let mut gone = 0;
    for lane in open.rows("reading lanes' marks", None, MARKS, Arguments::default()).await? {
        let left = rows_max.saturating_sub(i64::try_from(gone).unwrap_or(i64::MAX));
        if left <= 0 {
            break;
        }
        let mut arguments = Arguments::default();
        arguments.add(cell::<String>(&lane, 0)?)?;
        for place in 1..4 {
            arguments.add(cell::<i64>(&lane, place)?)?;
        }
        arguments.add(left)?;
        arguments.add(left.saturating_mul(LOOKED_AT_PER_TRIMMED))?;
        gone += open.change("trimming the outbox", Some(&ledger::OUTBOX), TRIM_OUTBOX, arguments).await?;
    }
    Ok(gone)
}

/// Deletes the first rows that came. They lie in the order of their rowids, so none that may stay is looked at twice;
/// where the clocks of two lanes differ a little, a row behind a younger one goes with the next time.
pub(super) async fn forget(
    open: &mut Open,
    statements: &mut Statements,
    table: &'static Table,
    kept: &Kept,
) -> Result<Forgotten, Error> {
    let mut arguments = Arguments::default();
    arguments.add(kept.since)?;
    arguments.add(kept.rows_max.max(0))?;
    let doing = format!("forgetting rows of {}", merge::name(table));
    let gone = open.change(&doing, Some(table), statements.text(table, Verb::Forget), arguments).await?;
    let full = i64::try_from(gone).is_ok_and(|gone| gone >= kept.rows_max);
    Ok(if full { Forgotten::Part } else { Forgotten::All })
}
