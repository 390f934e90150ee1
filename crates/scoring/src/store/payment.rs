//! `payment`: invoices and credits with what was paid of them.
use std::collections::HashMap;

use chassis::{
    Result,
    db::{Columns, bulk},
};
use sea_orm::{ConnectionTrait, QueryResult, Value};
use uuid::Uuid;

use super::rows::Stored;
use crate::{
    assessment::Payments,
    payment::{Paid, Payment},
    score::Day,
};

impl Stored<12> for Payment {
    const TABLE: &'static str = "payment";
    const COLUMNS: [&'static str; 12] = [
        "source",
        "payment_id",
        "customer_id",
        "issue_us",
        "due_us",
        "due_day",
        "amount_minor",
        "paid_us",
        "paid_day",
        "paid_minor",
        "trouble",
        "record_time",
    ];

    fn values(&self, record_time: i64) -> [Value; 12] {
        [
            self.source.as_str().into(),
            self.payment_id.as_str().into(),
            self.customer.into(),
            self.issue_us.into(),
            self.due_us.into(),
            i64::from(self.due_day).into(),
            self.amount_minor.into(),
            self.paid.map(|paid| paid.time_us).into(),
            self.paid.map(|paid| i64::from(paid.day)).into(),
            self.paid.map(|paid| paid.amount_minor).into(),
            i64::from(i32::from(self.trouble)).into(),
            record_time.into(),
        ]
    }

    fn read(row: &QueryResult) -> Result<Self> {
        let mut columns = Columns::of(row);
        let source = columns.take()?;
        let payment_id = columns.take()?;
        let customer = columns.take()?;
        let issue_us = columns.take()?;
        let due_us = columns.take()?;
        let due_day = columns.narrow()?;
        let amount_minor = columns.take()?;
        let (time_us, day, paid) =
            (columns.take::<Option<i64>>()?, columns.take::<Option<i64>>()?, columns.take::<Option<i64>>()?);
        let paid = time_us.zip(day).zip(paid).map(|((time_us, day), amount_minor)| Paid {
            time_us,
            day: Day::try_from(day).unwrap_or(Day::MAX),
            amount_minor,
        });
        let trouble: i32 = columns.narrow()?;
        let trouble = trouble.try_into().unwrap_or_default();
        Ok(Self { source, payment_id, customer, issue_us, due_us, due_day, amount_minor, paid, trouble })
    }
}

/// How each of these customers pays, as it stood at the moment `until_us` on `today`; who has no payment issued by then is not in it.
pub async fn sums_of<C: ConnectionTrait>(
    connection: &C,
    customers: &[Uuid],
    until_us: i64,
    today: Day,
) -> Result<HashMap<Uuid, Payments>> {
    // What came in after the moment had not come in yet. Sums come in two parts, since together they may exceed 64 bits.
    let head = "SELECT customer_id, COUNT(*), \
         CAST(SUM((amount_minor - paid) / 1000000000) AS BIGINT), CAST(SUM((amount_minor - paid) % 1000000000) AS BIGINT), \
         CAST(SUM(CASE WHEN due_day < today THEN (amount_minor - paid) / 1000000000 ELSE 0 END) AS BIGINT), \
         CAST(SUM(CASE WHEN due_day < today THEN (amount_minor - paid) % 1000000000 ELSE 0 END) AS BIGINT), \
         MIN(CASE WHEN due_day < today AND paid < amount_minor THEN due_day END), \
         CAST(SUM(CASE WHEN due_day < today OR paid = amount_minor THEN 1 ELSE 0 END) AS BIGINT), \
         CAST(SUM(CASE WHEN paid = amount_minor AND COALESCE(paid_day, due_day) <= due_day THEN 1 ELSE 0 END) AS BIGINT), \
         CAST(SUM(CASE WHEN trouble = 1 AND due_day <= today THEN 1 ELSE 0 END) AS BIGINT), \
         CAST(SUM(CASE WHEN trouble = 2 AND due_day <= today THEN 1 ELSE 0 END) AS BIGINT) \
         FROM (SELECT payment.customer_id, amount_minor, due_day, paid_day, trouble, asked.column3 AS today, \
         CASE WHEN paid_us <= asked.column2 THEN COALESCE(paid_minor, 0) ELSE 0 END AS paid FROM (";
    let tail = ") AS asked JOIN payment ON payment.customer_id = asked.column1 AND payment.issue_us <= asked.column2) AS owed \
                GROUP BY customer_id";
    let keys = customers.iter().map(|id| [(*id).into(), until_us.into(), i64::from(today).into()]);
    let rows = bulk::query(connection, head, keys, tail).await?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            let customer = columns.take()?;
            let payments = Payments {
                count: columns.take()?,
                receivables_minor: sum(columns.take()?, columns.take()?),
                overdue_minor: sum(columns.take()?, columns.take()?),
                days_overdue: {
                    let oldest: Option<i64> = columns.take()?;
                    oldest.map_or(0, |oldest| i64::from(today).saturating_sub(oldest).max(0))
                },
                settled: columns.take()?,
                on_time: columns.take()?,
                written_off: columns.take()?,
                in_court: columns.take()?,
            };
            Ok((customer, payments))
        })
        .collect()
}

/// A sum out of its parts; one that exceeds 64 bits stops at the limit.
fn sum(thousand_millions: i64, rest: i64) -> i64 {
    let sum = i128::from(thousand_millions) * 1_000_000_000 + i128::from(rest);
    i64::try_from(sum).unwrap_or(i64::MAX)
}
