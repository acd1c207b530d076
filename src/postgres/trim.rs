//! Empties the outbox by whole slots.
//!
//! A message goes into the slot of its moment, and slots take turns (see the migration). One that is not written at the
//! time is locked, looked through, and truncated; the few messages in it that somebody still needs are first copied
//! into the slot of now, named as such: never into the one that is emptied, whatever the clock says by then. Which slot
//! a message stands in means nothing, so a lane that writes into a slot for longer than its turn does no harm: its
//! transaction holds the slot, and what it has written is seen under the lock.

use super::{
    connection::{Arguments, Open, cell},
    sql, turn,
};
use crate::store::Error;

/// The slot of now, as the default of its column says, and which slots hold anything.
const STANDING: &str = "select mod(date_part('epoch', now())::bigint / 10, 4), \
     array[exists (select 1 from \"seriatim\".\"outbox_0\"), exists (select 1 from \"seriatim\".\"outbox_1\"), \
     exists (select 1 from \"seriatim\".\"outbox_2\"), exists (select 1 from \"seriatim\".\"outbox_3\")]";

// Every lock is held until the end of the transaction. Whoever reads the slot just now is not waited for: everybody else
// would have to wait behind. The settings let a whole slot be read as such, which no other statement may do.
const LOCK: &str = "set local enable_seqscan = on; set local enable_hashjoin = on; \
     lock table \"seriatim\".\"outbox_{slot}\" in access exclusive mode nowait";

// A message is needed until its lane's row says that the brokers have acknowledged it; and while its receiver is a
// lane of this store, claimed yet or not, whose mark has not reached its number. A topic is one of this store's if it is
// registered here, as every worker does with its home topics before it claims the first lane.
const FROM: &str = "from \"seriatim\".\"outbox_{slot}\" o \
     left join \"seriatim\".\"lane\" l on l.\"topic\" = o.\"topic\" and l.\"partition\" = o.\"partition\" \
     left join \"seriatim\".\"link_in\" i on i.\"topic\" = o.\"to_topic\" and i.\"partition\" = o.\"to_partition\" \
     and i.\"from_topic\" = o.\"topic\" and i.\"from_partition\" = o.\"partition\" \
     left join \"seriatim\".\"topic\" h on h.\"name\" = o.\"to_topic\"";
const NEEDED: &str = "(l.\"topic\" is null or (o.\"batch\", o.\"idx\") > (l.\"relayed_batch\", l.\"relayed_index\") or \
     (o.\"link_sequence\" is not null and case when i.\"mark\" is null then h.\"name\" is not null \
     else i.\"mark\" < o.\"link_sequence\" end))";

const COPY: &str = "insert into \"seriatim\".\"outbox\" (\"topic\", \"partition\", \"batch\", \"idx\", \"to_topic\", \
     \"to_partition\", \"link_sequence\", \"timestamp_ms\", \"key\", \"value\", \"headers\", \"slot\") select o.\"topic\", \
     o.\"partition\", o.\"batch\", o.\"idx\", o.\"to_topic\", o.\"to_partition\", o.\"link_sequence\", \
     o.\"timestamp_ms\", o.\"key\", o.\"value\", o.\"headers\", {now}";

/// Empties every slot but that of now, if no more than `copied_max` of its messages are needed. How many went.
pub(super) async fn trim_outbox(open: &mut Open, copied_max: i64) -> Result<u64, Error> {
    if !turn::take(open).await? {
        return Ok(0);
    }
    let standing = open.rows("looking at the outbox", &[], STANDING, Arguments::default()).await?;
    let standing = standing.first().ok_or_else(|| Error::Stop("the database shows no clock".to_owned()))?;
    let (now, holds): (i64, Vec<bool>) = (cell(standing, 0)?, cell(standing, 1)?);
    let mut gone = 0;
    for (slot, _) in (0..).zip(holds).filter(|(slot, holds)| *holds && *slot != now) {
        gone += trim_slot(open, slot, now, copied_max).await?;
    }
    turn::end(open).await?;
    Ok(gone)
}

/// What is needed of a slot goes into that of `now`.
async fn trim_slot(open: &mut Open, slot: i64, now: i64, copied_max: i64) -> Result<u64, Error> {
    let of_slot = |text: &str| text.replace("{slot}", &slot.to_string()).replace("{now}", &now.to_string());
    let doing = format!("emptying slot {slot} of the outbox");
    open.begin().await?;
    open.run(&doing, of_slot(LOCK)).await?;
    let count = of_slot(&format!("select count(*), count(*) filter (where {NEEDED}) {FROM}"));
    let counted = open.rows(&doing, &[], sql::vouch(count), Arguments::default()).await?;
    let counted = counted.first().ok_or_else(|| Error::Stop("the database counts no rows".to_owned()))?;
    let (all, needed) = (cell::<i64>(counted, 0)?, cell::<i64>(counted, 1)?);
    if needed > copied_max {
        open.rollback().await?;
        return Ok(0);
    }
    if needed > 0 {
        open.run(&doing, of_slot(&format!("{COPY} {FROM} where {NEEDED}"))).await?;
    }
    open.run(&doing, of_slot("truncate \"seriatim\".\"outbox_{slot}\"")).await?;
    open.commit().await?;
    Ok(u64::try_from(all - needed).unwrap_or(0))
}
