-- The outbox in four slots, each written for ten seconds in turn. A message lives for a moment only: a slot whose
-- messages all have arrived is truncated, so none is deleted row by row, nothing has to be vacuumed behind them, and a
-- transaction that somebody leaves open keeps none of them on the disk. Which slot a message stands in means nothing;
-- `slot` stands behind the key because a partitioned table asks for it there.

alter table "seriatim"."outbox" rename to "outbox_before";
alter table "seriatim"."outbox_before" rename constraint "outbox_pkey" to "outbox_before_pkey";

-- Messages, in the order in which they are sent. `link_sequence` is null for dead letters.
create table "seriatim"."outbox" (
    "topic" text collate "C" not null,
    "partition" bigint not null,
    "batch" bigint not null,
    "idx" bigint not null,
    "to_topic" text collate "C" not null,
    "to_partition" bigint not null,
    "link_sequence" bigint,
    "timestamp_ms" bigint,
    "key" bytea,
    "value" bytea,
    "headers" text collate "C" not null,
    "slot" bigint not null default (mod(date_part('epoch', now())::bigint / 10, 4)),
    primary key ("topic", "partition", "batch", "idx", "slot")
) partition by list ("slot");

create table "seriatim"."outbox_0" partition of "seriatim"."outbox" for values in (0);
create table "seriatim"."outbox_1" partition of "seriatim"."outbox" for values in (1);
create table "seriatim"."outbox_2" partition of "seriatim"."outbox" for values in (2);
create table "seriatim"."outbox_3" partition of "seriatim"."outbox" for values in (3);

insert into "seriatim"."outbox" ("topic", "partition", "batch", "idx", "to_topic", "to_partition", "link_sequence",
    "timestamp_ms", "key", "value", "headers")
    select "topic", "partition", "batch", "idx", "to_topic", "to_partition", "link_sequence", "timestamp_ms", "key",
    "value", "headers" from "seriatim"."outbox_before";
drop table "seriatim"."outbox_before";
