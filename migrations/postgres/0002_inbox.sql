-- What a lane keeps about records that it has read and not finished with, and what it must remember to know a
-- repeat. Every key begins with the lane or the entity that owns the row, so no row is ever written by two lanes.
-- `seen` is a hot table that only grows at its end: it has its primary key and nothing else.

-- How far a lane has taken the messages of another lane.
create table "seriatim"."link_in" (
    "topic" text collate "C" not null,
    "partition" bigint not null,
    "from_topic" text collate "C" not null,
    "from_partition" bigint not null,
    "mark" bigint not null,
    "digest" bytea,
    primary key ("topic", "partition", "from_topic", "from_partition"),
    check ("mark" >= 0)
) with (fillfactor = 80);

-- The reorder buffer. A row with place 1 holds no record: it keeps the place of a dead letter.
create table "seriatim"."held" (
    "topic" text collate "C" not null,
    "partition" bigint not null,
    "link" text collate "C" not null,
    "kind" text collate "C" not null,
    "entity_id" text collate "C" not null,
    "source" text collate "C" not null,
    "sequence" bigint not null,
    "place" bigint not null,
    "record_offset" bigint,
    "timestamp_ms" bigint,
    "key" bytea,
    "value" bytea,
    "headers" text collate "C",
    "digest" bytea,
    "held_at" timestamptz not null,
    primary key ("topic", "partition", "link", "kind", "entity_id", "source", "sequence"),
    check ("place" in (0, 1)),
    check ("place" = 1 or ("record_offset" is not null and "timestamp_ms" is not null and "headers" is not null))
);

-- The entities that are unwell. Their parked rows stand at `first` up to before `next`.
create table "seriatim"."quarantine" (
    "topic" text collate "C" not null,
    "partition" bigint not null,
    "kind" text collate "C" not null,
    "entity_id" text collate "C" not null,
    "status" text collate "C" not null,
    "cause" text collate "C" not null,
    "error" text collate "C" not null,
    "attempts" bigint not null,
    "first" bigint not null,
    "next" bigint not null,
    "since" timestamptz not null,
    primary key ("topic", "partition", "kind", "entity_id"),
    check ("status" in ('quarantined', 'draining')),
    check ("cause" in ('failure', 'gap', 'contradiction')),
    check ("first" <= "next")
) with (fillfactor = 80);

-- What a quarantined entity has not taken yet, in order.
create table "seriatim"."parked" (
    "topic" text collate "C" not null,
    "partition" bigint not null,
    "kind" text collate "C" not null,
    "entity_id" text collate "C" not null,
    "place" bigint not null,
    "what" text collate "C" not null,
    "name" text collate "C",
    "time" timestamptz,
    "source" text collate "C",
    "sequence" bigint,
    "record_offset" bigint,
    "timestamp_ms" bigint,
    "key" bytea,
    "value" bytea,
    "headers" text collate "C",
    "parked_at" timestamptz not null,
    primary key ("topic", "partition", "kind", "entity_id", "place"),
    check ("what" in ('record', 'timer')),
    check ("what" = 'timer' or ("record_offset" is not null and "timestamp_ms" is not null and "headers" is not null)),
    check ("what" = 'record' or "name" is not null)
);

-- Records whose saga or entity does not exist yet.
create table "seriatim"."waiting" (
    "topic" text collate "C" not null,
    "partition" bigint not null,
    "kind" text collate "C" not null,
    "entity_id" text collate "C" not null,
    "record_offset" bigint not null,
    "source" text collate "C" not null,
    "sequence" bigint,
    "timestamp_ms" bigint not null,
    "key" bytea,
    "value" bytea,
    "headers" text collate "C" not null,
    "waiting_since" timestamptz not null,
    primary key ("topic", "partition", "kind", "entity_id", "record_offset")
);

-- What is to happen at `due`; the key begins with the lane and the time, so that due ones are the first rows.
create table "seriatim"."timer" (
    "topic" text collate "C" not null,
    "partition" bigint not null,
    "due" timestamptz not null,
    "purpose" text collate "C" not null,
    "kind" text collate "C" not null,
    "entity_id" text collate "C" not null,
    "name" text collate "C" not null,
    "time" timestamptz not null,
    primary key ("topic", "partition", "due", "purpose", "kind", "entity_id", "name"),
    check ("purpose" in ('entity', 'saga', 'gap', 'waiting'))
);

-- Ids of unsequenced events. The oldest range is dropped whole.
create table "seriatim"."seen" (
    "range" bigint not null,
    "kind" text collate "C" not null,
    "entity_id" text collate "C" not null,
    "source" text collate "C" not null,
    "event_id" text collate "C" not null,
    "digest" bytea not null,
    "at" timestamptz not null,
    primary key ("range", "kind", "entity_id", "source", "event_id")
);

-- Numbers that went past their entity without a journal row: dead letters and what waits.
create table "seriatim"."passed" (
    "kind" text collate "C" not null,
    "entity_id" text collate "C" not null,
    "source" text collate "C" not null,
    "sequence" bigint not null,
    "digest" bytea,
    "at" timestamptz not null,
    primary key ("kind", "entity_id", "source", "sequence")
);

-- Marks of entities that have no row of their own yet.
create table "seriatim"."stray" (
    "kind" text collate "C" not null,
    "entity_id" text collate "C" not null,
    "marks" text collate "C" not null,
    primary key ("kind", "entity_id")
) with (fillfactor = 80);
