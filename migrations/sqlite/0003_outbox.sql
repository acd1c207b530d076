-- What leaves a lane, written in the transaction that decided it: messages, dead letters with their bytes, and the
-- journal of what became of each event. Outbox and journal are only inserted into, at the end of each lane's range:
-- they have their primary keys and nothing else, since every further index would be paid for with each event.

-- How many messages a lane has sent to a partition.
create table "seriatim_link_out" (
    "topic" text not null,
    "partition" integer not null,
    "to_topic" text not null,
    "to_partition" integer not null,
    "sent" integer not null,
    "digest" blob,
    primary key ("topic", "partition", "to_topic", "to_partition"),
    check ("sent" >= 0)
) strict;

-- Messages, in the order in which they are sent. `link_sequence` is null for dead letters.
create table "seriatim_outbox" (
    "topic" text not null,
    "partition" integer not null,
    "batch" integer not null,
    "idx" integer not null,
    "to_topic" text not null,
    "to_partition" integer not null,
    "link_sequence" integer,
    "timestamp_ms" integer,
    "key" blob,
    "value" blob,
    "headers" text not null,
    primary key ("topic", "partition", "batch", "idx")
) strict;

-- One row an applied, refused or skipped event.
create table "seriatim_journal" (
    "kind" text not null,
    "entity_id" text not null,
    "source" text not null,
    "number" integer not null,
    "batch" integer not null,
    "idx" integer not null,
    "version" integer,
    "outcome" text not null,
    "event_id" text not null,
    "event_type" text not null,
    "sequence" integer,
    "topic" text not null,
    "partition" integer not null,
    "record_offset" integer not null,
    "epoch" integer not null,
    "digest" blob,
    "note" text,
    "at" integer not null,
    primary key ("kind", "entity_id", "source", "number", "batch", "idx"),
    check ("outcome" in ('applied', 'refused', 'skipped'))
) strict;

-- Records that cannot be processed, with their bytes.
create table "seriatim_dead_letter" (
    "topic" text not null,
    "partition" integer not null,
    "record_offset" integer not null,
    "status" text not null,
    "reason" text not null,
    "error" text not null,
    "kind" text,
    "entity_id" text,
    "source" text,
    "sequence" integer,
    "timestamp_ms" integer not null,
    "key" blob,
    "value" blob,
    "headers" text not null,
    "attempts" integer not null,
    "count" integer not null,
    "first_failed_at" integer not null,
    "failed_at" integer not null,
    primary key ("topic", "partition", "record_offset"),
    check ("status" in ('replayable', 'replayed', 'discarded')),
    check ("reason" in ('undecodable', 'invalid', 'unknown_type', 'wrong_partition', 'conflict', 'too_old',
        'sequence_gap', 'poison', 'expired', 'operator'))
) strict;
