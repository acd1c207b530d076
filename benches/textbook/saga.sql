-- A shop as the textbook keeps it. The columns of purchase, stock and payment are those of the worker that it is
-- measured beside, without the runtime's.
create schema shop;
-- Where each checkout stands, and how many answers it waits for.
create table shop.saga (
    purchase_id text not null primary key,
    step text not null,
    waiting bigint not null,
    at timestamptz not null default now()
);
create table shop.purchase (
    purchase_id text not null primary key,
    customer_id text not null,
    status text not null,
    total_minor bigint not null,
    currency text not null,
    payment_method text not null
);
create table shop.purchase_line (
    purchase_id text not null references shop.purchase,
    sku text not null,
    quantity bigint not null,
    unit_price_minor bigint not null,
    primary key (purchase_id, sku)
);
create table shop.stock (
    sku text not null primary key,
    on_hand bigint not null,
    reserved bigint not null,
    check (reserved between 0 and on_hand)
);
create table shop.reservation (
    sku text not null references shop.stock,
    purchase_id text not null,
    quantity bigint not null,
    status text not null,
    primary key (sku, purchase_id)
);
create table shop.payment (
    payment_id text not null primary key,
    purchase_id text not null,
    amount_minor bigint not null,
    captured_minor bigint not null,
    refunded_minor bigint not null,
    currency text not null,
    status text not null,
    method text not null
);
