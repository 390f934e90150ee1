//! The projections: what the other services say of a customer. Every change of them is published to the views in the same transaction.
//!
//! Rows are written in order of their ids, so that two followers that write the same customers cannot lock each other out.
use std::collections::{BTreeMap, BTreeSet};

use chassis::{
    Result, Tx,
    clock::at_micros,
    db::{BoxFuture, bulk, sql},
    feed::{self, Kept, Turn},
};
use proto::{complaints::v1 as complaints, profiles::v1 as profiles, scoring::v1 as scoring};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, QueryResult, TryGetable};
use uuid::Uuid;

use super::{VIEW, setup::setup_message};
use crate::{
    point::{Key, to_bytes},
    view::{Announced, Change, CustomerMessage, Part},
};

fn id_of(row: &QueryResult) -> Result<Uuid> {
    Ok(Uuid::try_get(row, "", "customer_id").map_err(DbErr::from)?)
}

/// Tells every replica's view. `cause` is the trace of the call that a standing comes from: decisions link to it.
fn publish(tx: &Tx<'_>, id: Uuid, message: CustomerMessage, cause: &str) {
    let message = CustomerMessage { customer_id: id.as_bytes().to_vec(), ..message };
    tx.publish_caused(VIEW, id, &Change { part: Some(Part::Customer(message)) }, cause);
}

const STANDINGS: Kept<8> = Kept {
    table: "customer",
    key: "customer_id",
    revision: "standing_revision",
    columns: &["standing_revision", "relationship", "stage", "tier", "code", "estimated", "since"],
    shows_revision: true,
};
const POINTS: Kept<3> = Kept {
    table: "customer",
    key: "customer_id",
    revision: "profile_revision",
    columns: &["profile_revision", "points"],
    shows_revision: true,
};
const COMPLAINTS: Kept<4> = Kept {
    table: "pause",
    key: "complaint_id",
    revision: "revision",
    columns: &["revision", "customer_id", "is_open"],
    shows_revision: true,
};

/// Where customers stand, as scoring announced it.
pub(crate) async fn apply_standings(tx: &Tx<'_>, changes: &[feed::Change<scoring::ScoreChange>]) -> Result<()> {
    let news = feed::newest(changes, |change| {
        let standing = change.standing.as_ref()?;
        Some((standing.customer_id.as_str(), standing.revision, standing))
    });
    let changed = STANDINGS.put(tx, &news, |id, news| {
        let Announced { revision, standing, since } = Announced::from(news.item);
        [
            id.into(),
            revision.into(),
            i32::from(standing.relationship).into(),
            i32::from(standing.stage).into(),
            i32::from(standing.tier).into(),
            i32::from(standing.code).into(),
            standing.estimated.into(),
            since.into(),
        ]
    });
    for id in changed.await? {
        if let Some(news) = news.get(&id) {
            let standing = scoring::Standing { customer_id: String::new(), ..news.item.clone() };
            publish(tx, id, CustomerMessage { standing: Some(standing), ..Default::default() }, news.cause);
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
    let news = feed::newest(changes, |customer| Some((customer.customer_id.as_str(), customer.revision, customer)));
    let points: BTreeMap<Uuid, Vec<u8>> = news.iter().map(|(id, news)| (*id, to_bytes(&key.of(news.item)))).collect();
    let changed = POINTS.put(tx, &news, |id, news| [id.into(), news.revision.into(), points.get(&id).cloned().into()]);
    for id in changed.await? {
        let points = points.get(&id).cloned();
        publish(tx, id, CustomerMessage { points, ..Default::default() }, "");
    }
    Ok(())
}

/// Complaints, as their service published them. Counted here rather than taken over: then the count is right whatever the order in
/// which a snapshot and the changes after it come.
pub(crate) async fn apply_complaints(tx: &Tx<'_>, changes: &[feed::Change<complaints::ComplaintChange>]) -> Result<()> {
    let news = feed::newest(changes, |change| {
        let complaint = change.complaint.as_ref()?;
        let Ok(customer_id) = Uuid::parse_str(&complaint.customer_id) else {
            tracing::warn!("a followed complaint has no valid customer; it is left out");
            return None;
        };
        Some((complaint.complaint_id.as_str(), complaint.revision, (customer_id, complaint.state().is_open())))
    });
    let changed = COMPLAINTS.put(tx, &news, |id, news| {
        let (customer_id, is_open) = news.item;
        [id.into(), news.revision.into(), customer_id.into(), is_open.into()]
    });
    count_open(tx, changed.await?).await
}

/// Drops the complaints that a whole snapshot did not name: those that their service lost would pause selling for ever.
pub(crate) async fn drop_lost_complaints(tx: &Tx<'_>, turn: Turn) -> Result<()> {
    match turn {
        Turn::Begins => COMPLAINTS.doubt(tx).await,
        Turn::Complete => count_open(tx, COMPLAINTS.drop_doubted(tx).await?).await,
    }
}

/// Counts the open complaints of these customers anew and publishes how many they are.
async fn count_open(tx: &Tx<'_>, customers: BTreeSet<Uuid>) -> Result<()> {
    let mut open: BTreeMap<Uuid, i32> = customers.iter().map(|id| (*id, 0)).collect();
    let head = "SELECT customer_id, COUNT(*) AS n FROM pause WHERE is_open AND customer_id IN (";
    let ids = open.keys().map(|id| [(*id).into()]);
    for row in bulk::query(&**tx, head, ids, ") GROUP BY customer_id").await? {
        let n = i64::try_get(&row, "", "n").map_err(DbErr::from)?;
        open.insert(id_of(&row)?, i32::try_from(n).unwrap_or(i32::MAX));
    }
    let head = "INSERT INTO customer (customer_id, open_complaints)";
    let tail = " ON CONFLICT (customer_id) DO UPDATE SET open_complaints = excluded.open_complaints";
    bulk::insert(&**tx, head, open.iter().map(|(id, open)| [(*id).into(), (*open).into()]), tail).await?;
    for (id, open) in open {
        let open_complaints = Some(u32::try_from(open).unwrap_or(0));
        publish(tx, id, CustomerMessage { open_complaints, ..Default::default() }, "");
    }
    Ok(())
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
