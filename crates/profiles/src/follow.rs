//! What is kept of the peers: where each customer stands (scoring) and which of their complaints are open (complaints).
//!
//! It stands on the record for whoever reads it, and is not published again: who wants to hear of a standing follows scoring. Passed on by every
//! follower, one purchase would be written a dozen times.
//!
//! News of a customer who is not here is dropped. It can only be about an id that was never given out: ids are made here and leave this service after
//! their commit, so whoever speaks of one speaks later. (A database restored from a copy has lost customers for good; asked again, their
//! identities get new ids.)
use std::collections::BTreeSet;

use chassis::{
    Context, Db, Result, Tx,
    db::BoxFuture,
    feed::{self, Change, Newest, Turn},
};
use proto::{complaints::v1::ComplaintChange, scoring::v1::ScoreChange};
use uuid::Uuid;

use crate::store::{self, Complaint};

/// Starts following both peers, until the service drains.
///
/// # Errors
/// `Invalid` where one of them is not configured.
pub(crate) fn spawn(context: &Context, db: &Db) -> Result<()> {
    feed::spawn_follow::<feed::Scores, _, _>(context, db, apply_standings)?;
    feed::spawn_follow_whole::<feed::Complaints, _, _>(context, db, apply_complaints, drop_lost_complaints)
}

/// Puts the newest standing of each customer onto the record.
pub(crate) fn apply_standings<'c>(tx: &'c Tx<'_>, changes: &'c [Change<ScoreChange>]) -> BoxFuture<'c, Result<()>> {
    Box::pin(async move {
        let news = feed::newest(changes, |change| {
            let standing = change.standing.as_ref()?;
            Some((standing.customer_id.as_str(), standing.revision, standing))
        });
        store::lock(tx, news.keys().copied()).await?;
        let (authoritative, newer_only): (Vec<_>, Vec<_>) = news.into_iter().partition(|(_, news)| news.authoritative);
        for (news, replaces) in [(authoritative, true), (newer_only, false)] {
            store::put_standings(tx, news.iter().map(|(id, news)| (*id, news.item)), replaces).await?;
        }
        Ok(())
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
        let news = feed::newest(changes, |change| {
            let complaint = change.complaint.as_ref()?;
            let customer_id = peer_id("complaints", &complaint.customer_id)?;
            Some((complaint.complaint_id.as_str(), complaint.revision, (customer_id, complaint.state().is_open())))
        });
        // The lock first: who counts under it counts what all others have written.
        let ids: BTreeSet<Uuid> = news.values().map(|news| news.item.0).collect();
        let here = store::lock(tx, ids.into_iter()).await?;
        let (mut authoritative, mut newer_only) = (Vec::new(), Vec::new());
        for (id, Newest { item: (customer_id, open), revision, authoritative: replaces, .. }) in news {
            if here.contains(&customer_id) {
                let into = if replaces { &mut authoritative } else { &mut newer_only };
                into.push(Complaint { id, customer_id, revision, open });
            }
        }
        store::upsert_complaints(tx, &authoritative, true).await?;
        store::upsert_complaints(tx, &newer_only, false).await?;
        store::count_open_complaints(tx, &here).await
    })
}

/// Drops the complaints that a whole snapshot did not name: those that its service lost would pause selling for ever.
pub(crate) fn drop_lost_complaints<'c>(tx: &'c Tx<'_>, turn: Turn) -> BoxFuture<'c, Result<()>> {
    Box::pin(async move {
        match turn {
            Turn::Begins => store::doubt_complaints(tx).await,
            Turn::Complete => {
                while let Some(ids) = store::find_doubted(tx).await? {
                    let here = store::lock(tx, ids.iter().copied()).await?;
                    store::delete_doubted(tx, &ids).await?;
                    store::count_open_complaints(tx, &here).await?;
                }
                Ok(())
            }
        }
    })
}

/// An id as a peer sent it. One that is none would be the peer's fault; a follower that stops for it would never go on.
fn peer_id(peer: &'static str, text: &str) -> Option<Uuid> {
    let id = Uuid::parse_str(text).ok();
    if id.is_none() {
        tracing::error!(peer, "a change without a valid id was skipped");
    }
    id
}
