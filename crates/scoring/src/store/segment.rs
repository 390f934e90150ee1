//! `segment`, `segment_member`, and `segment_set` (one row): who is in which group.
use std::collections::HashMap;

use chassis::{
    Error, Result, Tx,
    clock::at_micros,
    db::{Columns, bulk, sql},
};
use proto::scoring::v1 as pb;
use sea_orm::{ConnectionTrait, QueryResult};
use uuid::Uuid;

use crate::{
    cluster::Clustering,
    segment::{Segment, Set, State},
};

const COLUMNS: &str =
    "segment_id, revision, display_name, description, expression, state, create_time, update_time, fill_after";

fn code(state: State) -> i64 {
    match state {
        State::Filling => 1,
        State::Ready => 2,
        State::Leaving => 3,
    }
}

fn read(row: &QueryResult) -> Result<(Segment, Option<Uuid>)> {
    let mut columns = Columns::of(row);
    let segment = Segment {
        id: columns.take()?,
        revision: columns.take()?,
        display_name: columns.take()?,
        description: columns.take()?,
        expression: columns.take()?,
        state: match columns.take::<i64>()? {
            1 => State::Filling,
            2 => State::Ready,
            _ => State::Leaving,
        },
        create_time: at_micros(columns.take()?),
        update_time: at_micros(columns.take()?),
    };
    Ok((segment, columns.take()?))
}

/// Locks all of it: what follows is judged by one transaction after the other. Always before a segment or a customer is locked.
pub async fn lock_set(tx: &Tx<'_>) -> Result<()> {
    let text = format!("SELECT id FROM segment_set WHERE id = 1{}", tx.for_update());
    tx.query_one_raw(sql(&**tx, text, [])).await?;
    Ok(())
}

/// Makes every replica read the segments before it judges the next customer.
async fn grow_version(tx: &Tx<'_>) -> Result<()> {
    tx.alters(super::in_force::KEY);
    tx.execute_raw(sql(&**tx, "UPDATE segment_set SET version = version + 1 WHERE id = 1", [])).await?;
    Ok(())
}

/// All segments as they are evaluated. What is newer than the version only makes it be read once more.
pub async fn load<C: ConnectionTrait>(connection: &C, before: Option<&Set>) -> Result<Set> {
    let (version, clustering) = clustering(connection).await?;
    Set::of(version, all(connection).await?, clustering, before)
}

/// The version of the set, and the clusters in force.
pub async fn clustering<C: ConnectionTrait>(connection: &C) -> Result<(i64, Option<Clustering>)> {
    let text = "SELECT version, clustering FROM segment_set WHERE id = 1";
    let row = connection.query_one_raw(sql(connection, text, [])).await?;
    let row = row.ok_or_else(|| Error::Internal("segment_set has no row".to_owned()))?;
    let mut columns = Columns::of(&row);
    let version = columns.take()?;
    let clustering: Option<String> = columns.take()?;
    Ok((version, clustering.as_deref().map(Clustering::from_json).transpose()?))
}

/// All segments, those being deleted included, by id.
pub async fn all<C: ConnectionTrait>(connection: &C) -> Result<Vec<Segment>> {
    let text = format!("SELECT {COLUMNS} FROM segment ORDER BY segment_id");
    let rows = connection.query_all_raw(sql(connection, text, [])).await?;
    rows.iter().map(|row| read(row).map(|(segment, _)| segment)).collect()
}

/// Puts clusters into force.
pub async fn set_clustering(tx: &Tx<'_>, clustering: &Clustering) -> Result<()> {
    tx.alters(super::in_force::KEY);
    let text = "UPDATE segment_set SET version = version + 1, clustering = $1 WHERE id = 1";
    tx.execute_raw(sql(&**tx, text, [clustering.to_json()?.into()])).await?;
    Ok(())
}

/// A segment, deleted or not.
pub async fn find<C: ConnectionTrait>(connection: &C, id: &str) -> Result<Option<Segment>> {
    let text = format!("SELECT {COLUMNS} FROM segment WHERE segment_id = $1");
    let row = connection.query_one_raw(sql(connection, text, [id.into()])).await?;
    row.as_ref().map(|row| read(row).map(|(segment, _)| segment)).transpose()
}

/// All segments but deleted ones, by id.
pub async fn list<C: ConnectionTrait>(connection: &C) -> Result<Vec<Segment>> {
    let text = format!("SELECT {COLUMNS} FROM segment WHERE state <> 3 ORDER BY segment_id");
    let rows = connection.query_all_raw(sql(connection, text, [])).await?;
    rows.iter().map(|row| read(row).map(|(segment, _)| segment)).collect()
}

/// How many there are, those being deleted included.
pub async fn count(tx: &Tx<'_>) -> Result<i64> {
    let row = tx.query_one_raw(sql(&**tx, "SELECT COUNT(*) FROM segment", [])).await?;
    row.map_or(Ok(0), |row| Columns::of(&row).take())
}

/// Inserts a segment, to be filled.
pub async fn insert(tx: &Tx<'_>, segment: &Segment) -> Result<()> {
    let text = "INSERT INTO segment (segment_id, revision, display_name, description, expression, state, create_time, update_time) \
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let values = [
        segment.id.as_str().into(),
        segment.revision.into(),
        segment.display_name.as_str().into(),
        segment.description.as_str().into(),
        segment.expression.as_str().into(),
        code(segment.state).into(),
        segment.create_time.as_microsecond().into(),
        segment.update_time.as_microsecond().into(),
    ];
    tx.execute_raw(sql(&**tx, text, values)).await?;
    grow_version(tx).await
}

/// Writes a segment anew; where `refill`, everybody is gone through again.
pub async fn update(tx: &Tx<'_>, segment: &Segment, refill: bool) -> Result<()> {
    let text = "UPDATE segment SET revision = $1, display_name = $2, description = $3, expression = $4, state = $5, \
                update_time = $6 WHERE segment_id = $7";
    let values = [
        segment.revision.into(),
        segment.display_name.as_str().into(),
        segment.description.as_str().into(),
        segment.expression.as_str().into(),
        code(segment.state).into(),
        segment.update_time.as_microsecond().into(),
        segment.id.as_str().into(),
    ];
    tx.execute_raw(sql(&**tx, text, values)).await?;
    if refill {
        let text = "UPDATE segment SET fill_after = NULL WHERE segment_id = $1";
        tx.execute_raw(sql(&**tx, text, [segment.id.as_str().into()])).await?;
        grow_version(tx).await?;
    }
    Ok(())
}

/// Whether any is to be filled or emptied: what an idle replica looks at.
pub async fn any_to_fill<C: ConnectionTrait>(connection: &C) -> Result<bool> {
    let text = "SELECT segment_id FROM segment WHERE state <> 2 LIMIT 1";
    Ok(connection.query_one_raw(sql(connection, text, [])).await?.is_some())
}

/// Those to be filled or emptied, by id, and how far that is.
pub async fn to_fill<C: ConnectionTrait>(connection: &C) -> Result<Vec<(Segment, Option<Uuid>)>> {
    let text = format!("SELECT {COLUMNS} FROM segment WHERE state <> 2 ORDER BY segment_id");
    connection.query_all_raw(sql(connection, text, [])).await?.iter().map(read).collect()
}

/// Notes how far filling is.
pub async fn set_filled_to(tx: &Tx<'_>, id: &str, last: Uuid) -> Result<()> {
    let text = "UPDATE segment SET fill_after = $1 WHERE segment_id = $2";
    tx.execute_raw(sql(&**tx, text, [last.into(), id.into()])).await?;
    Ok(())
}

/// Notes that it is filled.
pub async fn set_ready(tx: &Tx<'_>, id: &str) -> Result<()> {
    let text = "UPDATE segment SET state = 2, fill_after = NULL WHERE segment_id = $1";
    tx.execute_raw(sql(&**tx, text, [id.into()])).await?;
    Ok(())
}

/// Takes a segment away that everybody has left.
pub async fn delete(tx: &Tx<'_>, id: &str) -> Result<()> {
    tx.execute_raw(sql(&**tx, "DELETE FROM segment WHERE segment_id = $1", [id.into()])).await?;
    grow_version(tx).await
}

/// Ids of customers above one, by id.
pub async fn customers_after<C: ConnectionTrait>(connection: &C, after: Option<Uuid>, limit: u64) -> Result<Vec<Uuid>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX).into();
    let statement = match after {
        None => sql(connection, "SELECT customer_id FROM customer ORDER BY customer_id LIMIT $1", [limit]),
        Some(after) => {
            let text = "SELECT customer_id FROM customer WHERE customer_id > $1 ORDER BY customer_id LIMIT $2";
            sql(connection, text, [after.into(), limit])
        }
    };
    connection.query_all_raw(statement).await?.iter().map(|row| Columns::of(row).take()).collect()
}

/// The segments that each of these customers is in.
pub async fn of_customers<C: ConnectionTrait>(
    connection: &C,
    customers: &[Uuid],
) -> Result<HashMap<Uuid, Vec<String>>> {
    let head = "SELECT customer_id, segment_id FROM segment_member WHERE customer_id IN (";
    let rows = bulk::find(connection, head, customers.iter().map(|id| [(*id).into()]), ")").await?;
    by_customer(&rows)
}

/// The same for all customers from one to another.
pub async fn of_range<C: ConnectionTrait>(
    connection: &C,
    first: Uuid,
    last: Uuid,
) -> Result<HashMap<Uuid, Vec<String>>> {
    let text = "SELECT customer_id, segment_id FROM segment_member WHERE customer_id >= $1 AND customer_id <= $2";
    by_customer(&connection.query_all_raw(sql(connection, text, [first.into(), last.into()])).await?)
}

fn by_customer(rows: &[QueryResult]) -> Result<HashMap<Uuid, Vec<String>>> {
    let mut found: HashMap<Uuid, Vec<String>> = HashMap::new();
    for row in rows {
        let mut columns = Columns::of(row);
        found.entry(columns.take()?).or_default().push(columns.take()?);
    }
    Ok(found)
}

/// Customers enter segments.
pub async fn enter(tx: &Tx<'_>, entries: &[(&str, Uuid)]) -> Result<()> {
    let now = tx.clock().now_micros();
    let rows = entries.iter().map(|(segment, customer)| [(*segment).into(), (*customer).into(), now.into()]);
    bulk::insert(&**tx, "INSERT INTO segment_member (segment_id, customer_id, since_us)", rows, "").await?;
    Ok(())
}

/// Customers leave segments.
pub async fn leave(tx: &Tx<'_>, exits: &[(&str, Uuid)]) -> Result<()> {
    let rows = exits.iter().map(|(segment, customer)| [(*segment).into(), (*customer).into()]);
    let head = "DELETE FROM segment_member WHERE (segment_id, customer_id) IN (";
    bulk::execute(&**tx, head, rows, ")").await?;
    Ok(())
}

/// Members of a segment above one, by customer, and since when.
pub async fn members<C: ConnectionTrait>(
    connection: &C,
    id: &str,
    after: Option<Uuid>,
    limit: u64,
) -> Result<Vec<(Uuid, i64)>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX).into();
    let head = "SELECT customer_id, since_us FROM segment_member WHERE segment_id = $1";
    let statement = match after {
        None => sql(connection, format!("{head} ORDER BY customer_id LIMIT $2"), [id.into(), limit]),
        Some(after) => {
            let text = format!("{head} AND customer_id > $2 ORDER BY customer_id LIMIT $3");
            sql(connection, text, [id.into(), after.into(), limit])
        }
    };
    let rows = connection.query_all_raw(statement).await?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok((columns.take()?, columns.take()?))
        })
        .collect()
}

/// Members of a segment by announced standing.
pub async fn standing_counts<C: ConnectionTrait>(connection: &C, id: &str) -> Result<Vec<pb::SegmentStandingCount>> {
    let text = "SELECT c.relationship, c.stage, c.code, c.tier, COUNT(*) FROM segment_member m \
                JOIN customer c ON c.customer_id = m.customer_id WHERE m.segment_id = $1 \
                GROUP BY c.relationship, c.stage, c.code, c.tier ORDER BY 1, 2, 3, 4";
    let rows = connection.query_all_raw(sql(connection, text, [id.into()])).await?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok(pb::SegmentStandingCount {
                relationship: columns.narrow()?,
                stage: columns.narrow()?,
                code: columns.narrow()?,
                tier: columns.narrow()?,
                customers: columns.take()?,
            })
        })
        .collect()
}

/// Customers above one who are in any segment, each with all of theirs.
pub async fn snapshot<C: ConnectionTrait>(
    connection: &C,
    after: Option<Uuid>,
    limit: u64,
) -> Result<Vec<(Uuid, pb::SegmentChange)>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let text = "SELECT customer_id, segment_id FROM segment_member WHERE customer_id IN \
                (SELECT DISTINCT customer_id FROM segment_member WHERE customer_id > $1 ORDER BY customer_id LIMIT $2) \
                ORDER BY customer_id, segment_id";
    // No id is nil.
    let values = [after.unwrap_or(Uuid::nil()).into(), limit.into()];
    let rows = connection.query_all_raw(sql(connection, text, values)).await?;
    let mut items: Vec<(Uuid, pb::SegmentChange)> = Vec::new();
    for row in &rows {
        let mut columns = Columns::of(row);
        let (customer, segment): (Uuid, String) = (columns.take()?, columns.take()?);
        match items.last_mut().filter(|(last, _)| *last == customer) {
            Some((_, item)) => item.entered.push(segment),
            None => {
                let item = pb::SegmentChange {
                    customer_id: customer.to_string(),
                    entered: vec![segment],
                    ..Default::default()
                };
                items.push((customer, item));
            }
        }
    }
    Ok(items)
}
