-- A saga lives with the entity whose home lane runs it, so its rows are written with that lane's batch. `state` is
-- the whole instance; the other columns and `saga_step` are told from it for readers. `debt` is what is still to be
-- undone outside of a saga: it stays until it is done or an operator has settled it.

-- One row an instance.
create table "seriatim"."saga" (
    "definition" text collate "C" not null,
    "saga_id" text collate "C" not null,
    "definition_version" bigint not null,
    "status" text collate "C" not null,
    "step" text collate "C" not null,
    "reason" text collate "C",
    "state" jsonb not null,
    "topic" text collate "C" not null,
    "partition" bigint not null,
    "begun_at" timestamptz not null,
    "updated_at" timestamptz not null,
    primary key ("definition", "saga_id"),
    check ("status" in ('running', 'compensating', 'completed', 'compensated', 'needs_operator'))
) with (fillfactor = 80);

-- One row a step and branch.
create table "seriatim"."saga_step" (
    "definition" text collate "C" not null,
    "saga_id" text collate "C" not null,
    "step" text collate "C" not null,
    "branch" text collate "C" not null,
    "status" text collate "C" not null,
    "attempts" bigint not null,
    "undo_attempts" bigint not null,
    "sent_at" timestamptz,
    "answered_at" timestamptz,
    primary key ("definition", "saga_id", "step", "branch"),
    check ("attempts" >= 0),
    check ("undo_attempts" >= 0)
) with (fillfactor = 80);

-- One row a thing that is still to be undone.
create table "seriatim"."debt" (
    "kind" text collate "C" not null,
    "entity_id" text collate "C" not null,
    "what" text collate "C" not null,
    "amount_minor" bigint not null,
    "currency" text collate "C" not null,
    "status" text collate "C" not null,
    "since" timestamptz not null,
    primary key ("kind", "entity_id", "what"),
    check ("status" in ('owed', 'needs_operator')),
    check ("amount_minor" >= 0)
);
