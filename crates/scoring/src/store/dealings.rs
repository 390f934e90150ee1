//! What an assessment reads of the books beyond the customer's row: a few statements for any number of customers, only where it is asked for.
use std::collections::HashMap;

use chassis::{
    Result,
    db::{Columns, bulk},
};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::{payment, service_cost};
use crate::{
    assessment::{Dealings, Period},
    pyramid::Margin,
    score::Day,
};

/// Days of the year that receivables are held against: 52 weeks.
const YEAR_DAYS: i64 = 364;

/// What the books say of each of these customers, rows up to the moment `until_us` on `today`, with periods of `period_days`.
pub async fn read<C: ConnectionTrait>(
    connection: &C,
    customers: &[Uuid],
    until_us: i64,
    today: Day,
    period_days: i64,
) -> Result<HashMap<Uuid, Dealings>> {
    let mut all: HashMap<Uuid, Dealings> = customers.iter().map(|id| (*id, Dealings::default())).collect();
    periods(connection, customers, until_us, today, period_days, &mut all).await?;
    for (id, (count, _)) in service_cost::sums_of(connection, customers, until_us).await? {
        all.entry(id).or_default().costs = count;
    }
    for (id, payments) in payment::sums_of(connection, customers, until_us, today).await? {
        all.entry(id).or_default().payments = Some(payments);
    }
    introductions(connection, customers, today, &mut all).await?;
    Ok(all)
}

async fn periods<C: ConnectionTrait>(
    connection: &C,
    customers: &[Uuid],
    until_us: i64,
    today: Day,
    period_days: i64,
    all: &mut HashMap<Uuid, Dealings>,
) -> Result<()> {
    // `age` counts from the day backwards: 0 is the day itself, and what lies ahead by a clock's difference counts to it.
    let head = "SELECT customer_id, \
         COUNT(DISTINCT CASE WHEN kind = 1 AND age < period THEN day END), \
         CAST(SUM(CASE WHEN age < period THEN net ELSE 0 END) AS BIGINT), \
         COUNT(DISTINCT CASE WHEN kind = 1 AND age >= period AND age < 2 * period THEN day END), \
         CAST(SUM(CASE WHEN age >= period AND age < 2 * period THEN net ELSE 0 END) AS BIGINT), \
         COUNT(DISTINCT CASE WHEN kind = 1 AND age < year THEN day END), \
         CAST(SUM(CASE WHEN age < year THEN net ELSE 0 END) AS BIGINT), \
         COUNT(discount_minor), CAST(SUM(CASE WHEN discount_minor IS NOT NULL THEN net ELSE 0 END) AS BIGINT) \
         FROM (SELECT purchase.customer_id, purchase.kind, purchase.day, purchase.discount_minor, \
         asked.column3 - purchase.day AS age, asked.column4 AS period, asked.column5 AS year, \
         CASE WHEN kind = 1 THEN amount_minor ELSE -amount_minor END AS net FROM (";
    let tail = ") AS asked JOIN purchase ON purchase.customer_id = asked.column1 AND purchase.time_us <= asked.column2) AS aged \
                GROUP BY customer_id";
    let keys = customers
        .iter()
        .map(|id| [(*id).into(), until_us.into(), i64::from(today).into(), period_days.into(), YEAR_DAYS.into()]);
    for row in &bulk::query(connection, head, keys, tail).await? {
        let mut columns = Columns::of(row);
        let id: Uuid = columns.take()?;
        let mut period = || -> Result<Period> { Ok(Period { occasions: columns.take()?, net_minor: columns.take()? }) };
        let (recent, before, year) = (period()?, period()?, period()?);
        let (priced, priced_minor) = (columns.take()?, columns.take()?);
        all.insert(id, Dealings { recent, before, year, priced, priced_minor, ..Dealings::default() });
    }
    Ok(())
}

/// What these customers together leave of their list prices, by what was recorded of each up to and with a day.
pub async fn margin<C: ConnectionTrait>(connection: &C, customers: &[Uuid], until: Day) -> Result<Margin> {
    let mut margin = Margin::default();
    let keys = || customers.iter().map(|id| [(*id).into(), i64::from(until).into()]);
    let head = "SELECT CAST(SUM(CASE WHEN purchase.discount_minor IS NULL THEN 0 ELSE purchase.amount_minor END) AS BIGINT), \
         CAST(SUM(COALESCE(purchase.discount_minor, 0)) AS BIGINT) FROM (";
    let tail = ") AS asked JOIN purchase ON purchase.customer_id = asked.column1 AND purchase.day <= asked.column2 \
                WHERE purchase.kind = 1 GROUP BY purchase.customer_id";
    for row in &bulk::query(connection, head, keys(), tail).await? {
        let mut columns = Columns::of(row);
        let (priced_minor, discount_minor) = (columns.take()?, columns.take()?);
        margin.add(&Margin { priced_minor, discount_minor, ..Margin::default() });
    }
    let head = "SELECT served.cost, CAST(SUM(CASE WHEN purchase.kind = 1 THEN purchase.amount_minor ELSE -purchase.amount_minor END) AS BIGINT) \
         FROM (SELECT asked.column1 AS customer_id, asked.column2 AS until, CAST(SUM(cost.amount_minor) AS BIGINT) AS cost FROM (";
    let tail = ") AS asked JOIN service_cost AS cost ON cost.customer_id = asked.column1 AND cost.day <= asked.column2 \
                GROUP BY asked.column1, asked.column2) AS served \
                JOIN purchase ON purchase.customer_id = served.customer_id AND purchase.day <= served.until \
                GROUP BY served.customer_id, served.cost";
    for row in &bulk::query(connection, head, keys(), tail).await? {
        let mut columns = Columns::of(row);
        let (cost_minor, net_minor) = (columns.take()?, columns.take()?);
        margin.add(&Margin { cost_minor, net_minor, ..Margin::default() });
    }
    Ok(margin)
}

/// Whom each of these customers introduced, and who of them had bought by the day.
async fn introductions<C: ConnectionTrait>(
    connection: &C,
    customers: &[Uuid],
    today: Day,
    all: &mut HashMap<Uuid, Dealings>,
) -> Result<()> {
    let head = "SELECT attribute.introduced_by, COUNT(*), \
         CAST(SUM(CASE WHEN customer.occasions > 0 AND customer.first_day <= asked.column2 THEN 1 ELSE 0 END) AS BIGINT) \
         FROM (";
    let tail = ") AS asked JOIN attribute ON attribute.introduced_by = asked.column1 \
                LEFT JOIN customer ON customer.customer_id = attribute.customer_id GROUP BY attribute.introduced_by";
    let keys = customers.iter().map(|id| [(*id).into(), i64::from(today).into()]);
    for row in &bulk::query(connection, head, keys, tail).await? {
        let mut columns = Columns::of(row);
        let dealings = all.entry(columns.take()?).or_default();
        (dealings.introduced, dealings.introduced_buyers) = (columns.take()?, columns.take()?);
    }
    Ok(())
}
