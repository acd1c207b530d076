-- A lane is one partition of a home topic and the single writer of its entities. Its row is the fence: every
-- transaction locks it first and compares what it finds with what it remembers, so an owner that was overtaken
-- writes nothing.

-- One row a lane. `relayed_*` is how far its messages are acknowledged, `last_*` the last record read.
create table "seriatim_lane" (
    "topic" text not null,
    "partition" integer not null,
    "next_offset" integer not null,
    "epoch" integer not null,
    "token" text not null,
    "batch" integer not null,
    "owner" text not null,
    "incarnation" integer not null,
    "last_offset" integer,
    "last_timestamp_ms" integer,
    "last_digest" blob,
    "relayed_batch" integer not null,
    "relayed_index" integer not null,
    primary key ("topic", "partition"),
    check ("next_offset" >= 0),
    check ("epoch" >= 0),
    check ("batch" >= 0),
    check ("incarnation" >= 1),
    check (("last_offset" is null) = ("last_digest" is null)),
    check (("last_offset" is null) = ("last_timestamp_ms" is null))
) strict;

-- The partition count in force for a topic: it decides which lane owns an entity, so it never changes by itself.
create table "seriatim_topic" (
    "name" text not null,
    "partitions" integer not null,
    primary key ("name"),
    check ("partitions" > 0)
) strict;

-- Tells one database from another: offsets that another store has committed to the broker are not ours to trust.
create table "seriatim_store" (
    "one" integer not null primary key default 1 check ("one" = 1),
    "identity" text not null
) strict;

insert into "seriatim_store" ("identity") values (lower(hex(randomblob(16))));
