-- The accounts that are moved.
create table account (
    account text not null primary key,
    balance_minor bigint not null,
    movements bigint not null
);
