//! What is kept of scoring: each customer's tier. A tier that changes changes what is allowed in the customer's open cases, in the same transaction.
use std::sync::Arc;

use chassis::{
    Context, Db, Result, Tx,
    feed::{self, Change, Entry, Event, Follow},
};
use futures::StreamExt;
use proto::{
    common::v1::FeedMark,
    scoring::v1::{
        ScoreChange, WatchScoresRequest, WatchScoresResponse, scoring_client::ScoringClient, watch_scores_response,
    },
};

use crate::{
    api,
    complaint::{Present, Rules},
    store,
};

/// Starts to follow scoring.
///
/// # Errors
/// `Peer` where scoring is not configured.
pub(crate) fn spawn(context: &Context, db: &Db, rules: &Arc<Rules>) -> Result<()> {
    let channel = context.peers.channel("scoring")?;
    let connect = move |cursor| {
        let mut client = ScoringClient::new(channel.clone());
        async move {
            let request = WatchScoresRequest { cursor, only_new: false };
            let stream = client.watch_scores(request).await?.into_inner();
            Ok(stream.map(|message| message.map(entry)).boxed())
        }
    };
    let rules = Arc::clone(rules);
    let follow = Follow { name: "scoring", db: db.clone() };
    let task = feed::follow(context.clone(), follow, connect, move |tx, changes| {
        let rules = Arc::clone(&rules);
        Box::pin(async move { apply(tx, changes, &rules).await })
    });
    context.spawn("follow_scoring", task);
    Ok(())
}

fn entry(message: WatchScoresResponse) -> Entry<ScoreChange> {
    use watch_scores_response::Event as Sent;
    let event = match message.event {
        Some(Sent::Change(change)) => Event::Change(change),
        Some(Sent::Mark(mark)) => Event::Mark(FeedMark::try_from(mark).unwrap_or_default()),
        // A kind of event that a newer version sends: nothing to apply, and the cursor moves on.
        None => Event::Mark(FeedMark::Unspecified),
    };
    Entry { position: message.position.unwrap_or_default(), event }
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
