-- What leaves a lane, written in the transaction that decided it: messages, dead letters with their bytes, and the
-- journal of what became of each event. Outbox and journal are only inserted into, at the end of each lane's range:
-- they have their primary keys and nothing else, since every further index would be paid for with each event.

-- How many messages a lane has sent to a partition.
create table "seriatim"."link_out" (
    "topic" text collate "C" not null,
    "partition" bigint not null,
    "to_topic" text collate "C" not null,
    "to_partition" bigint not null,
    "sent" bigint not null,
    "digest" bytea,
    primary key ("topic", "partition", "to_topic", "to_partition"),
    check ("sent" >= 0)
) with (fillfactor = 80);

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
    primary key ("topic", "partition", "batch", "idx")
);

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
    primary key ("kind", "entity_id", "source", "number", "batch", "idx"),
    check ("outcome" in ('applied', 'refused', 'skipped'))
);

-- Records that cannot be processed, with their bytes.
create table "seriatim"."dead_letter" (
    "topic" text collate "C" not null,
    "partition" bigint not null,
    "record_offset" bigint not null,
    "status" text collate "C" not null,
    "reason" text collate "C" not null,
    "error" text collate "C" not null,
    "kind" text collate "C",
    "entity_id" text collate "C",
    "source" text collate "C",
    "sequence" bigint,
    "timestamp_ms" bigint not null,
    "key" bytea,
    "value" bytea,
    "headers" text collate "C" not null,
    "attempts" bigint not null,
    "count" bigint not null,
    "first_failed_at" timestamptz not null,
    "failed_at" timestamptz not null,
    primary key ("topic", "partition", "record_offset"),
    check ("status" in ('replayable', 'replayed', 'discarded')),
    check ("reason" in ('undecodable', 'invalid', 'unknown_type', 'wrong_partition', 'conflict', 'too_old',
        'sequence_gap', 'poison', 'expired', 'operator'))
);
