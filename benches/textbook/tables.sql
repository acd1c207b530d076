-- What a consumer of the textbook keeps: ids that it has processed, its accounts, and messages to be sent.
create table processed (
    id text not null primary key,
    at timestamptz not null default now()
);
create table account (
    account text not null primary key,
    balance_minor bigint not null,
    movements bigint not null
);
create table outbox (
    id bigserial primary key,
    topic text not null,
    key text not null,
    value bytea not null
);
