-- The tables of the shipped worker. Each main table carries the runtime's three columns behind its own: the version
-- that every update compares, the home partition, and the marks of what has been taken from each source. Foreign keys
-- stay within one entity and are checked at commit, because the rows of a batch are written table by table.
create schema if not exists "shop";

-- How much of a sku is there, and how much of that is promised.
create table "shop"."stock" (
    "sku" text collate "C" not null,
    "on_hand" bigint not null,
    "reserved" bigint not null,
    "version" bigint not null,
    "partition" bigint not null,
    "marks" text collate "C" not null,
    primary key ("sku"),
    check ("reserved" between 0 and "on_hand")
) with (fillfactor = 80);

-- What one purchase holds of a sku. `released` also marks what never was, so that a late order is refused.
create table "shop"."reservation" (
    "sku" text collate "C" not null,
    "purchase_id" text collate "C" not null,
    "quantity" bigint not null,
    "status" text collate "C" not null,
    primary key ("sku", "purchase_id"),
    check ("quantity" >= 0),
    check ("status" in ('reserved', 'released', 'committed')),
    foreign key ("sku") references "shop"."stock" ("sku") deferrable initially deferred
) with (fillfactor = 80);

-- A purchase and what became of it.
create table "shop"."purchase" (
    "purchase_id" text collate "C" not null,
    "customer_id" text collate "C" not null,
    "status" text collate "C" not null,
    "reason" text collate "C",
    "total_minor" bigint not null,
    "currency" text collate "C" not null,
    "payment_method" text collate "C" not null,
    "version" bigint not null,
    "partition" bigint not null,
    "marks" text collate "C" not null,
    primary key ("purchase_id"),
    check ("status" in ('pending', 'completed', 'rejected')),
    check ("reason" in ('out_of_stock', 'payment_declined', 'cancelled', 'timeout')),
    check ("total_minor" >= 0)
) with (fillfactor = 80);

-- What was bought.
create table "shop"."purchase_line" (
    "purchase_id" text collate "C" not null,
    "sku" text collate "C" not null,
    "quantity" bigint not null,
    "unit_price_minor" bigint not null,
    primary key ("purchase_id", "sku"),
    check ("quantity" >= 1),
    check ("unit_price_minor" >= 0),
    foreign key ("purchase_id") references "shop"."purchase" ("purchase_id") deferrable initially deferred
);

-- The money of one purchase. The askers are who waits for an answer.
create table "shop"."payment" (
    "payment_id" text collate "C" not null,
    "purchase_id" text collate "C" not null,
    "amount_minor" bigint not null,
    "captured_minor" bigint not null,
    "refunded_minor" bigint not null,
    "currency" text collate "C" not null,
    "status" text collate "C" not null,
    "method" text collate "C" not null,
    "charge_asker" text collate "C",
    "refund_asker" text collate "C",
    "attempts" bigint not null,
    "version" bigint not null,
    "partition" bigint not null,
    "marks" text collate "C" not null,
    primary key ("payment_id"),
    check (0 <= "refunded_minor" and "refunded_minor" <= "captured_minor" and "captured_minor" <= "amount_minor"),
    check ("status" in ('requested', 'captured', 'declined', 'cancelled', 'refunding', 'refunded')),
    check ("attempts" >= 0)
) with (fillfactor = 80);

-- The last known address and password hash of a user.
create table "shop"."profile" (
    "user_id" text collate "C" not null,
    "email" text collate "C",
    "password_hash" text collate "C",
    "version" bigint not null,
    "partition" bigint not null,
    "marks" text collate "C" not null,
    primary key ("user_id")
) with (fillfactor = 80);

-- A sum.
create table "shop"."counter" (
    "counter" text collate "C" not null,
    "value" bigint not null,
    "version" bigint not null,
    "partition" bigint not null,
    "marks" text collate "C" not null,
    primary key ("counter")
) with (fillfactor = 80);
