//! What is kept of scoring: each customer's tier. A tier that changes changes what is allowed in the customer's open cases, in the same transaction.
use std::sync::Arc;

use chassis::{
    Context, Db, Error, Result, Tx,
    feed::{self, Change},
};
use proto::scoring::v1::ScoreChange;

use crate::{
    api,
    complaint::{Present, Rules},
    store,
};

/// Starts to follow scoring.
///
/// # Errors
/// `Invalid` where scoring is not configured.
pub(crate) fn spawn(context: &Context, db: &Db, rules: &Arc<Rules>) -> Result<()> {
    let rules = Arc::clone(rules);
    feed::spawn_follow::<feed::Scores, Error, _>(context, db, move |tx, changes| {
        let rules = Arc::clone(&rules);
        Box::pin(async move { apply(tx, changes, &rules).await })
    })
}

async fn apply(tx: &Tx<'_>, changes: &[Change<ScoreChange>], rules: &Rules) -> Result<()> {
    let news = feed::newest(changes, |change| {
        let standing = change.standing.as_ref()?;
        Some((standing.customer_id.as_str(), standing.revision, standing.tier()))
    });
    let changed = store::put_tiers(tx, &news).await?;
    for complaint in store::lock_open_of(tx, &changed).await? {
        let Some(news) = news.get(&complaint.customer_id) else { continue };
        let present = Present { now: tx.clock().now(), tier: news.item, rules };
        if let Some((complaint, step)) = complaint.follow_tier(&present) {
            api::save(tx, &complaint, &step, rules).await?;
        }
    }
    Ok(())
}
