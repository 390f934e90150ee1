//! `service_cost`: what serving customers cost.
use std::collections::HashMap;

use chassis::{
    Result,
    db::{Columns, bulk, sql},
};
use sea_orm::{ConnectionTrait, QueryResult, Value};
use uuid::Uuid;

use super::rows::Stored;
use crate::{
    score::{Day, Summary},
    service_cost::ServiceCost,
};

impl Stored<7> for ServiceCost {
    const TABLE: &'static str = "service_cost";
    const COLUMNS: [&'static str; 7] =
        ["source", "cost_id", "customer_id", "time_us", "day", "amount_minor", "record_time"];

    fn values(&self, record_time: i64) -> [Value; 7] {
        [
            self.source.as_str().into(),
            self.cost_id.as_str().into(),
            self.customer.into(),
            self.time_us.into(),
            i64::from(self.day).into(),
            self.amount_minor.into(),
            record_time.into(),
        ]
    }

    fn read(row: &QueryResult) -> Result<Self> {
        let mut columns = Columns::of(row);
        Ok(Self {
            source: columns.take()?,
            cost_id: columns.take()?,
            customer: columns.take()?,
            time_us: columns.take()?,
            day: columns.narrow()?,
            amount_minor: columns.take()?,
        })
    }
}

/// How many costs there are of each of these customers, and their sum in minor units, rows up to the moment `until_us`; who has none is not in it.
pub async fn sums_of<C: ConnectionTrait>(
    connection: &C,
    customers: &[Uuid],
    until_us: i64,
) -> Result<HashMap<Uuid, (i64, i64)>> {
    let head = "SELECT cost.customer_id, COUNT(*), CAST(SUM(cost.amount_minor) AS BIGINT) FROM (";
    let tail = ") AS asked JOIN service_cost AS cost ON cost.customer_id = asked.column1 AND cost.time_us <= asked.column2 \
                GROUP BY cost.customer_id";
    let keys = customers.iter().map(|id| [(*id).into(), until_us.into()]);
    let rows = bulk::query(connection, head, keys, tail).await?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok((columns.take()?, (columns.take()?, columns.take()?)))
        })
        .collect()
}

/// Adds to the summaries of customers from `first` to `last`, both included, what serving them cost up to and with a day.
pub async fn add_between<C: ConnectionTrait>(
    connection: &C,
    first: Uuid,
    last: Uuid,
    until: Day,
    summaries: &mut [(Uuid, Summary)],
) -> Result<()> {
    let text = "SELECT customer_id, CAST(SUM(amount_minor) AS BIGINT) FROM service_cost \
                WHERE customer_id >= $1 AND customer_id <= $2 AND day <= $3 GROUP BY customer_id";
    let values = [first.into(), last.into(), i64::from(until).into()];
    let rows = connection.query_all_raw(sql(connection, text, values)).await?;
    let mut costs = HashMap::with_capacity(rows.len());
    for row in &rows {
        let mut columns = Columns::of(row);
        costs.insert(columns.take::<Uuid>()?, columns.take::<i64>()?);
    }
    for (id, summary) in summaries {
        summary.service_cost_minor = costs.get(id).copied().unwrap_or(0);
    }
    Ok(())
}
