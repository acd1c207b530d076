-- The tables of the shipped worker. Each main table carries the runtime's three columns behind its own: the version
-- that every update compares, the home partition, and the marks of what has been taken from each source. Foreign keys
-- stay within one entity and are checked at commit, because the rows of a batch are written table by table.

-- How much of a sku is there, and how much of that is promised.
create table "shop_stock" (
    "sku" text not null,
    "on_hand" integer not null,
    "reserved" integer not null,
    "version" integer not null,
    "partition" integer not null,
    "marks" text not null,
    primary key ("sku"),
    check ("reserved" between 0 and "on_hand")
) strict;

-- What one purchase holds of a sku. `released` also marks what never was, so that a late order is refused.
create table "shop_reservation" (
    "sku" text not null,
    "purchase_id" text not null,
    "quantity" integer not null,
    "status" text not null,
    primary key ("sku", "purchase_id"),
    check ("quantity" >= 0),
    check ("status" in ('reserved', 'released', 'committed')),
    foreign key ("sku") references "shop_stock" ("sku") deferrable initially deferred
) strict;

-- A purchase and what became of it.
create table "shop_purchase" (
    "purchase_id" text not null,
    "customer_id" text not null,
    "status" text not null,
    "reason" text,
    "total_minor" integer not null,
    "currency" text not null,
    "payment_method" text not null,
    "version" integer not null,
    "partition" integer not null,
    "marks" text not null,
    primary key ("purchase_id"),
    check ("status" in ('pending', 'completed', 'rejected')),
    check ("reason" in ('out_of_stock', 'payment_declined', 'cancelled', 'timeout')),
    check ("total_minor" >= 0)
) strict;

-- What was bought.
create table "shop_purchase_line" (
    "purchase_id" text not null,
    "sku" text not null,
    "quantity" integer not null,
    "unit_price_minor" integer not null,
    primary key ("purchase_id", "sku"),
    check ("quantity" >= 1),
    check ("unit_price_minor" >= 0),
    foreign key ("purchase_id") references "shop_purchase" ("purchase_id") deferrable initially deferred
) strict;

-- The money of one purchase. The askers are who waits for an answer.
create table "shop_payment" (
    "payment_id" text not null,
    "purchase_id" text not null,
    "amount_minor" integer not null,
    "captured_minor" integer not null,
    "refunded_minor" integer not null,
    "currency" text not null,
    "status" text not null,
    "method" text not null,
    "charge_asker" text,
    "refund_asker" text,
    "attempts" integer not null,
    "version" integer not null,
    "partition" integer not null,
    "marks" text not null,
    primary key ("payment_id"),
    check (0 <= "refunded_minor" and "refunded_minor" <= "captured_minor" and "captured_minor" <= "amount_minor"),
    check ("status" in ('requested', 'captured', 'declined', 'cancelled', 'refunding', 'refunded')),
    check ("attempts" >= 0)
) strict;

-- The last known address and password hash of a user.
create table "shop_profile" (
    "user_id" text not null,
    "email" text,
    "password_hash" text,
    "version" integer not null,
    "partition" integer not null,
    "marks" text not null,
    primary key ("user_id")
) strict;

-- A sum.
create table "shop_counter" (
    "counter" text not null,
    "value" integer not null,
    "version" integer not null,
    "partition" integer not null,
    "marks" text not null,
    primary key ("counter")
) strict;
