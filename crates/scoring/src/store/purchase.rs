//! `purchase`: the ledger.
use std::collections::{HashMap, HashSet};

use chassis::{
    Result, Tx,
    db::{self, Columns, Streams, bulk, sql},
};
use sea_orm::{ConnectionTrait, DatabaseBackend, QueryResult, Value};
use uuid::Uuid;

use super::rows::Stored;
use crate::{
    purchase::{Kind, Purchase},
    score::{Day, Summary},
};

impl Stored<9> for Purchase {
    const TABLE: &'static str = "purchase";
    const COLUMNS: [&'static str; 9] = [
        "source",
        "purchase_id",
        "customer_id",
        "time_us",
        "day",
        "amount_minor",
        "kind",
        "discount_minor",
        "record_time",
    ];

    fn values(&self, record_time: i64) -> [Value; 9] {
        [
            self.source.as_str().into(),
            self.purchase_id.as_str().into(),
            self.customer.into(),
            self.time_us.into(),
            i64::from(self.day).into(),
            self.amount_minor.into(),
            self.kind.code().into(),
            self.discount_minor.into(),
            record_time.into(),
        ]
    }

    fn read(row: &QueryResult) -> Result<Self> {
        let mut columns = Columns::of(row);
        Ok(Self {
            source: columns.take()?,
            purchase_id: columns.take()?,
            customer: columns.take()?,
            time_us: columns.take()?,
            day: columns.narrow()?,
            amount_minor: columns.take()?,
            kind: Kind::from_code(columns.take()?),
            discount_minor: columns.take()?,
        })
    }
}

/// Whether anything was ever recorded in the books. Keeps others from recording until the transaction ends, so that it stays true.
pub async fn any_locked(tx: &Tx<'_>) -> Result<bool> {
    if tx.get_database_backend() == DatabaseBackend::Postgres {
        tx.execute_unprepared("LOCK TABLE purchase, service_cost, payment IN SHARE MODE").await?;
    }
    let text = "SELECT 1 FROM purchase UNION ALL SELECT 1 FROM service_cost UNION ALL SELECT 1 FROM payment LIMIT 1";
    Ok(tx.query_one_raw(sql(&**tx, text, [])).await?.is_some())
}

/// Says that purchases are going to be written, before they are: from here on nobody changes what the books are kept in until the transaction ends
/// (see [`any_locked`]).
pub async fn will_write(tx: &Tx<'_>) -> Result<()> {
    if tx.get_database_backend() == DatabaseBackend::Postgres {
        tx.execute_unprepared("LOCK TABLE purchase IN ROW EXCLUSIVE MODE").await?;
    }
    Ok(())
}

/// Which of these days of these customers have a sale.
pub async fn sold(tx: &Tx<'_>, days: &[(Uuid, Day)]) -> Result<HashSet<(Uuid, Day)>> {
    let head = "SELECT DISTINCT purchase.customer_id, purchase.day FROM (";
    let tail = ") AS asked JOIN purchase ON purchase.customer_id = asked.column1 AND purchase.day = asked.column2 \
                WHERE purchase.kind = 1";
    let keys = days.iter().map(|(customer, day)| [(*customer).into(), i64::from(*day).into()]);
    let rows = bulk::find(&**tx, head, keys, tail).await?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok((columns.take()?, columns.narrow()?))
        })
        .collect()
}

/// What each customer's rows add up to: first by day, then over the days, with the first day's sales apart. What the rows are taken from goes
/// in between.
const SUM: &str = "SELECT customer_id, CAST(SUM(sold) AS BIGINT), MIN(first_day), MAX(CASE WHEN sold = 1 THEN day END), \
     CAST(SUM(CASE WHEN sold = 1 THEN day ELSE 0 END) AS BIGINT), CAST(SUM(sales) AS BIGINT), \
     CAST(SUM(returns) AS BIGINT), CAST(SUM(CASE WHEN sold = 1 AND day = first_day THEN sales ELSE 0 END) AS BIGINT), \
     CAST(SUM(discount) AS BIGINT) FROM (SELECT customer_id, day, sold, sales, returns, discount, \
     MIN(CASE WHEN sold = 1 THEN day END) OVER (PARTITION BY customer_id) AS first_day \
     FROM (SELECT customer_id, day, MAX(CASE WHEN kind = 1 THEN 1 ELSE 0 END) AS sold, \
     SUM(CASE WHEN kind = 1 THEN amount_minor ELSE 0 END) AS sales, \
     SUM(CASE WHEN kind = 2 THEN amount_minor ELSE 0 END) AS returns, \
     SUM(COALESCE(discount_minor, 0)) AS discount FROM ";
const BY_CUSTOMER: &str = " GROUP BY customer_id, day) AS days) AS marked GROUP BY customer_id ORDER BY customer_id";

fn read_sum(row: &QueryResult) -> Result<(Uuid, Summary)> {
    let mut columns = Columns::of(row);
    let customer = columns.take()?;
    let occasions = columns.narrow()?;
    let mut day = || -> Result<Day> {
        let day: Option<i64> = columns.take()?;
        Ok(Day::try_from(day.unwrap_or(0)).unwrap_or(0))
    };
    let (first_day, last_day) = (day()?, day()?);
    let summary = Summary {
        occasions,
        first_day,
        last_day,
        day_sum: columns.take()?,
        sales_minor: columns.take()?,
        returns_minor: columns.take()?,
        first_sales_minor: columns.take()?,
        discount_minor: columns.take()?,
        ..Summary::default()
    };
    Ok((customer, summary))
}

/// The summaries of these customers from the ledger (what serving them cost is not in it), rows up to the moment `until_us`; who has no such row is not in it.
pub async fn summaries_of<C: ConnectionTrait>(
    connection: &C,
    customers: &[Uuid],
    until_us: i64,
) -> Result<HashMap<Uuid, Summary>> {
    let tail = format!(
        ") AS asked JOIN purchase ON purchase.customer_id = asked.column1 AND purchase.time_us <= asked.column2{BY_CUSTOMER}"
    );
    let keys = customers.iter().map(|id| [(*id).into(), until_us.into()]);
    let rows = bulk::query(connection, &format!("{SUM}("), keys, &tail).await?;
    rows.iter().map(read_sum).collect()
}

/// The summaries of all customers from `first` to `last`, both included, from the ledger (what serving them cost is not in it), rows up to and with a day, by customer.
pub async fn summaries_between<C: Streams>(
    connection: &C,
    first: Uuid,
    last: Uuid,
    until: Day,
) -> Result<Vec<(Uuid, Summary)>> {
    let text = format!("{SUM}purchase WHERE customer_id >= $1 AND customer_id <= $2 AND day <= $3{BY_CUSTOMER}");
    let values = [first.into(), last.into(), i64::from(until).into()];
    db::each(connection, text, values, read_sum).await
}

/// The days with a sale of all customers from `first` to `last`, both included, up to and with a day, by customer and day.
pub async fn days_between<C: Streams>(connection: &C, first: Uuid, last: Uuid, until: Day) -> Result<Vec<(Uuid, Day)>> {
    let text = "SELECT DISTINCT customer_id, day FROM purchase WHERE customer_id >= $1 AND customer_id <= $2 AND day <= $3 \
                AND kind = 1 ORDER BY customer_id, day";
    let values = [first.into(), last.into(), i64::from(until).into()];
    let read = |row: &QueryResult| {
        let mut columns = Columns::of(row);
        Ok((columns.take()?, columns.narrow()?))
    };
    db::each(connection, text, values, read).await
}

/// Where a row stands in a customer's list.
pub type Place = (i64, String, String);

/// One page of a customer's rows, newest first.
pub async fn list<C: ConnectionTrait>(
    connection: &C,
    customer: Uuid,
    after: Option<&Place>,
    limit: u64,
) -> Result<Vec<Purchase>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // Not by day: where clocks are put back over midnight, a later moment falls on an earlier day.
    let order = "ORDER BY time_us DESC, source DESC, purchase_id DESC";
    let columns = Purchase::columns();
    let statement = match after {
        None => {
            let text = format!("SELECT {columns} FROM purchase WHERE customer_id = $1 {order} LIMIT $2");
            sql(connection, text, [customer.into(), limit.into()])
        }
        Some((time_us, source, purchase_id)) => {
            let text = format!(
                "SELECT {columns} FROM purchase WHERE customer_id = $1 AND \
                 (time_us, source, purchase_id) < ($2, $3, $4) {order} LIMIT $5"
            );
            let values =
                [customer.into(), (*time_us).into(), source.clone().into(), purchase_id.clone().into(), limit.into()];
            sql(connection, text, values)
        }
    };
    connection.query_all_raw(statement).await?.iter().map(Purchase::read).collect()
}
