//! What is kept of the peers: where each customer stands (scoring) and which of their complaints are open (complaints).
//!
//! News of a customer who is not here is dropped. It can only be about an id that was never given out: ids are made here and leave this service after
//! their commit, so whoever speaks of one speaks later. (A database restored from a copy has lost customers for good; asked again, their
//! identities get new ids.)
use std::collections::{HashMap, HashSet};

use chassis::{
    Context, Db, Result, Tx,
    db::BoxFuture,
    feed::{self, Change},
};
use proto::{
    complaints::v1::{ComplaintChange, ComplaintState},
    scoring::v1::{ScoreChange, Standing},
};
use uuid::Uuid;

use crate::{
    api::TOPIC,
    customer::Customer,
    store::{self, Complaint},
};

/// Starts following both peers, until the service drains.
///
/// # Errors
/// `Peer` where one of them is not configured.
pub(crate) fn spawn(context: &Context, db: &Db) -> Result<()> {
    feed::spawn_follow::<feed::Scores, _, _>(context, db, apply_standings)?;
    feed::spawn_follow::<feed::Complaints, _, _>(context, db, apply_complaints)
}

/// Puts the newest standing of each customer onto the record.
pub(crate) fn apply_standings<'c>(tx: &'c Tx<'_>, changes: &'c [Change<ScoreChange>]) -> BoxFuture<'c, Result<()>> {
    Box::pin(async move {
        let mut newest: HashMap<Uuid, &Standing> = HashMap::with_capacity(changes.len());
        for standing in changes.iter().filter_map(|change| change.message.standing.as_ref()) {
            let Some(id) = peer_id("scoring", &standing.customer_id) else { continue };
            let known = newest.entry(id).or_insert(standing);
            if standing.revision > known.revision {
                *known = standing;
            }
        }
        let now = tx.clock().now();
        let mut customers = store::find_many_for_update(tx, newest.keys().copied().collect()).await?;
        customers.retain_mut(|customer| {
            newest.get(&customer.id).is_some_and(|standing| customer.follow_standing(standing, now))
        });
        save(tx, &customers).await
    })
}

/// Keeps which complaints are open and puts their number onto the record.
///
/// The number is counted here, not taken from the change: a count has no revision of its own, and in a snapshot each complaint brings the count of another
/// moment. A complaint has one, so what is kept is right in whatever order news comes.
pub(crate) fn apply_complaints<'c>(
    tx: &'c Tx<'_>,
    changes: &'c [Change<ComplaintChange>],
) -> BoxFuture<'c, Result<()>> {
    Box::pin(async move {
        let mut newest: HashMap<Uuid, Complaint> = HashMap::with_capacity(changes.len());
        for complaint in changes.iter().filter_map(|change| change.message.complaint.as_ref()) {
            let ids = (peer_id("complaints", &complaint.complaint_id), peer_id("complaints", &complaint.customer_id));
            let (Some(id), Some(customer_id)) = ids else { continue };
            let open = !matches!(complaint.state(), ComplaintState::Resolved | ComplaintState::Closed);
            let complaint = Complaint { id, customer_id, revision: complaint.revision, open };
            let known = newest.entry(id).or_insert(complaint);
            if complaint.revision > known.revision {
                *known = complaint;
            }
        }
        let now = tx.clock().now();
        let ids = newest.values().map(|complaint| complaint.customer_id).collect();
        // The lock first: who counts under it counts what all others have written.
        let mut customers = store::find_many_for_update(tx, ids).await?;
        let here: HashSet<Uuid> = customers.iter().map(|customer| customer.id).collect();
        let complaints: Vec<_> =
            newest.into_values().filter(|complaint| here.contains(&complaint.customer_id)).collect();
        store::upsert_complaints(tx, &complaints).await?;
        let open = store::count_open_complaints(tx, &customers).await?;
        customers
            .retain_mut(|customer| customer.follow_open_complaints(open.get(&customer.id).copied().unwrap_or(0), now));
        save(tx, &customers).await
    })
}

async fn save(tx: &Tx<'_>, customers: &[Customer]) -> Result<()> {
    store::update_followed(tx, customers).await?;
    for customer in customers {
        tx.publish(TOPIC, customer.id, &customer.to_proto());
    }
    Ok(())
}

/// An id as a peer sent it. One that is none would be the peer's fault; a follower that stops for it would never go on.
fn peer_id(peer: &'static str, text: &str) -> Option<Uuid> {
    let id = Uuid::parse_str(text).ok();
    if id.is_none() {
        tracing::error!(peer, "a change without a valid id was skipped");
    }
    id
}
