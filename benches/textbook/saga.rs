//! The checkout of a purchase as the textbook writes it: a row a saga that says where it stands, one transaction a
//! step, commands and answers through the outbox.
//!
//! The order is that of the worker beside it: reserve each line, charge, commit each line, completed. There is stock for
//! everything that is measured and the gateway says yes, so undoing is not written: a no ends the program.

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value as Json, json};
use sqlx::PgConnection;

use super::relay;

/// The topics that are read.
pub const HOMES: [&str; 3] = ["purchases", "stock", "payments"];

/// One record, in its transaction.
pub struct Step<'a> {
    /// The transaction.
    pub database: &'a mut PgConnection,
    /// Stands before the name of every topic.
    pub prefix: &'a str,
    /// What the record says.
    pub data: &'a Json,
}

impl<'a> Step<'a> {
    /// Does what a record of this type asks for.
    pub async fn run(&mut self, event: &str) -> anyhow::Result<()> {
        match event {
            "purchase.placed" => self.placed().await,
            "stock.reserved" => self.reserved().await,
            "payment.succeeded" => self.charged().await,
            "stock.committed" => self.committed().await,
            "stock.received" => self.receive().await,
            "stock.reserve" => self.reserve().await,
            "stock.commit" => self.commit().await,
            "payment.charge" => self.charge().await,
            "payment.captured" => self.captured().await,
            other => bail!("{other} is not part of what is measured"),
        }
    }

    async fn placed(&mut self) -> anyhow::Result<()> {
        let id = self.text("purchase_id")?;
        let data: &Json = self.data;
        let lines = data["lines"].as_array().context("lines are missing")?;
        let (mut skus, mut quantities, mut prices) = (Vec::new(), Vec::new(), Vec::new());
        for line in lines {
            skus.push(line["sku"].as_str().context("sku is missing")?);
            quantities.push(line["quantity"].as_i64().context("quantity is missing")?);
            prices.push(line["unit_price_minor"].as_i64().context("unit_price_minor is missing")?);
        }
        let total: i64 = quantities.iter().zip(&prices).map(|(quantity, price)| quantity * price).sum();
        let insert = "insert into shop.purchase values ($1, $2, 'pending', $3, $4, $5)";
        let purchase = sqlx::query(insert).bind(id).bind(self.text("customer_id")?).bind(total);
        let purchase = purchase.bind(self.text("currency")?).bind(self.text("payment_method")?);
        purchase.execute(&mut *self.database).await?;
        let insert = "insert into shop.purchase_line select $1, * from unnest($2::text[], $3::bigint[], $4::bigint[])";
        let query = sqlx::query(insert).bind(id).bind(&skus).bind(&quantities).bind(&prices);
        query.execute(&mut *self.database).await?;
        let insert = "insert into shop.saga (purchase_id, step, waiting) values ($1, 'reserve', $2)";
        sqlx::query(insert).bind(id).bind(i64::try_from(skus.len())?).execute(&mut *self.database).await?;
        for (sku, quantity) in skus.iter().zip(&quantities) {
            let data = json!({ "sku": sku, "purchase_id": id, "quantity": quantity });
            self.send("stock", sku, "stock.reserve", data).await?;
        }
        Ok(())
    }

    async fn reserved(&mut self) -> anyhow::Result<()> {
        let id = self.text("purchase_id")?;
        if !self.answered(id, "reserve").await? {
            return Ok(());
        }
        self.go_on(id, "charge", 1).await?;
        let select = "select total_minor, currency, payment_method from shop.purchase where purchase_id = $1";
        let (total, currency, method): (i64, String, String) =
            sqlx::query_as(select).bind(id).fetch_one(&mut *self.database).await?;
        let payment = format!("pay-{id}");
        let data = json!({
            "payment_id": payment,
            "purchase_id": id,
            "amount_minor": total,
            "currency": currency,
            "method": method,
        });
        self.send("payments", &payment, "payment.charge", data).await
    }

    async fn charged(&mut self) -> anyhow::Result<()> {
        let id = self.text("purchase_id")?;
        if !self.answered(id, "charge").await? {
            return Ok(());
        }
        let select = "select sku, quantity from shop.purchase_line where purchase_id = $1";
        let lines: Vec<(String, i64)> = sqlx::query_as(select).bind(id).fetch_all(&mut *self.database).await?;
        self.go_on(id, "confirm", i64::try_from(lines.len())?).await?;
        for (sku, quantity) in lines {
            let data = json!({ "sku": sku, "purchase_id": id, "quantity": quantity });
            self.send("stock", &sku, "stock.commit", data).await?;
        }
        Ok(())
    }

    async fn committed(&mut self) -> anyhow::Result<()> {
        let id = self.text("purchase_id")?;
        if !self.answered(id, "confirm").await? {
            return Ok(());
        }
        self.go_on(id, "completed", 0).await?;
        let update =
            "update shop.purchase set status = 'completed' where purchase_id = $1 returning total_minor, currency";
        let (total, currency): (i64, String) = sqlx::query_as(update).bind(id).fetch_one(&mut *self.database).await?;
        let data = json!({ "purchase_id": id, "total_minor": total, "currency": currency });
        self.send("purchase-outcomes", id, "purchase.completed", data).await
    }

    async fn receive(&mut self) -> anyhow::Result<()> {
        let insert =
            "insert into shop.stock values ($1, $2, 0) on conflict (sku) do update set on_hand = stock.on_hand + $2";
        let query = sqlx::query(insert).bind(self.text("sku")?).bind(self.number("quantity")?);
        query.execute(&mut *self.database).await?;
        Ok(())
    }

    async fn reserve(&mut self) -> anyhow::Result<()> {
        let (sku, id, quantity) = (self.text("sku")?, self.text("purchase_id")?, self.number("quantity")?);
        let select = "select on_hand - reserved from shop.stock where sku = $1 for update";
        let free: i64 = sqlx::query_scalar(select).bind(sku).fetch_one(&mut *self.database).await?;
        ensure!(free >= quantity, "{sku} is out of stock");
        let update = "update shop.stock set reserved = reserved + $2 where sku = $1";
        sqlx::query(update).bind(sku).bind(quantity).execute(&mut *self.database).await?;
        let insert = "insert into shop.reservation values ($1, $2, $3, 'reserved')";
        sqlx::query(insert).bind(sku).bind(id).bind(quantity).execute(&mut *self.database).await?;
        self.send("purchases", id, "stock.reserved", json!({ "sku": sku, "purchase_id": id })).await
    }

    async fn commit(&mut self) -> anyhow::Result<()> {
        let (sku, id) = (self.text("sku")?, self.text("purchase_id")?);
        let update = "update shop.reservation set status = 'committed' \
            where sku = $1 and purchase_id = $2 and status = 'reserved' returning quantity";
        let quantity: i64 = sqlx::query_scalar(update).bind(sku).bind(id).fetch_one(&mut *self.database).await?;
        let update = "update shop.stock set on_hand = on_hand - $2, reserved = reserved - $2 where sku = $1";
        sqlx::query(update).bind(sku).bind(quantity).execute(&mut *self.database).await?;
        self.send("purchases", id, "stock.committed", json!({ "sku": sku, "purchase_id": id })).await
    }

    async fn charge(&mut self) -> anyhow::Result<()> {
        let (payment, id) = (self.text("payment_id")?, self.text("purchase_id")?);
        let (currency, method) = (self.text("currency")?, self.text("method")?);
        let insert = "insert into shop.payment values ($1, $2, $3, 0, 0, $4, 'requested', $5)";
        let query = sqlx::query(insert).bind(payment).bind(id).bind(self.number("amount_minor")?);
        query.bind(currency).bind(method).execute(&mut *self.database).await?;
        self.send("payment-requests", payment, "payment.capture_requested", self.data.clone()).await
    }

    async fn captured(&mut self) -> anyhow::Result<()> {
        let (payment, amount) = (self.text("payment_id")?, self.number("amount_minor")?);
        let update = "update shop.payment set status = 'captured', captured_minor = $2 \
            where payment_id = $1 and status = 'requested' and amount_minor = $2 returning purchase_id";
        let id: String = sqlx::query_scalar(update).bind(payment).bind(amount).fetch_one(&mut *self.database).await?;
        let data = json!({ "payment_id": payment, "purchase_id": id });
        self.send("purchases", &id, "payment.succeeded", data).await
    }

    /// Counts an answer; whether it was the last that the step waited for.
    async fn answered(&mut self, id: &str, step: &str) -> anyhow::Result<bool> {
        let select = "select step, waiting from shop.saga where purchase_id = $1 for update";
        let (at, waiting): (String, i64) = sqlx::query_as(select).bind(id).fetch_one(&mut *self.database).await?;
        ensure!(at == step && waiting > 0, "{id} is at {at} and got an answer to {step}");
        if waiting > 1 {
            let update = "update shop.saga set waiting = waiting - 1 where purchase_id = $1";
            sqlx::query(update).bind(id).execute(&mut *self.database).await?;
        }
        Ok(waiting == 1)
    }

    async fn go_on(&mut self, id: &str, step: &str, waiting: i64) -> anyhow::Result<()> {
        let update = "update shop.saga set step = $2, waiting = $3, at = now() where purchase_id = $1";
        sqlx::query(update).bind(id).bind(step).bind(waiting).execute(&mut *self.database).await?;
        Ok(())
    }

    async fn send(&mut self, topic: &str, key: &str, event: &str, data: Json) -> anyhow::Result<()> {
        relay::put(self.database, &format!("{}{topic}", self.prefix), key, event, &data).await
    }

    /// Borrowed from the record, not from the step, which goes on to write.
    fn text(&self, field: &str) -> anyhow::Result<&'a str> {
        self.data[field].as_str().with_context(|| format!("{field} is missing"))
    }

    fn number(&self, field: &str) -> anyhow::Result<i64> {
        self.data[field].as_i64().with_context(|| format!("{field} is missing"))
    }
}
