//! What is followed: standings from scoring, contact points from profiles, open complaints from complaints.
use chassis::{Context, Db, Error, Result, feed};

use crate::{point::Key, store};

/// Starts the three followers. They go on until the service drains; a peer that is away is tried again for ever.
pub(crate) fn spawn(context: &Context, db: &Db, key: &Key) -> Result<()> {
    feed::spawn_follow::<feed::Scores, Error, _>(context, db, |tx, changes| {
        Box::pin(store::apply_standings(tx, changes))
    })?;
    let key = key.clone();
    feed::spawn_follow::<feed::Customers, Error, _>(context, db, move |tx, changes| {
        let key = key.clone();
        Box::pin(async move { store::apply_customers(tx, &key, changes).await })
    })?;
    feed::spawn_follow_whole::<feed::Complaints, Error, _>(
        context,
        db,
        |tx, changes| Box::pin(store::apply_complaints(tx, changes)),
        |tx, turn| Box::pin(store::drop_lost_complaints(tx, turn)),
    )
}
