//! The suite's feeds as they go over the wire: one line for each `Watch…` RPC, so that publishing and following look alike everywhere.
use std::sync::Arc;

use futures::{StreamExt, stream::BoxStream};
use proto::{
    Encoded, Prepared,
    common::v1::FeedMark,
    complaints::v1::{self as complaints, complaints_client::ComplaintsClient},
    profiles::v1::{self as profiles, profiles_client::ProfilesClient},
    routing::v1::{self as routing, routing_client::RoutingClient},
    scoring::v1::{self as scoring, scoring_client::ScoringClient},
};
use tonic::Status;

use super::{
    Change, Entry, Event, Follow, Source, Turned, follow_whole,
    watch::{Item, items},
};
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
    type Response: prost::Message + Default + Send + 'static;

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

/// What a `Watch…` RPC answers with.
pub type Answers<F> = BoxStream<'static, Result<Prepared<<F as Feed>::Response>, Status>>;

/// Answers a `Watch…` RPC, as [`watch()`](super::watch()) does within a service. `finish` is given what belongs to a snapshot, and the marks; a change
/// goes out as it was published.
///
/// # Errors
/// As [`watch()`](super::watch()).
pub async fn serve<F: Feed>(
    source: Source<F::Change>,
    cursor: &str,
    only_new: bool,
    finish: impl Fn(&mut Entry<F::Change>) + Send + 'static,
) -> Result<Answers<F>> {
    let (epoch, items) = items(source, cursor, only_new).await?;
    let answers = items.map(move |item| match item? {
        Item::Change(change) => Ok(Encoded::raw(change.sent(epoch)).into()),
        Item::Entry(mut entry) => {
            finish(&mut entry);
            Ok(F::response(entry).into())
        }
    });
    Ok(answers.boxed())
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

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use prost::Message;
    use uuid::Uuid;

    use super::{
        super::{position, recent::Committed},
        *,
    };

    /// What goes out as it was published says what an entry would have said.
    fn is_sent_as_it_is<F: Feed>(change: F::Change)
    where
        F::Change: Clone,
        F::Response: PartialEq + std::fmt::Debug,
    {
        let epoch = Uuid::from_u128(7);
        let traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
        let committed = Committed {
            seq: 5,
            topic: "topic",
            key: Uuid::nil(),
            payload: change.encode_to_vec().into(),
            traceparent: traceparent.clone(),
            create_time: 1_234_567,
            sent: OnceLock::new(),
        };
        let position = position(super::super::encode_cursor(epoch, "topic", 5), 5, 1_234_567, traceparent);
        let expected = F::response(Entry { position, event: Event::Change(change) });
        let first = committed.sent(epoch);
        assert_eq!(F::Response::decode(first.clone()).unwrap(), expected);
        assert_eq!(committed.sent(epoch).as_ptr(), first.as_ptr(), "made twice");
    }

    #[test]
    fn a_change_goes_out_as_it_was_published() {
        let customer_id = "01a206be-05e7-72a0-b21c-893e87c263b8".to_owned();
        let standing = scoring::Standing { customer_id: customer_id.clone(), revision: 3, ..Default::default() };
        is_sent_as_it_is::<Scores>(scoring::ScoreChange { standing: Some(standing), ..Default::default() });
        is_sent_as_it_is::<Customers>(profiles::Customer { customer_id: customer_id.clone(), ..Default::default() });
        let complaint = complaints::Complaint { customer_id: customer_id.clone(), ..Default::default() };
        let change = complaints::ComplaintChange { complaint: Some(complaint), ..Default::default() };
        is_sent_as_it_is::<Complaints>(change);
        is_sent_as_it_is::<Contacts>(routing::Contact { customer_id, ..Default::default() });
    }
}
