//! `customer`: one row for everybody who bought or is known to profiles: facts, summary and announced standing.
use std::collections::HashMap;

use chassis::{
    Error, Result, Tx,
    clock::at_micros,
    db::{self, Columns, Streams, bulk, sql},
};
use proto::scoring::v1 as pb;
use sea_orm::{ConnectionTrait, QueryResult, Value};
use uuid::Uuid;

use crate::{
    score::{Facts, Standing, Summary},
    standing::{Announced, Customer},
};

const COLUMNS: &str = "customer_id, profile_revision, showed_interest, targeted, occasions, first_day, last_day, day_sum, \
     sales_minor, returns_minor, first_sales_minor, discount_minor, service_cost_minor, potential_minor, relationship, stage, tier, code, \
     estimated, revision, since_us";
const REPLACE: &str = " ON CONFLICT (customer_id) DO UPDATE SET profile_revision = excluded.profile_revision, \
     showed_interest = excluded.showed_interest, targeted = excluded.targeted, occasions = excluded.occasions, \
     first_day = excluded.first_day, last_day = excluded.last_day, day_sum = excluded.day_sum, \
     sales_minor = excluded.sales_minor, returns_minor = excluded.returns_minor, \
     first_sales_minor = excluded.first_sales_minor, discount_minor = excluded.discount_minor, \
     service_cost_minor = excluded.service_cost_minor, potential_minor = excluded.potential_minor, relationship = excluded.relationship, stage = excluded.stage, \
     tier = excluded.tier, code = excluded.code, estimated = excluded.estimated, revision = excluded.revision, \
     since_us = excluded.since_us";

fn read(row: &QueryResult) -> Result<Customer> {
    let mut columns = Columns::of(row);
    let id = columns.take()?;
    let profile_revision = columns.take()?;
    let (showed_interest, targeted) = (columns.take()?, columns.take()?);
    let summary = read_summary(&mut columns)?;
    let facts = Facts { showed_interest, targeted, potential_minor: columns.take()? };
    let standing = Standing {
        relationship: known(columns.narrow()?)?,
        stage: known(columns.narrow()?)?,
        tier: known(columns.narrow()?)?,
        code: known(columns.narrow()?)?,
        estimated: columns.take()?,
    };
    let revision = columns.take()?;
    let since = at_micros(columns.take()?);
    let announced = (revision > 0).then_some(Announced { standing, revision, since });
    Ok(Customer { id, profile_revision, facts, summary, announced, is_new: false })
}

fn read_summary(columns: &mut Columns<'_>) -> Result<Summary> {
    Ok(Summary {
        occasions: columns.narrow()?,
        first_day: columns.narrow()?,
        last_day: columns.narrow()?,
        day_sum: columns.take()?,
        sales_minor: columns.take()?,
        returns_minor: columns.take()?,
        first_sales_minor: columns.take()?,
        discount_minor: columns.take()?,
        service_cost_minor: columns.take()?,
    })
}

fn known<E: TryFrom<i32>>(number: i32) -> Result<E> {
    E::try_from(number).map_err(|_| Error::Internal(format!("customer: {number} is no state that this program knows")))
}

fn values(customer: &Customer) -> [Value; 21] {
    let summary = &customer.summary;
    let announced = customer.announced.as_ref();
    let state = |of: fn(&Standing) -> i32| announced.map_or(0, |announced| i64::from(of(&announced.standing)));
    [
        customer.id.into(),
        customer.profile_revision.into(),
        customer.facts.showed_interest.into(),
        customer.facts.targeted.into(),
        i64::from(summary.occasions).into(),
        i64::from(summary.first_day).into(),
        i64::from(summary.last_day).into(),
        summary.day_sum.into(),
        summary.sales_minor.into(),
        summary.returns_minor.into(),
        summary.first_sales_minor.into(),
        summary.discount_minor.into(),
        summary.service_cost_minor.into(),
        customer.facts.potential_minor.into(),
        state(|standing| standing.relationship.into()).into(),
        state(|standing| standing.stage.into()).into(),
        state(|standing| standing.tier.into()).into(),
        state(|standing| standing.code.into()).into(),
        announced.is_some_and(|announced| announced.standing.estimated).into(),
        announced.map_or(0, |announced| announced.revision).into(),
        announced.map_or(0, |announced| announced.since.as_microsecond()).into(),
    ]
}

fn by_id(rows: &[QueryResult]) -> Result<HashMap<Uuid, Customer>> {
    // Thousands of them, and none small: a map that grows would move each several times.
    let mut customers = HashMap::with_capacity(rows.len());
    for row in rows {
        let customer = read(row)?;
        customers.insert(customer.id, customer);
    }
    Ok(customers)
}

/// Reads customers and locks them until the transaction ends. `ids` are sorted, so that two transactions never wait for each other
/// in a circle.
pub async fn lock(tx: &Tx<'_>, ids: &[Uuid]) -> Result<HashMap<Uuid, Customer>> {
    let head = format!("SELECT {COLUMNS} FROM customer WHERE customer_id IN (");
    let tail = format!(") ORDER BY customer_id{}", tx.for_update());
    let rows = bulk::find(&**tx, &head, ids.iter().map(|id| [(*id).into()]), &tail).await?;
    by_id(&rows)
}

/// Reads customers as they are.
pub async fn find<C: ConnectionTrait>(connection: &C, ids: &[Uuid]) -> Result<HashMap<Uuid, Customer>> {
    let head = format!("SELECT {COLUMNS} FROM customer WHERE customer_id IN (");
    let rows = bulk::find(connection, &head, ids.iter().map(|id| [(*id).into()]), ")").await?;
    by_id(&rows)
}

/// Writes customers whose rows are locked, and inserts those marked as new. Where another transaction inserted the same one, the
/// duplicate key runs this one again.
pub async fn write<'a>(tx: &Tx<'_>, customers: impl Iterator<Item = &'a Customer>) -> Result<()> {
    let (new, old): (Vec<_>, Vec<_>) =
        customers.inspect(|customer| tx.alters(customer.id)).partition(|customer| customer.is_new);
    let into = format!("INSERT INTO customer ({COLUMNS})");
    bulk::insert(&**tx, &into, new.into_iter().map(values), "").await?;
    bulk::insert(&**tx, &into, old.into_iter().map(values), REPLACE).await?;
    Ok(())
}

/// One page of all customers by id.
pub async fn page<C: Streams>(connection: &C, after: Option<Uuid>, limit: u64) -> Result<Vec<Customer>> {
    page_of(connection, COLUMNS, "", after, limit, read).await
}

/// The ids of one page of all customers.
pub async fn ids<C: Streams>(connection: &C, after: Option<Uuid>, limit: u64) -> Result<Vec<Uuid>> {
    page_of(connection, "customer_id", "", after, limit, |row| Columns::of(row).take()).await
}

/// One page of everybody who bought by id, with nothing but their summaries: what goes through millions should not read what it does not look at.
pub async fn buyers<C: Streams>(connection: &C, after: Option<Uuid>, limit: u64) -> Result<Vec<(Uuid, Summary)>> {
    let columns = "customer_id, occasions, first_day, last_day, day_sum, sales_minor, returns_minor, first_sales_minor, \
                   discount_minor, service_cost_minor";
    let read = |row: &QueryResult| {
        let mut columns = Columns::of(row);
        Ok((columns.take()?, read_summary(&mut columns)?))
    };
    page_of(connection, columns, " AND occasions > 0", after, limit, read).await
}

async fn page_of<C: Streams, T>(
    connection: &C,
    columns: &str,
    whose: &str,
    after: Option<Uuid>,
    limit: u64,
    read: impl Fn(&QueryResult) -> Result<T>,
) -> Result<Vec<T>> {
    // No id is nil.
    let text = format!("SELECT {columns} FROM customer WHERE customer_id > $1{whose} ORDER BY customer_id LIMIT $2");
    let values = [after.unwrap_or(Uuid::nil()).into(), i64::try_from(limit).unwrap_or(i64::MAX).into()];
    db::each(connection, text, values, read).await
}

/// How many customers there are, and how many of them bought.
pub async fn count<C: ConnectionTrait>(connection: &C) -> Result<(i64, i64)> {
    let text =
        "SELECT COUNT(*), CAST(COALESCE(SUM(CASE WHEN occasions > 0 THEN 1 ELSE 0 END), 0) AS BIGINT) FROM customer";
    let row = connection.query_one_raw(sql(connection, text, [])).await?;
    let Some(row) = row else { return Ok((0, 0)) };
    let mut columns = Columns::of(&row);
    Ok((columns.take()?, columns.take()?))
}

/// Customers by announced standing.
pub async fn standing_counts<C: ConnectionTrait>(connection: &C) -> Result<Vec<pb::StandingCount>> {
    let text = "SELECT relationship, stage, code, tier, COUNT(*) FROM customer WHERE revision > 0 \
                GROUP BY relationship, stage, code, tier ORDER BY relationship, stage, code, tier";
    let rows = connection.query_all_raw(sql(connection, text, [])).await?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok(pb::StandingCount {
                relationship: columns.narrow()?,
                stage: columns.narrow()?,
                code: columns.narrow()?,
                tier: columns.narrow()?,
                customers: columns.take()?,
            })
        })
        .collect()
}
