-- What a lane keeps about records that it has read and not finished with, and what it must remember to know a
-- repeat. Every key begins with the lane or the entity that owns the row, so no row is ever written by two lanes.
-- `seen` is a hot table that only grows at its end: it has its primary key and nothing else.

-- How far a lane has taken the messages of another lane.
create table "seriatim_link_in" (
    "topic" text not null,
    "partition" integer not null,
    "from_topic" text not null,
    "from_partition" integer not null,
    "mark" integer not null,
    "digest" blob,
    primary key ("topic", "partition", "from_topic", "from_partition"),
    check ("mark" >= 0)
) strict;

-- The reorder buffer. A row with place 1 holds no record: it keeps the place of a dead letter.
create table "seriatim_held" (
    "topic" text not null,
    "partition" integer not null,
    "link" text not null,
    "kind" text not null,
    "entity_id" text not null,
    "source" text not null,
    "sequence" integer not null,
    "place" integer not null,
    "record_offset" integer,
    "timestamp_ms" integer,
    "key" blob,
    "value" blob,
    "headers" text,
    "digest" blob,
    "held_at" integer not null,
    primary key ("topic", "partition", "link", "kind", "entity_id", "source", "sequence"),
    check ("place" in (0, 1)),
    check ("place" = 1 or ("record_offset" is not null and "timestamp_ms" is not null and "headers" is not null))
) strict;

-- The entities that are unwell. Their parked rows stand at `first` up to before `next`.
create table "seriatim_quarantine" (
    "topic" text not null,
    "partition" integer not null,
    "kind" text not null,
    "entity_id" text not null,
    "status" text not null,
    "cause" text not null,
    "error" text not null,
    "attempts" integer not null,
    "first" integer not null,
    "next" integer not null,
    "since" integer not null,
    primary key ("topic", "partition", "kind", "entity_id"),
    check ("status" in ('quarantined', 'draining')),
    check ("cause" in ('failure', 'gap', 'contradiction')),
    check ("first" <= "next")
) strict;

-- What a quarantined entity has not taken yet, in order.
create table "seriatim_parked" (
    "topic" text not null,
    "partition" integer not null,
    "kind" text not null,
    "entity_id" text not null,
    "place" integer not null,
    "what" text not null,
    "name" text,
    "time" integer,
    "source" text,
    "sequence" integer,
    "record_offset" integer,
    "timestamp_ms" integer,
    "key" blob,
    "value" blob,
    "headers" text,
    "parked_at" integer not null,
    primary key ("topic", "partition", "kind", "entity_id", "place"),
    check ("what" in ('record', 'timer')),
    check ("what" = 'timer' or ("record_offset" is not null and "timestamp_ms" is not null and "headers" is not null)),
    check ("what" = 'record' or "name" is not null)
) strict;

-- Records whose saga or entity does not exist yet.
create table "seriatim_waiting" (
    "topic" text not null,
    "partition" integer not null,
    "kind" text not null,
    "entity_id" text not null,
    "record_offset" integer not null,
    "source" text not null,
    "sequence" integer,
    "timestamp_ms" integer not null,
    "key" blob,
    "value" blob,
    "headers" text not null,
    "waiting_since" integer not null,
    primary key ("topic", "partition", "kind", "entity_id", "record_offset")
) strict;

-- What is to happen at `due`; the key begins with the lane and the time, so that due ones are the first rows.
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
    check ("purpose" in ('entity', 'saga', 'gap', 'waiting'))
) strict;

-- Ids of unsequenced events. The oldest range is dropped whole.
create table "seriatim_seen" (
    "range" integer not null,
    "kind" text not null,
    "entity_id" text not null,
    "source" text not null,
    "event_id" text not null,
    "digest" blob not null,
    "at" integer not null,
    primary key ("range", "kind", "entity_id", "source", "event_id")
) strict;

-- Numbers that went past their entity without a journal row: dead letters and what waits.
create table "seriatim_passed" (
    "kind" text not null,
    "entity_id" text not null,
    "source" text not null,
    "sequence" integer not null,
    "digest" blob,
    "at" integer not null,
    primary key ("kind", "entity_id", "source", "sequence")
) strict;

-- Marks of entities that have no row of their own yet.
create table "seriatim_stray" (
    "kind" text not null,
    "entity_id" text not null,
    "marks" text not null,
    primary key ("kind", "entity_id")
) strict;
