-- Who has which seat. Behind its own columns each main table carries the runtime's three.
create table "theatre_seat" (
    "seat" text not null primary key,
    "guest" text not null,
    "version" integer not null,
    "partition" integer not null,
    "marks" text not null
) without rowid;
