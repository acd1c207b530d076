-- What only grows is kept for a time and forgotten by whole ranges of it: a range is a partition, and dropping one
-- leaves no dead rows behind, however many it held. `at` stands behind the keys because a partitioned table asks for
-- it there; rows are looked up by what stands before it. The worker makes the partitions ahead and drops the old ones.
-- There is no default partition: each new one would read it from end to end under a lock that stops the lanes, and
-- rows in it could only be deleted one by one. Each name ends with the second before which its rows are.

alter table "seriatim"."seen" rename to "seen_before";
alter table "seriatim"."seen_before" rename constraint "seen_pkey" to "seen_before_pkey";
alter table "seriatim"."passed" rename to "passed_before";
alter table "seriatim"."passed_before" rename constraint "passed_pkey" to "passed_before_pkey";
alter table "seriatim"."journal" rename to "journal_before";
alter table "seriatim"."journal_before" rename constraint "journal_pkey" to "journal_before_pkey";
alter table "seriatim"."command_log" rename to "command_log_before";
alter table "seriatim"."command_log_before" rename constraint "command_log_pkey" to "command_log_before_pkey";

-- Ids of unsequenced events.
create table "seriatim"."seen" (
    "kind" text collate "C" not null,
    "entity_id" text collate "C" not null,
    "source" text collate "C" not null,
    "event_id" text collate "C" not null,
    "digest" bytea not null,
    "at" timestamptz not null,
    primary key ("kind", "entity_id", "source", "event_id", "at")
) partition by range ("at");

-- Numbers that went past their entity without a journal row: dead letters and what waits.
create table "seriatim"."passed" (
    "kind" text collate "C" not null,
    "entity_id" text collate "C" not null,
    "source" text collate "C" not null,
    "sequence" bigint not null,
    "digest" bytea,
    "at" timestamptz not null,
    primary key ("kind", "entity_id", "source", "sequence", "at")
) partition by range ("at");

-- One row an applied, refused or skipped event.
create table "seriatim"."journal" (
    "kind" text collate "C" not null,
    "entity_id" text collate "C" not null,
    "source" text collate "C" not null,
    "number" bigint not null,
    "batch" bigint not null,
    "idx" bigint not null,
    "version" bigint,
    "outcome" text collate "C" not null,
    "event_id" text collate "C" not null,
    "event_type" text collate "C" not null,
    "sequence" bigint,
    "topic" text collate "C" not null,
    "partition" bigint not null,
    "record_offset" bigint not null,
    "epoch" bigint not null,
    "digest" bytea,
    "note" text collate "C",
    "at" timestamptz not null,
    primary key ("kind", "entity_id", "source", "number", "batch", "idx", "at"),
    check ("outcome" in ('applied', 'refused', 'skipped'))
) partition by range ("at");

-- What became of operators' orders.
create table "seriatim"."command_log" (
    "topic" text collate "C" not null,
    "partition" bigint not null,
    "id" text collate "C" not null,
    "action" text collate "C" not null,
    "kind" text collate "C",
    "entity_id" text collate "C",
    "argument" text collate "C" not null,
    "actor" text collate "C" not null,
    "reason" text collate "C",
    "ordered_at" timestamptz not null,
    "done_at" timestamptz not null,
    "done" bigint not null,
    "result" text collate "C" not null,
    primary key ("topic", "partition", "id", "done_at"),
    check ("done" in (0, 1))
) partition by range ("done_at");

-- The first range takes all that is there. It ends soon, so that the worker's own lengths hold from then on.
do $$
declare
    until_second bigint := extract(epoch from date_trunc('day', now(), 'UTC') + interval '2 days');
    timed text;
begin
    foreach timed in array array['seen', 'passed', 'journal', 'command_log'] loop
        execute format('create table seriatim.%I partition of seriatim.%I for values from (minvalue) to (%L)',
            timed || '_until_' || until_second, timed, to_timestamp(until_second));
    end loop;
end $$;

insert into "seriatim"."seen" ("kind", "entity_id", "source", "event_id", "digest", "at")
    select "kind", "entity_id", "source", "event_id", "digest", "at" from "seriatim"."seen_before";
insert into "seriatim"."passed" select * from "seriatim"."passed_before";
insert into "seriatim"."journal" select * from "seriatim"."journal_before";
insert into "seriatim"."command_log" select * from "seriatim"."command_log_before";
drop table "seriatim"."seen_before", "seriatim"."passed_before", "seriatim"."journal_before",
    "seriatim"."command_log_before";

-- A letter that is settled goes when its timer says so.
alter table "seriatim"."timer" drop constraint "timer_purpose_check";
alter table "seriatim"."timer" add constraint "timer_purpose_check"
    check ("purpose" in ('entity', 'saga', 'gap', 'waiting', 'letter'));
