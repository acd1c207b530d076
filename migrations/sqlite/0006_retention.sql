-- What only grows is kept for a time: rows go in the order in which they came, which is that of their rowids, so that
-- no table needs a further index for it. Ids of unsequenced events need no range in front of their key for that.

alter table "seriatim_seen" rename to "seriatim_seen_before";

-- Ids of unsequenced events.
create table "seriatim_seen" (
    "kind" text not null,
    "entity_id" text not null,
    "source" text not null,
    "event_id" text not null,
    "digest" blob not null,
    "at" integer not null,
    primary key ("kind", "entity_id", "source", "event_id")
) strict;

insert into "seriatim_seen" ("kind", "entity_id", "source", "event_id", "digest", "at")
    select "kind", "entity_id", "source", "event_id", "digest", "at" from "seriatim_seen_before" order by "at";
drop table "seriatim_seen_before";

alter table "seriatim_timer" rename to "seriatim_timer_before";

-- What is to happen at `due`; the key begins with the lane and the time, so that due ones are the first rows. A letter
-- that is settled goes when its timer says so.
create table "seriatim_timer" (
    "topic" text not null,
    "partition" integer not null,
    "due" integer not null,
    "purpose" text not null,
    "kind" text not null,
    "entity_id" text not null,
    "name" text not null,
    "time" integer not null,
    primary key ("topic", "partition", "due", "purpose", "kind", "entity_id", "name"),
    check ("purpose" in ('entity', 'saga', 'gap', 'waiting', 'letter'))
) strict;

insert into "seriatim_timer" select * from "seriatim_timer_before";
drop table "seriatim_timer_before";
