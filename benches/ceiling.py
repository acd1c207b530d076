"""What the database alone can do: the same rows in the same tables, set-based, from arrays that lie ready in it.

No Kafka, no decoding, no decisions: pgbench sends a transaction a batch, which locks and moves its lane's row, writes
each account once, inserts a message an event and, where asked, an id or a journal row an event.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from services import Services, sql

BATCH = 1000
READY = 32
ENTITIES = 10_000

TABLES = """
insert into "bank"."account"
    select 'account-' || to_char(n, 'fm00000000'), 0, 0, 0, n % {lanes}, '{{"/bench":1}}' from generate_series(0, {entities} - 1) n;
insert into "seriatim"."lane" ("topic", "partition", "next_offset", "epoch", "token", "batch", "incarnation", "relayed_batch",
    "relayed_index", "owner") select 'accounts', n, 0, 1, 't', 0, 1, 0, 0, 'bench' from generate_series(0, {lanes} - 1) n;
create table ready (lane bigint, id bigint, accounts text[], moved bigint[], keys text[], sent bytea[], headers text[],
    primary key (lane, id));
insert into ready
    select lane, id, (select array_agg(distinct key order by key) from unnest(keys) key),
        (select array_agg(count order by key) from (select key, count(*) from unnest(keys) key group by key) folded),
        keys, (select array_agg(convert_to(rpad('{{"account":', 78, md5(key)), 'UTF8')) from unnest(keys) key),
        (select array_agg(rpad('[["ce_id",', 560, md5(key))) from unnest(keys) key)
    from (select lane, id, array(select 'account-' ||
            to_char((random() * ({entities} / {lanes} - 1))::bigint * {lanes} + lane, 'fm00000000')
            from generate_series(1, {batch}) where id >= 0) keys
        from generate_series(0, {lanes} - 1) lane, generate_series(0, {ready} - 1) id) made;
vacuum analyze;
"""

MOVE = """
\\set id random(0, {ready} - 1)
begin;
select * from "seriatim"."lane" where "topic" = 'accounts' and "partition" = :client_id::bigint for update;
update "seriatim"."lane" set "batch" = "batch" + 1, "next_offset" = "next_offset" + {batch}
    where "topic" = 'accounts' and "partition" = :client_id::bigint returning "batch" \\gset
update "bank"."account" a set "balance_minor" = a."balance_minor" + r.moved, "movements" = a."movements" + r.moved,
    "version" = a."version" + r.moved, "marks" = a."marks"
    from (select unnest(accounts) account, unnest(moved) moved from ready where lane = :client_id::bigint and id = :id::bigint) r
    where a."account" = r.account;
insert into "seriatim"."outbox" select 'accounts', :client_id::bigint, :batch::bigint, n, 'balances', n % 4, n, null, convert_to(key, 'UTF8'),
    e.value, e.headers from (select keys, sent, headers from ready where lane = :client_id::bigint and id = :id::bigint) r,
    unnest(r.keys, r.sent, r.headers) with ordinality as e(key, value, headers, n);
"""

SEEN = """
insert into "seriatim"."seen" select 'account', key, '/bench', '1-' || to_hex(:client_id::bigint) || '-' || to_hex(:batch::bigint * {batch} + n),
    '\\x00112233445566778899aabbccddeeff', now() from (select keys from ready where lane = :client_id::bigint and id = :id::bigint) r,
    unnest(r.keys) with ordinality as e(key, n);
"""

JOURNAL = """
insert into "seriatim"."journal" select 'account', key, '/bench', :batch::bigint * {batch} + n, :batch::bigint, n, :batch::bigint, 'applied',
    '1-' || to_hex(:batch::bigint * {batch} + n), 'account.moved', :batch::bigint, 'accounts', :client_id::bigint, :batch::bigint * {batch} + n, 1,
    '\\x00112233445566778899aabbccddeeff', null, now()
    from (select keys from ready where lane = :client_id::bigint and id = :id::bigint) r, unnest(r.keys) with ordinality as e(key, n);
"""


@dataclass(frozen=True)
class Ceiling:
    """One way of writing."""

    binary: Path
    ids: bool
    journaled: bool

    def script(self) -> str:
        parts = [MOVE, SEEN if self.ids else "", JOURNAL if self.journaled else "", "commit;\n"]
        return "".join(parts).format(batch=BATCH, ready=READY)

    def run(self, services: Services, seconds: float) -> dict[str, float]:
        """Events a second with one connection and with four."""
        return {f"connections_{lanes}": self.with_lanes(services, lanes, seconds) for lanes in (1, 4)}

    def with_lanes(self, services: Services, lanes: int, seconds: float) -> float:
        database = f"ceiling_{uuid.uuid4().hex[:8]}"
        url = services.database_url(database)
        sql(services.postgres, f"create database {database}")
        try:
            self.prepare(url, lanes)
            with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
                script.write(self.script())
                script.flush()
                how = ["-n", "-M", "prepared", "-f", script.name, "-c", str(lanes), "-T", f"{seconds:.0f}", url]
                done = subprocess.run(["pgbench", *how], capture_output=True, text=True, check=False)
            assert not done.returncode, done.stderr[-1000:]
            rate = re.search(r"tps = ([0-9.]+)", done.stdout)
            assert rate, done.stdout
            self.check(url)
            return float(rate[1]) * BATCH
        finally:
            sql(services.postgres, f"drop database {database} with (force)")

    def prepare(self, url: str, lanes: int) -> None:
        environment = {"SERIATIM_DATABASE__URL": url, "PATH": "/usr/bin:/bin"}
        made = subprocess.run([self.binary, "migrate", "sql"], env=environment, capture_output=True, text=True, check=True)
        account = (Path(__file__).parent / "accounts" / "account.sql").read_text()
        tables = TABLES.format(lanes=lanes, entities=ENTITIES, batch=BATCH, ready=READY)
        psql = ["psql", url, "-q", "-v", "ON_ERROR_STOP=1"]
        subprocess.run(psql, input=made.stdout + account + tables, text=True, check=True, stdout=subprocess.DEVNULL)

    def check(self, url: str) -> None:
        """What was counted was written."""
        batches = int(sql(url, 'select sum("batch") from "seriatim"."lane"'))
        for table in ["outbox", *(["seen"] if self.ids else []), *(["journal"] if self.journaled else [])]:
            rows = int(sql(url, f'select count(*) from "seriatim"."{table}"'))
            assert rows == batches * BATCH, f"{table}: {rows} rows of {batches} batches"
        moved = int(sql(url, 'select sum("movements") from "bank"."account"'))
        assert moved == batches * BATCH, f"{moved} movements of {batches} batches"
