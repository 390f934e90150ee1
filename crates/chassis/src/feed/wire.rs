//! The suite's feeds as they go over the wire: one line for each `Watch…` RPC, so that publishing and following look alike everywhere.
use std::sync::Arc;

use futures::{Stream, StreamExt, stream::BoxStream};
use proto::{
    common::v1::FeedMark,
    complaints::v1::{self as complaints, complaints_client::ComplaintsClient},
    profiles::v1::{self as profiles, profiles_client::ProfilesClient},
    routing::v1::{self as routing, routing_client::RoutingClient},
    scoring::v1::{self as scoring, scoring_client::ScoringClient},
};
use tonic::Status;

use super::{Change, Entry, Event, Follow, Turned, follow_whole};
use crate::{
    context::Context,
    db::{BoxFuture, Db, Tx},
    error::{Fault, Result},
    peers::Channel,
    server::MAX_MESSAGE_BYTES,
};

/// Entries of a feed as they come from a peer.
pub type Entries<M> = BoxStream<'static, Result<Entry<M>, Status>>;

/// A feed of the suite.
pub trait Feed: Send + Sync + 'static {
    /// The service that publishes it.
    const PEER: &'static str;
    /// What changes.
    type Change: prost::Message + Default + Send + Sync + 'static;
    /// One message of the RPC.
    type Response: Send + 'static;

    /// An entry as the RPC sends it.
    fn response(entry: Entry<Self::Change>) -> Self::Response;

    /// Opens the RPC after a cursor.
    fn open(channel: Channel, cursor: String) -> BoxFuture<'static, Result<Entries<Self::Change>, Status>>;
}

macro_rules! feed {
    ($(#[$doc:meta])* $feed:ident: $peer:literal, $client:ident.$rpc:ident($request:ty) -> $response:ty, $event:path, $variant:ident($change:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $feed;

        impl Feed for $feed {
            const PEER: &'static str = $peer;
            type Change = $change;
            type Response = $response;

            fn response(entry: Entry<$change>) -> $response {
                use $event as Wire;
                let event = match entry.event {
                    Event::Change(change) => Wire::$variant(change),
                    Event::Mark(mark) => Wire::Mark(mark.into()),
                };
                type Message = $response;
                Message { position: Some(entry.position), event: Some(event) }
            }

            fn open(channel: Channel, cursor: String) -> BoxFuture<'static, Result<Entries<$change>, Status>> {
                use $event as Wire;
                type Message = $request;
                Box::pin(async move {
                    let mut client = $client::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
                    let messages = client.$rpc(Message { cursor, only_new: false }).await?.into_inner();
                    let entries = messages.map(|message| {
                        let message = message?;
                        let event = match message.event {
                            Some(Wire::$variant(change)) => Event::Change(change),
                            Some(Wire::Mark(mark)) => Event::Mark(FeedMark::try_from(mark).unwrap_or_default()),
                            // What a newer peer may send: it moves the cursor and changes nothing.
                            None => Event::Mark(FeedMark::Unspecified),
                        };
                        Ok(Entry { position: message.position.unwrap_or_default(), event })
                    });
                    Ok(entries.boxed())
                })
            }
        }
    };
}

feed! {
    /// Changes of standings, from scoring.
    Scores: "scoring", ScoringClient.watch_scores(scoring::WatchScoresRequest) -> scoring::WatchScoresResponse,
    scoring::watch_scores_response::Event, Change(scoring::ScoreChange)
}
feed! {
    /// Changes of the records, from profiles.
    Customers: "profiles", ProfilesClient.watch_customers(profiles::WatchCustomersRequest) -> profiles::WatchCustomersResponse,
    profiles::watch_customers_response::Event, Customer(profiles::Customer)
}
feed! {
    /// Changes of complaints.
    Complaints: "complaints", ComplaintsClient.watch_complaints(complaints::WatchComplaintsRequest) -> complaints::WatchComplaintsResponse,
    complaints::watch_complaints_response::Event, Change(complaints::ComplaintChange)
}
feed! {
    /// Contacts recorded, from routing.
    Contacts: "routing", RoutingClient.watch_contacts(routing::WatchContactsRequest) -> routing::WatchContactsResponse,
    routing::watch_contacts_response::Event, Contact(routing::Contact)
}

/// A stream of [`super::watch()`] as a `Watch…` RPC answers with it.
pub fn respond<F: Feed>(
    entries: impl Stream<Item = Result<Entry<F::Change>>> + Send + 'static,
) -> BoxStream<'static, Result<F::Response, Status>> {
    entries.map(|entry| entry.map(F::response).map_err(Status::from)).boxed()
}

/// Follows a peer's feed into `db` in the background, until the service drains: see [`follow()`](super::follow()).
///
/// # Errors
/// `Invalid` where the publishing service is not configured.
pub fn spawn_follow<F, E, A>(context: &Context, db: &Db, apply: A) -> Result<()>
where
    F: Feed,
    E: Fault + 'static,
    A: for<'c> Fn(&'c Tx<'_>, &'c [Change<F::Change>]) -> BoxFuture<'c, Result<(), E>> + Send + Sync + 'static,
{
    spawn_follow_whole::<F, E, A>(context, db, apply, |_, _| Box::pin(async { Ok(()) }))
}

/// The same for a follower that also drops what a snapshot does not name any more: see [`follow_whole()`].
///
/// # Errors
/// `Invalid` where the publishing service is not configured.
pub fn spawn_follow_whole<F, E, A>(context: &Context, db: &Db, apply: A, turned: Turned<E>) -> Result<()>
where
    F: Feed,
    E: Fault + 'static,
    A: for<'c> Fn(&'c Tx<'_>, &'c [Change<F::Change>]) -> BoxFuture<'c, Result<(), E>> + Send + Sync + 'static,
{
    let channel = Arc::new(context.peers.channel(F::PEER)?);
    let task = follow_whole(
        context.clone(),
        Follow { name: F::PEER, db: db.clone() },
        move |cursor| F::open((*channel).clone(), cursor),
        apply,
        turned,
    );
    context.spawn(F::PEER, task);
    Ok(())
}
