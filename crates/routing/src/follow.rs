//! What is followed: standings from scoring, contact points from profiles, open complaints from complaints.
use chassis::{
    Context, Db, Result,
    feed::{Entry, Event, Follow, follow},
    server::MAX_MESSAGE_BYTES,
};
use futures::StreamExt;
use proto::{
    common::v1::{FeedMark, FeedPosition},
    complaints::v1::{
        self as complaints, complaints_client::ComplaintsClient, watch_complaints_response::Event as ComplaintEvent,
    },
    profiles::v1::{
        self as profiles, profiles_client::ProfilesClient, watch_customers_response::Event as CustomerEvent,
    },
    scoring::v1::{self as scoring, scoring_client::ScoringClient, watch_scores_response::Event as ScoreEvent},
};

use crate::{point::Key, store};

/// Starts the three followers. They go on until the service drains; a peer that is away is tried again for ever.
pub(crate) fn spawn(context: &Context, db: &Db, key: &Key) -> Result<()> {
    let named = |name| Follow { name, db: db.clone() };

    let client = ScoringClient::new(context.peers.channel("scoring")?).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let connect = move |cursor| {
        let mut client = client.clone();
        async move {
            let stream =
                client.watch_scores(scoring::WatchScoresRequest { cursor, only_new: false }).await?.into_inner();
            Ok(stream.map(|message| message.map(score_entry)).boxed())
        }
    };
    let task =
        follow(context.clone(), named("scoring"), connect, |tx, changes| Box::pin(store::apply_standings(tx, changes)));
    context.spawn("follow_scoring", task);

    let client = ProfilesClient::new(context.peers.channel("profiles")?).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let connect = move |cursor| {
        let mut client = client.clone();
        async move {
            let request = profiles::WatchCustomersRequest { cursor, only_new: false };
            let stream = client.watch_customers(request).await?.into_inner();
            Ok(stream.map(|message| message.map(customer_entry)).boxed())
        }
    };
    let key = key.clone();
    let task = follow(context.clone(), named("profiles"), connect, move |tx, changes| {
        let key = key.clone();
        Box::pin(async move { store::apply_customers(tx, &key, changes).await })
    });
    context.spawn("follow_profiles", task);

    let client =
        ComplaintsClient::new(context.peers.channel("complaints")?).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let connect = move |cursor| {
        let mut client = client.clone();
        async move {
            let request = complaints::WatchComplaintsRequest { cursor, only_new: false };
            let stream = client.watch_complaints(request).await?.into_inner();
            Ok(stream.map(|message| message.map(complaint_entry)).boxed())
        }
    };
    let task = follow(context.clone(), named("complaints"), connect, |tx, changes| {
        Box::pin(store::apply_complaints(tx, changes))
    });
    context.spawn("follow_complaints", task);
    Ok(())
}

fn entry<M>(position: Option<FeedPosition>, event: Event<M>) -> Entry<M> {
    Entry { position: position.unwrap_or_default(), event }
}

/// A mark that a newer peer may send: nothing to apply.
fn mark<M>(mark: i32) -> Event<M> {
    Event::Mark(FeedMark::try_from(mark).unwrap_or_default())
}

fn score_entry(message: scoring::WatchScoresResponse) -> Entry<scoring::ScoreChange> {
    let event = match message.event {
        Some(ScoreEvent::Change(change)) => Event::Change(change),
        Some(ScoreEvent::Mark(value)) => mark(value),
        None => mark(0),
    };
    entry(message.position, event)
}

fn customer_entry(message: profiles::WatchCustomersResponse) -> Entry<profiles::Customer> {
    let event = match message.event {
        Some(CustomerEvent::Customer(customer)) => Event::Change(customer),
        Some(CustomerEvent::Mark(value)) => mark(value),
        None => mark(0),
    };
    entry(message.position, event)
}

fn complaint_entry(message: complaints::WatchComplaintsResponse) -> Entry<complaints::ComplaintChange> {
    let event = match message.event {
        Some(ComplaintEvent::Change(change)) => Event::Change(change),
        Some(ComplaintEvent::Mark(value)) => mark(value),
        None => mark(0),
    };
    entry(message.position, event)
}
