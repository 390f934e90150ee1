//! What is kept of the peers: where each customer stands (scoring) and which of their complaints are open (complaints).
//!
//! News of a customer who is not here is dropped. It can only be about an id that was never given out: ids are made here and leave this service after
//! their commit, so whoever speaks of one speaks later. (A database restored from a copy has lost customers for good; asked again, their
//! identities get new ids.)
use std::collections::{HashMap, HashSet};

use chassis::{
    Context, Db, Result, Tx,
    db::BoxFuture,
    feed::{Change, Entry, Event, Follow, follow},
};
use futures::{StreamExt, stream::BoxStream};
use proto::{
    common::v1::{FeedMark, FeedPosition},
    complaints::v1::{
        ComplaintChange, ComplaintState, WatchComplaintsRequest, complaints_client::ComplaintsClient,
        watch_complaints_response,
    },
    scoring::v1::{
        ScoreChange, Standing, WatchScoresRequest, scoring_client::ScoringClient, watch_scores_response,
    },
};
use tonic::Status;
use uuid::Uuid;

use crate::{
    api::TOPIC,
    customer::Customer,
    store::{self, Complaint},
};

/// Starts following both peers, until the service drains.
pub(crate) fn spawn(context: &Context, db: &Db) {
    let scoring = Follow { name: "scoring", db: db.clone() };
    let peers = context.peers.clone();
    let connect = move |cursor| {
        let peers = peers.clone();
        async move {
            let mut client = ScoringClient::new(peers.channel("scoring").map_err(Status::from)?);
            let changes = client.watch_scores(WatchScoresRequest { cursor, only_new: false }).await?.into_inner();
            let entries = changes.map(|message| {
                let message = message?;
                let event = message.event.map(|event| match event {
                    watch_scores_response::Event::Change(change) => Event::Change(change),
                    watch_scores_response::Event::Mark(mark) => known_mark(mark),
                });
                Ok(entry(message.position, event))
            });
            Ok(entries.boxed() as BoxStream<'static, _>)
        }
    };
    context.spawn("follow_scoring", follow(context.clone(), scoring, connect, apply_standings));

    let complaints = Follow { name: "complaints", db: db.clone() };
    let peers = context.peers.clone();
    let connect = move |cursor| {
        let peers = peers.clone();
        async move {
            let mut client = ComplaintsClient::new(peers.channel("complaints").map_err(Status::from)?);
            let changes =
                client.watch_complaints(WatchComplaintsRequest { cursor, only_new: false }).await?.into_inner();
            let entries = changes.map(|message| {
                let message = message?;
                let event = message.event.map(|event| match event {
                    watch_complaints_response::Event::Change(change) => Event::Change(change),
                    watch_complaints_response::Event::Mark(mark) => known_mark(mark),
                });
                Ok(entry(message.position, event))
            });
            Ok(entries.boxed() as BoxStream<'static, _>)
        }
    };
    context.spawn("follow_complaints", follow(context.clone(), complaints, connect, apply_complaints));
}

fn known_mark<M>(mark: i32) -> Event<M> {
    Event::Mark(FeedMark::try_from(mark).unwrap_or_default())
}

/// An event that this version does not know still moves the cursor.
fn entry<M>(position: Option<FeedPosition>, event: Option<Event<M>>) -> Entry<M> {
    Entry { position: position.unwrap_or_default(), event: event.unwrap_or(Event::Mark(FeedMark::Unspecified)) }
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
            let ids = (
                peer_id("complaints", &complaint.complaint_id),
                peer_id("complaints", &complaint.customer_id),
            );
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
        let complaints: Vec<_> = newest.into_values().filter(|complaint| here.contains(&complaint.customer_id)).collect();
        store::upsert_complaints(tx, &complaints).await?;
        let open = store::count_open_complaints(tx, &customers).await?;
        customers.retain_mut(|customer| {
            customer.follow_open_complaints(open.get(&customer.id).copied().unwrap_or(0), now)
        });
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
