-- One row an account. Room for the changes of a row beside it, so that no index has to be touched.
create schema "bank";
create table "bank"."account" (
    "account" text collate "C" not null primary key,
    "balance_minor" bigint not null,
    "movements" bigint not null,
    "version" bigint not null,
    "partition" bigint not null,
    "marks" text collate "C" not null
) with (fillfactor = 50);
