//! How far the log is flushed, here and on the standby that would take over.
//!
//! A commit that was answered is flushed here, and so is what another session can see: both lie below the place up to
//! which all is flushed. A wait for a synchronous standby that an operator has cut short is answered like any other
//! commit. Therefore the standby's own word is asked for, never the fact that COMMIT has returned.

use super::connection::{Arguments, Open, cell};
use crate::store::{Error, Replicated, Standby};

/// Of synchronous standbys as many count as the server waits for; of those with one name all, and one that has flushed
/// nothing yet counts as nothing.
const ASK: &str = "select pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint, \
     pg_wal_lsn_diff(case when $1 is null then (select r.\"flush_lsn\" from pg_stat_replication r \
     where r.\"sync_state\" in ('sync', 'quorum') and r.\"flush_lsn\" is not null order by r.\"flush_lsn\" desc \
     offset coalesce(substring(current_setting('synchronous_standby_names') from '(\\d+)\\s*\\(')::int, 1) - 1 limit 1) \
     else (select case when count(*) = count(r.\"flush_lsn\") then min(r.\"flush_lsn\") end \
     from pg_stat_replication r where r.\"application_name\" = $1) end, '0/0')::bigint, \
     current_setting('synchronous_standby_names'), pg_has_role(current_user, 'pg_read_all_stats', 'usage')";

/// Asks. A role that may not see the standbys would wait for ever: then it is said what it lacks.
pub(super) async fn replicated(open: &mut Open, standby: &Standby) -> Result<Replicated, Error> {
    if open.timeline == 0 {
        // It may have been promoted since; a new connection learns its timeline.
        return Err(Error::Retry("the server was a standby when it was connected to".to_owned()));
    }
    let mut arguments = Arguments::default();
    arguments.add(match standby {
        Standby::Synchronous => None,
        Standby::Named(name) => Some(name.as_str()),
    })?;
    let rows = open.rows("asking how far the standby is", &[], ASK, arguments).await?;
    let row = rows.first().ok_or_else(|| Error::Retry("the database does not say how far it is".to_owned()))?;
    if !cell::<bool>(row, 3)? {
        let lacks = "the role of this worker may not see pg_stat_replication: grant it pg_read_all_stats or pg_monitor";
        return Err(Error::Stop(lacks.to_owned()));
    }
    Ok(Replicated { committed: cell(row, 0)?, flushed: cell(row, 1)?, waits_for: cell(row, 2)? })
}
