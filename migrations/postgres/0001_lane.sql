-- A lane is one partition of a home topic and the single writer of its entities. Its row is the fence: every
-- transaction locks it first and compares what it finds with what it remembers, so an owner that was overtaken
-- writes nothing. The row changes with every batch; half of each page is left free so that it is changed in place.

-- One row a lane. `relayed_*` is how far its messages are acknowledged, `last_*` the last record read.
create table "seriatim"."lane" (
    "topic" text collate "C" not null,
    "partition" bigint not null,
    "next_offset" bigint not null,
    "epoch" bigint not null,
    "token" text collate "C" not null,
    "batch" bigint not null,
    "owner" text collate "C" not null,
    "incarnation" bigint not null,
    "last_offset" bigint,
    "last_timestamp_ms" bigint,
    "last_digest" bytea,
    "relayed_batch" bigint not null,
    "relayed_index" bigint not null,
    primary key ("topic", "partition"),
    check ("next_offset" >= 0),
    check ("epoch" >= 0),
    check ("batch" >= 0),
    check ("incarnation" >= 1),
    check (("last_offset" is null) = ("last_digest" is null)),
    check (("last_offset" is null) = ("last_timestamp_ms" is null))
) with (fillfactor = 50);

-- The partition count in force for a topic: it decides which lane owns an entity, so it never changes by itself.
create table "seriatim"."topic" (
    "name" text collate "C" not null,
    "partitions" bigint not null,
    primary key ("name"),
    check ("partitions" > 0)
);

-- Tells one database from another: offsets that another store has committed to the broker are not ours to trust.
create table "seriatim"."store" (
    "one" boolean not null primary key default true check ("one"),
    "identity" text collate "C" not null
);

insert into "seriatim"."store" ("identity") values (gen_random_uuid()::text);
