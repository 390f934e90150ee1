//! What is kept of scoring: each customer's tier. A tier that changes changes what is allowed in the customer's open cases, in the same transaction.
use std::{collections::BTreeMap, sync::Arc};

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
use uuid::Uuid;

use crate::{
    api,
    complaint::{Present, Rules},
    store::{self, Standing},
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
    // By id, which is also the order of locking; of several changes of one customer the newest counts.
    let mut news = BTreeMap::<Uuid, Standing>::new();
    for change in changes {
        let Some(standing) = &change.message.standing else { continue };
        let Ok(id) = Uuid::parse_str(&standing.customer_id) else {
            // One malformed change must not hold up all the others for ever.
            tracing::warn!(sequence = change.sequence, "change of a score without a customer's id; passed over");
            continue;
        };
        let next = Standing { tier: standing.tier(), revision: standing.revision };
        let known = news.entry(id).or_insert(next);
        if known.revision < next.revision {
            *known = next;
        }
    }
    let changed = store::put_standings(tx, &news).await?;
    for complaint in store::lock_open_of(tx, &changed).await? {
        let Some(standing) = news.get(&complaint.customer_id) else { continue };
        let present = Present { now: tx.clock().now(), tier: standing.tier, rules };
        if let Some((complaint, step)) = complaint.follow_tier(&present) {
            api::save(tx, &complaint, &step, rules).await?;
        }
    }
    Ok(())
}
