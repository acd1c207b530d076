-- Operators change entities through the lane that owns them, so that there is never a second writer: an order is a
-- row here, picked up by the lane's owner, and its end is a row in the log, written with what it changed.

-- Orders that the lane has not picked up yet.
create table "seriatim"."command" (
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
    primary key ("topic", "partition", "id")
);

-- What became of them.
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
    primary key ("topic", "partition", "id"),
    check ("done" in (0, 1))
);
