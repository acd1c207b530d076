-- What every consumer of the textbook keeps: ids that it has processed, and messages to be sent.
create table processed (
    id text not null primary key,
    at timestamptz not null default now()
);
create table outbox (
    id bigserial primary key,
    topic text not null,
    key text not null,
    type text not null,
    value bytea not null
);
