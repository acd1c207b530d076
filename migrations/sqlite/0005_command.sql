-- Operators change entities through the lane that owns them, so that there is never a second writer: an order is a
-- row here, picked up by the lane's owner, and its end is a row in the log, written with what it changed.

-- Orders that the lane has not picked up yet.
create table "seriatim_command" (
    "topic" text not null,
    "partition" integer not null,
    "id" text not null,
    "action" text not null,
    "kind" text,
    "entity_id" text,
    "argument" text not null,
    "actor" text not null,
    "reason" text,
    "ordered_at" integer not null,
    primary key ("topic", "partition", "id")
) strict;

-- What became of them.
create table "seriatim_command_log" (
    "topic" text not null,
    "partition" integer not null,
    "id" text not null,
    "action" text not null,
    "kind" text,
    "entity_id" text,
    "argument" text not null,
    "actor" text not null,
    "reason" text,
    "ordered_at" integer not null,
    "done_at" integer not null,
    "done" integer not null,
    "result" text not null,
    primary key ("topic", "partition", "id"),
    check ("done" in (0, 1))
) strict;
