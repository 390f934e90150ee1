//! What is kept of the peers: where each customer stands (scoring) and which of their complaints are open (complaints).
//!
//! It comes with the record for whoever reads it, and is not published again: who wants to hear of a standing follows scoring. Passed on by every
//! follower, one purchase would be written a dozen times.
//!
//! News of a customer who is not here shows nowhere. It can only be about an id that was never given out: ids are made here and leave this service after
//! their commit, so whoever speaks of one speaks later. (A database restored from a copy has lost customers for good; asked again, their
//! identities get new ids.)
use chassis::{
    Context, Db, Result, Tx,
    db::BoxFuture,
    feed::{self, Change, Newest, Turn},
};
use proto::{
    complaints::v1::ComplaintChange,
    scoring::v1::{ScoreChange, Standing},
};
use sea_orm::Value;
use uuid::Uuid;

use crate::{
    customer::micros,
    store::{self, COMPLAINTS, STANDINGS},
};

/// Starts following both peers, until the service drains.
///
/// # Errors
/// `Invalid` where one of them is not configured.
pub(crate) fn spawn(context: &Context, db: &Db) -> Result<()> {
    feed::spawn_follow::<feed::Scores, _, _>(context, db, apply_standings)?;
    feed::spawn_follow_whole::<feed::Complaints, _, _>(context, db, apply_complaints, drop_lost_complaints)
}

/// Keeps the newest standing of each customer.
pub(crate) fn apply_standings<'c>(tx: &'c Tx<'_>, changes: &'c [Change<ScoreChange>]) -> BoxFuture<'c, Result<()>> {
    Box::pin(async move {
        let news = feed::newest(changes, |change| {
            let standing = change.standing.as_ref()?;
            Some((standing.customer_id.as_str(), standing.revision, standing))
        });
        let row = |id: Uuid, news: &Newest<'_, &Standing>| -> [Value; 8] {
            let standing = news.item;
            [
                id.into(),
                standing.revision.into(),
                standing.relationship.into(),
                standing.stage.into(),
                standing.tier.into(),
                standing.code.into(),
                standing.estimated.into(),
                standing.since.as_ref().map(micros).into(),
            ]
        };
        STANDINGS.keep(tx, &news, row).await
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
        let mut news = feed::newest(changes, |change| {
            let complaint = change.complaint.as_ref()?;
            let customer_id = peer_id("complaints", &complaint.customer_id)?;
            Some((complaint.complaint_id.as_str(), complaint.revision, (customer_id, complaint.state().is_open())))
        });
        // The lock first: who counts under it counts what all others have written.
        let here = store::lock(tx, &news.values().map(|news| news.item.0).collect()).await?;
        news.retain(|_, news| here.contains(&news.item.0));
        let row = |id: Uuid, news: &Newest<'_, (Uuid, bool)>| {
            let (customer_id, open) = news.item;
            [id.into(), customer_id.into(), news.revision.into(), open.into()]
        };
        COMPLAINTS.keep(tx, &news, row).await?;
        store::count_open_complaints(tx, &here).await
    })
}

/// Drops the complaints that a whole snapshot did not name: those that its service lost would pause selling for ever.
pub(crate) fn drop_lost_complaints<'c>(tx: &'c Tx<'_>, turn: Turn) -> BoxFuture<'c, Result<()>> {
    Box::pin(async move {
        match turn {
            Turn::Begins => COMPLAINTS.doubt(tx).await,
            Turn::Complete => {
                // All at once, and in a transaction of its own: locked bit by bit they would not be locked in order.
                let lost = COMPLAINTS.drop_doubted(tx).await?;
                let here = store::lock(tx, &lost).await?;
                store::count_open_complaints(tx, &here).await
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

#[cfg(test)]
mod tests {
    use chassis::{
        Clock, Error, Ids,
        db::sql,
        testing::{Backend, TempDb, eventually, noon, postgres_or_say_so},
    };
    use sea_orm::ConnectionTrait;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        customer::{Customer, Details},
        migrations::Migrator,
    };

    /// So many that they are locked in several statements.
    const LOST: usize = 4_000;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_customers_of_lost_complaints_are_locked_in_the_order_of_their_ids() {
        // SQLite has one writer and no locks of rows.
        if !postgres_or_say_so() {
            return;
        }
        let (temp, clock) = (TempDb::new(Backend::Postgres).await, Clock::mock(noon()));
        let (db, ids) = (Db::connect::<Migrator>(temp.url(), &clock).await.unwrap(), Ids::new(clock));
        let new = || Customer::new(ids.next(), Details::kept(Default::default()), noon());
        let customers: Vec<Customer> = std::iter::repeat_with(new).take(LOST).collect();
        let first = customers.iter().map(|customer| customer.id).min().unwrap();
        let made = db.run_tx::<_, Error, _>("test", |tx| {
            let customers = &customers;
            Box::pin(async move {
                for some in customers.chunks(1_000) {
                    store::insert(tx, some).await?;
                }
                let text = "INSERT INTO complaint (complaint_id, customer_id, revision, open) \
                            SELECT customer_id, customer_id, -1, TRUE FROM customer";
                Ok(tx.execute_unprepared(text).await?)
            })
        });
        made.await.unwrap();

        // Somebody holds the first of them …
        let (holds, held) = oneshot::channel();
        let (release, released) = oneshot::channel::<()>();
        let channels = std::sync::Mutex::new(Some((holds, released)));
        let holder = tokio::spawn({
            let db = db.clone();
            async move {
                let hold = db.run_tx::<_, Error, _>("hold", |tx| {
                    let channels = channels.lock().unwrap().take();
                    Box::pin(async move {
                        store::lock(tx, &[first].into()).await?;
                        let (holds, released) = channels.unwrap();
                        holds.send(()).unwrap();
                        released.await.unwrap();
                        Ok(())
                    })
                });
                hold.await.unwrap();
            }
        });
        held.await.unwrap();
        let dropping = tokio::spawn({
            let db = db.clone();
            async move { db.run_tx("drop", |tx| drop_lost_complaints(tx, Turn::Complete)).await.unwrap() }
        });
        let number = async |text: &'static str| {
            let counted = db.run_tx::<_, Error, _>("count", |tx| {
                Box::pin(async move { Ok(tx.query_all_raw(sql(&**tx, text, [])).await?.len()) })
            });
            counted.await.unwrap()
        };
        let waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("it waits for the first", || async { number(waits).await == 1 }).await;
        // … and so all others are still free.
        assert_eq!(number("SELECT 1 FROM customer FOR UPDATE SKIP LOCKED").await, LOST - 1);
        release.send(()).unwrap();
        holder.await.unwrap();
        dropping.await.unwrap();
        assert_eq!(number("SELECT 1 FROM complaint").await, 0);
    }
}
