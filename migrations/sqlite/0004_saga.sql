-- A saga lives with the entity whose home lane runs it, so its rows are written with that lane's batch. `state` is
-- the whole instance; the other columns and `saga_step` are told from it for readers. `debt` is what is still to be
-- undone outside of a saga: it stays until it is done or an operator has settled it.

-- One row an instance.
create table "seriatim_saga" (
    "definition" text not null,
    "saga_id" text not null,
    "definition_version" integer not null,
    "status" text not null,
    "step" text not null,
    "reason" text,
    "state" text not null,
    "topic" text not null,
    "partition" integer not null,
    "begun_at" integer not null,
    "updated_at" integer not null,
    check (json_valid("state")),
    primary key ("definition", "saga_id"),
    check ("status" in ('running', 'compensating', 'completed', 'compensated', 'needs_operator'))
) strict;

-- One row a step and branch.
create table "seriatim_saga_step" (
    "definition" text not null,
    "saga_id" text not null,
    "step" text not null,
    "branch" text not null,
    "status" text not null,
    "attempts" integer not null,
    "undo_attempts" integer not null,
    "sent_at" integer,
    "answered_at" integer,
    primary key ("definition", "saga_id", "step", "branch"),
    check ("attempts" >= 0),
    check ("undo_attempts" >= 0)
) strict;

-- One row a thing that is still to be undone.
create table "seriatim_debt" (
    "kind" text not null,
    "entity_id" text not null,
    "what" text not null,
    "amount_minor" integer not null,
    "currency" text not null,
    "status" text not null,
    "since" integer not null,
    primary key ("kind", "entity_id", "what"),
    check ("status" in ('owed', 'needs_operator')),
    check ("amount_minor" >= 0)
) strict;
