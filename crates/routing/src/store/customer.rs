//! The projections: what the other services say of a customer. Every change of them is published to the views in the same transaction.
//!
//! Rows are written in order of their ids, so that two followers that write the same customers cannot lock each other out.
use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt::Write,
};

use chassis::{
    Result, Tx,
    clock::at_micros,
    db::{BoxFuture, sql},
    feed,
};
use proto::{complaints::v1 as complaints, profiles::v1 as profiles, scoring::v1 as scoring};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, QueryResult, TryGetable, Value};
use uuid::Uuid;

use super::{VIEW, setup::setup_message};
use crate::{
    decide::Standing,
    point::{Key, to_bytes},
    view::{Change, CustomerMessage, Part},
};

/// Rows in one statement: far below the bind limits of both databases with the ten columns of the widest one.
const ROWS: usize = 1_000;

/// The newest of each id, by id. An id that is none cannot be followed: it is named in the log, and the rest goes on.
fn newest<'c, T>(items: impl Iterator<Item = (&'c str, i64, T)>) -> BTreeMap<Uuid, (i64, T)> {
    let mut newest = BTreeMap::new();
    for (id, revision, item) in items {
        let Ok(id) = Uuid::parse_str(id) else {
            tracing::warn!("a followed change has no valid id; it is left out");
            continue;
        };
        match newest.entry(id) {
            Entry::Vacant(vacant) => {
                vacant.insert((revision, item));
            }
            Entry::Occupied(mut occupied) if occupied.get().0 < revision => {
                occupied.insert((revision, item));
            }
            Entry::Occupied(_) => {}
        }
    }
    newest
}

/// `head VALUES ($1, …), (…) tail`, run for chunks of rows; the rows that it returns.
async fn write_rows(tx: &Tx<'_>, head: &str, rows: Vec<Vec<Value>>, tail: &str) -> Result<Vec<QueryResult>> {
    let mut returned = Vec::new();
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        let mut text = format!("{head} VALUES ");
        let mut values = Vec::new();
        for row in rows.by_ref().take(ROWS) {
            text.push_str(if values.is_empty() { "(" } else { ",(" });
            for (index, value) in row.into_iter().enumerate() {
                values.push(value);
                let _ = write!(text, "{}${}", if index == 0 { "" } else { "," }, values.len());
            }
            text.push(')');
        }
        let _ = write!(text, " {tail}");
        returned.extend(tx.query_all_raw(sql(&**tx, text, values)).await?);
    }
    Ok(returned)
}

fn id_of(row: &QueryResult) -> Result<Uuid> {
    Ok(Uuid::try_get(row, "", "customer_id").map_err(DbErr::from)?)
}

fn publish(tx: &Tx<'_>, id: Uuid, message: CustomerMessage) {
    let message = CustomerMessage { customer_id: id.as_bytes().to_vec(), ..message };
    tx.publish(VIEW, id, &Change { part: Some(Part::Customer(message)) });
}

/// Where customers stand, as scoring announced it.
pub(crate) async fn apply_standings(tx: &Tx<'_>, changes: &[feed::Change<scoring::ScoreChange>]) -> Result<()> {
    let standings = changes.iter().filter_map(|change| change.message.standing.as_ref());
    let newest = newest(standings.map(|standing| (standing.customer_id.as_str(), standing.revision, standing)));
    let row = |(id, (_, from)): (&Uuid, &(i64, &scoring::Standing))| {
        let standing = Standing::from(*from);
        vec![
            (*id).into(),
            standing.revision.into(),
            i32::from(standing.relationship).into(),
            i32::from(standing.stage).into(),
            i32::from(standing.tier).into(),
            i32::from(standing.code).into(),
            standing.estimated.into(),
            standing.since.into(),
        ]
    };
    let head = "INSERT INTO customer \
                (customer_id, standing_revision, relationship, stage, tier, code, estimated, since)";
    let tail = "ON CONFLICT (customer_id) DO UPDATE SET standing_revision = excluded.standing_revision, \
                relationship = excluded.relationship, stage = excluded.stage, tier = excluded.tier, \
                code = excluded.code, estimated = excluded.estimated, since = excluded.since \
                WHERE customer.standing_revision < excluded.standing_revision RETURNING customer_id";
    for row in write_rows(tx, head, newest.iter().map(row).collect(), tail).await? {
        let id = id_of(&row)?;
        if let Some((_, standing)) = newest.get(&id) {
            let standing = scoring::Standing { customer_id: String::new(), ..(*standing).clone() };
            publish(tx, id, CustomerMessage { standing: Some(standing), ..Default::default() });
        }
    }
    Ok(())
}

/// The contact points of records, as profiles published them. Only hashes are kept.
pub(crate) async fn apply_customers(
    tx: &Tx<'_>,
    key: &Key,
    changes: &[feed::Change<profiles::Customer>],
) -> Result<()> {
    let customers = changes.iter().map(|change| &change.message);
    let newest = newest(
        customers.map(|customer| (customer.customer_id.as_str(), customer.revision, to_bytes(&key.of(customer)))),
    );
    let row = |(id, (revision, points)): (&Uuid, &(i64, Vec<u8>))| {
        vec![(*id).into(), (*revision).into(), points.clone().into()]
    };
    let head = "INSERT INTO customer (customer_id, profile_revision, points)";
    let tail = "ON CONFLICT (customer_id) DO UPDATE SET profile_revision = excluded.profile_revision, \
                points = excluded.points WHERE customer.profile_revision < excluded.profile_revision \
                RETURNING customer_id";
    for row in write_rows(tx, head, newest.iter().map(row).collect(), tail).await? {
        let id = id_of(&row)?;
        if let Some((_, points)) = newest.get(&id) {
            publish(tx, id, CustomerMessage { points: Some(points.clone()), ..Default::default() });
        }
    }
    Ok(())
}

/// Complaints, as their service published them. Counted here rather than taken over: then the count is right whatever the order in
/// which a snapshot and the changes after it come.
pub(crate) async fn apply_complaints(tx: &Tx<'_>, changes: &[feed::Change<complaints::ComplaintChange>]) -> Result<()> {
    let cases = changes.iter().filter_map(|change| change.message.complaint.as_ref());
    let newest = newest(cases.map(|case| (case.complaint_id.as_str(), case.revision, case)));
    let mut rows = Vec::new();
    for (id, (revision, case)) in &newest {
        let Ok(customer_id) = Uuid::parse_str(&case.customer_id) else {
            tracing::warn!("a followed complaint has no valid customer; it is left out");
            continue;
        };
        rows.push(vec![(*id).into(), customer_id.into(), (*revision).into(), is_open(case.state()).into()]);
    }
    let head = "INSERT INTO pause (complaint_id, customer_id, revision, is_open)";
    let tail = "ON CONFLICT (complaint_id) DO UPDATE SET revision = excluded.revision, is_open = excluded.is_open \
                WHERE pause.revision < excluded.revision RETURNING customer_id";
    let mut open = BTreeMap::new();
    for row in write_rows(tx, head, rows, tail).await? {
        open.insert(id_of(&row)?, 0_i32);
    }
    let ids: Vec<Uuid> = open.keys().copied().collect();
    for chunk in ids.chunks(ROWS) {
        let marks: Vec<_> = (2..chunk.len() + 2).map(|n| format!("${n}")).collect();
        let text = format!(
            "SELECT customer_id, COUNT(*) AS n FROM pause WHERE is_open = $1 AND customer_id IN ({}) GROUP BY customer_id",
            marks.join(",")
        );
        let values = std::iter::once(Value::from(true)).chain(chunk.iter().map(|id| (*id).into()));
        for row in tx.query_all_raw(sql(&**tx, text, values)).await? {
            let n = i64::try_get(&row, "", "n").map_err(DbErr::from)?;
            open.insert(id_of(&row)?, i32::try_from(n).unwrap_or(i32::MAX));
        }
    }
    let rows = open.iter().map(|(id, open)| vec![(*id).into(), (*open).into()]).collect();
    let head = "INSERT INTO customer (customer_id, open_complaints)";
    let tail = "ON CONFLICT (customer_id) DO UPDATE SET open_complaints = excluded.open_complaints";
    write_rows(tx, head, rows, tail).await?;
    for (id, open) in open {
        let open_complaints = Some(u32::try_from(open).unwrap_or(0));
        publish(tx, id, CustomerMessage { open_complaints, ..Default::default() });
    }
    Ok(())
}

/// Whether selling pauses for it.
fn is_open(state: complaints::ComplaintState) -> bool {
    use complaints::ComplaintState::{Closed, Filed, Open, Reopened, Resolved, Unspecified, Waiting};
    match state {
        Filed | Open | Waiting | Reopened => true,
        Resolved | Closed | Unspecified => false,
    }
}

/// All that a view holds: the channels and queues first, then the customers by id.
pub(crate) fn view_snapshot(
    tx: &DatabaseTransaction,
    after: Option<Uuid>,
    limit: u64,
) -> BoxFuture<'_, Result<Vec<(Uuid, Change)>>> {
    Box::pin(async move {
        let mut items = Vec::new();
        let mut limit = i64::try_from(limit).unwrap_or(i64::MAX);
        if after.is_none() {
            items.push((Uuid::nil(), setup_message(tx).await?));
            limit -= 1;
        }
        let text = "SELECT customer_id, standing_revision, relationship, stage, tier, code, estimated, since, points, \
                    open_complaints FROM customer WHERE customer_id > $1 ORDER BY customer_id LIMIT $2";
        let values = [after.unwrap_or_default().into(), limit.into()];
        for row in tx.query_all_raw(sql(tx, text, values)).await? {
            let id = id_of(&row)?;
            let number = |column| i32::try_get(&row, "", column).map_err(DbErr::from);
            let large = |column| i64::try_get(&row, "", column).map_err(DbErr::from);
            let revision = large("standing_revision")?;
            let since = large("since")?;
            let standing = scoring::Standing {
                customer_id: String::new(),
                revision,
                relationship: number("relationship")?,
                stage: number("stage")?,
                tier: number("tier")?,
                code: number("code")?,
                estimated: bool::try_get(&row, "", "estimated").map_err(DbErr::from)?,
                since: (since != 0).then(|| chassis::clock::to_proto(at_micros(since))),
            };
            let message = CustomerMessage {
                customer_id: id.as_bytes().to_vec(),
                // Nothing was ever heard of one whose revision is zero.
                standing: (revision > 0).then_some(standing),
                points: Option::<Vec<u8>>::try_get(&row, "", "points").map_err(DbErr::from)?,
                open_complaints: u32::try_from(number("open_complaints")?).ok(),
                whole: true,
            };
            items.push((id, Change { part: Some(Part::Customer(message)) }));
        }
        Ok(items)
    })
}
