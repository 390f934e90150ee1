//! A running service, its client, and peers that say what a test tells them to.
use std::{
    convert::Infallible,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use chassis::{
    Clock,
    peers::Channel,
    server::Rpcs,
    testing::{Backend, TempDb, TestServer, noon},
};
use futures::{StreamExt, stream::BoxStream};
use proto::{
    common::v1::{FeedMark, FeedPosition},
    complaints::v1 as complaints,
    profiles::v1 as profiles,
    routing::v1::{self as pb, routing_client::RoutingClient},
    scoring::v1 as scoring,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status, body::Body, server::NamedService};
use tower::Service;
use uuid::Uuid;

/// What a peer has published, in the life it is in: each message with life and place as cursor. After its first life a snapshot comes before that.
#[derive(Debug)]
pub(crate) struct Log<M>(Arc<watch::Sender<(u32, Vec<M>)>>);

impl<M> Clone for Log<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> Default for Log<M> {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new((0, Vec::new()))))
    }
}

impl<M: Clone + Send + Sync + 'static> Log<M> {
    pub(crate) fn publish(&self, messages: impl IntoIterator<Item = M>) {
        self.0.send_modify(|(_, log)| log.extend(messages));
    }

    /// Restores the peer from a copy, in which it knew only so much. No cursor of before is good any more.
    pub(crate) fn restore(&self, messages: impl IntoIterator<Item = M>) {
        self.0.send_modify(|(life, log)| (*life, *log) = (*life + 1, messages.into_iter().collect()));
    }

    /// `None` marks the end of the snapshot.
    fn read(&self, cursor: &str) -> Result<BoxStream<'static, (FeedPosition, Option<M>)>, Status> {
        let (life, log) = self.0.borrow().clone();
        let position = move |at: usize| FeedPosition { cursor: format!("{life}.{at}"), ..Default::default() };
        let (snapshot, at) = match cursor.split_once('.') {
            None if life == 0 => (Vec::new(), 0),
            None => {
                let end = (position(log.len()), None);
                let at = log.len();
                let items = log.into_iter().map(|message| (FeedPosition::default(), Some(message)));
                (items.chain([end]).collect(), at)
            }
            Some((of, at)) if of == life.to_string() => (Vec::new(), at.parse().unwrap()),
            Some(_) => return Err(chassis::Error::CursorUnknown.into()),
        };
        let live = futures::stream::unfold((self.0.subscribe(), at), move |(mut log, at)| async move {
            let now = log.wait_for(|(now, log)| *now != life || log.len() > at).await.ok()?;
            let message = (now.0 == life).then(|| now.1[at].clone())?;
            drop(now);
            Some(((position(at + 1), Some(message)), (log, at + 1)))
        });
        Ok(futures::stream::iter(snapshot).chain(live).boxed())
    }
}

/// The followed RPC of one peer.
pub(crate) trait Followed: Send + Sync + 'static {
    const NAME: &'static str;
    type Message: Clone + Send + Sync + 'static;
    type Request: prost::Message + Default + 'static;
    type Response: prost::Message + Default + 'static;
    fn cursor(request: Self::Request) -> String;
    fn response(position: FeedPosition, message: Option<Self::Message>) -> Self::Response;
}

macro_rules! followed {
    ($name:ident, $grpc:literal, $package:ident, $request:ident, $response:ident, $event:ident, $variant:ident, $message:ident) => {
        #[derive(Debug)]
        pub(crate) struct $name;
        impl Followed for $name {
            const NAME: &'static str = $grpc;
            type Message = $package::$message;
            type Request = $package::$request;
            type Response = $package::$response;
            fn cursor(request: Self::Request) -> String {
                request.cursor
            }
            fn response(position: FeedPosition, message: Option<Self::Message>) -> Self::Response {
                use $package::$event::Event;
                let event = message.map_or(Event::Mark(FeedMark::SnapshotComplete.into()), Event::$variant);
                Self::Response { position: Some(position), event: Some(event) }
            }
        }
    };
}
followed!(
    Scores,
    "clientele.scoring.v1.Scoring",
    scoring,
    WatchScoresRequest,
    WatchScoresResponse,
    watch_scores_response,
    Change,
    ScoreChange
);
followed!(
    Customers,
    "clientele.profiles.v1.Profiles",
    profiles,
    WatchCustomersRequest,
    WatchCustomersResponse,
    watch_customers_response,
    Customer,
    Customer
);
followed!(
    Cases,
    "clientele.complaints.v1.Complaints",
    complaints,
    WatchComplaintsRequest,
    WatchComplaintsResponse,
    watch_complaints_response,
    Change,
    ComplaintChange
);

/// A peer that serves its `Watch…` RPC, whatever is called.
struct Peer<F: Followed>(Log<F::Message>, PhantomData<F>);

impl<F: Followed> Clone for Peer<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<F: Followed> NamedService for Peer<F> {
    const NAME: &'static str = F::NAME;
}

impl<F: Followed> Service<http::Request<Body>> for Peer<F> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let watch = Watch(self.clone());
        Box::pin(async move {
            let codec = tonic_prost::ProstCodec::<F::Response, F::Request>::default();
            Ok(tonic::server::Grpc::new(codec).server_streaming(watch, request).await)
        })
    }
}

struct Watch<F: Followed>(Peer<F>);

impl<F: Followed> tonic::server::ServerStreamingService<F::Request> for Watch<F> {
    type Response = F::Response;
    type ResponseStream = BoxStream<'static, Result<F::Response, Status>>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: Request<F::Request>) -> Self::Future {
        let log = self.0.0.clone();
        Box::pin(async move {
            let messages = log.read(&F::cursor(request.into_inner()))?;
            let responses = messages.map(|(position, message)| Ok(F::response(position, message)));
            Ok(Response::new(responses.boxed()))
        })
    }
}

fn mount<F: Followed>(name: &'static str, log: &Log<F::Message>) -> chassis::Service {
    let peer = Peer::<F>(log.clone(), PhantomData);
    chassis::Service { name, grpc_name: F::NAME, start: Box::pin(async move { Ok(Rpcs::new(peer)) }) }
}

/// What the peers have published.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peers {
    pub(crate) scores: Log<scoring::ScoreChange>,
    pub(crate) customers: Log<profiles::Customer>,
    pub(crate) cases: Log<complaints::ComplaintChange>,
}

impl Peers {
    pub(crate) fn services(&self) -> Vec<chassis::Service> {
        vec![
            mount::<Scores>("scoring", &self.scores),
            mount::<Customers>("profiles", &self.customers),
            mount::<Cases>("complaints", &self.cases),
        ]
    }

    pub(crate) fn stands(&self, customer: Uuid, revision: i64, tier: scoring::Tier, code: scoring::CustomerCode) {
        self.scores.publish([scoring::ScoreChange {
            standing: Some(standing(customer, revision, tier, code)),
            ..Default::default()
        }]);
    }

    pub(crate) fn record(&self, customer: Uuid, revision: i64, phones: &[&str]) {
        self.customers.publish([record(customer, revision, phones)]);
    }

    pub(crate) fn complaint(&self, complaint: Uuid, customer: Uuid, revision: i64, state: complaints::ComplaintState) {
        self.cases.publish([case(complaint, customer, revision, state)]);
    }
}

pub(crate) fn record(customer: Uuid, revision: i64, phones: &[&str]) -> profiles::Customer {
    profiles::Customer {
        customer_id: customer.to_string(),
        revision,
        phones: phones.iter().map(|phone| (*phone).to_owned()).collect(),
        ..Default::default()
    }
}

pub(crate) fn case(
    complaint: Uuid,
    customer: Uuid,
    revision: i64,
    state: complaints::ComplaintState,
) -> complaints::ComplaintChange {
    let complaint = complaints::Complaint {
        complaint_id: complaint.to_string(),
        customer_id: customer.to_string(),
        revision,
        state: state.into(),
        ..Default::default()
    };
    complaints::ComplaintChange { complaint: Some(complaint), open_complaints: 0 }
}

pub(crate) fn standing(
    customer: Uuid,
    revision: i64,
    tier: scoring::Tier,
    code: scoring::CustomerCode,
) -> scoring::Standing {
    scoring::Standing {
        customer_id: customer.to_string(),
        revision,
        relationship: scoring::Relationship::Repeat.into(),
        stage: scoring::LifeCycleStage::Maturity.into(),
        tier: tier.into(),
        code: code.into(),
        estimated: false,
        since: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
    }
}

/// One replica with its peers.
pub(crate) struct Suite {
    pub(crate) db: TempDb,
    pub(crate) peers: Peers,
    pub(crate) clock: Clock,
    pub(crate) server: TestServer,
    pub(crate) client: RoutingClient<Channel>,
}

impl Suite {
    pub(crate) async fn start(backend: Backend) -> Self {
        Self::start_on(TempDb::new(backend).await, Peers::default()).await
    }

    pub(crate) async fn start_on(db: TempDb, peers: Peers) -> Self {
        let clock = Clock::mock(noon());
        let server = replica(&db, &clock, &[], peers.services()).await;
        let client = RoutingClient::new(server.channel());
        Self { db, peers, clock, server, client }
    }
}

/// One more replica on a database.
pub(crate) async fn replica(
    db: &TempDb,
    clock: &Clock,
    elsewhere: &[(&str, String)],
    beside: Vec<chassis::Service>,
) -> TestServer {
    let config = routing::Config { database_url: db.url().into(), ..routing::Config::default() };
    TestServer::start(clock.clone(), elsewhere, |context| {
        let mut services = beside;
        services.push(routing::service(config, context.clone()));
        services
    })
    .await
}

/// A customer's id that is the same in every run.
pub(crate) fn id(n: u128) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + n)
}

/// Asks for a decision about a customer.
pub(crate) async fn decide(
    client: &RoutingClient<Channel>,
    customer: Uuid,
    arrival: &str,
    purpose: pb::ContactPurpose,
) -> pb::DecideResponse {
    let request = pb::DecideRequest {
        who: Some(pb::decide_request::Who::CustomerId(customer.to_string())),
        arrival_channel_id: arrival.to_owned(),
        purpose: purpose.into(),
    };
    client.clone().decide(request).await.unwrap().into_inner()
}

/// Asks for a decision about whoever calls from a number.
pub(crate) async fn decide_phone(client: &RoutingClient<Channel>, phone: &str) -> pb::DecideResponse {
    let point = pb::ContactPoint { point: Some(pb::contact_point::Point::Phone(phone.to_owned())) };
    let request = pb::DecideRequest {
        who: Some(pb::decide_request::Who::ContactPoint(point)),
        arrival_channel_id: "phone".to_owned(),
        purpose: pb::ContactPurpose::Inquiry.into(),
    };
    client.clone().decide(request).await.unwrap().into_inner()
}

/// Name of the rule by which a thing was decided.
pub(crate) fn rule(decision: &pb::DecideResponse, decides: &str) -> String {
    decision.reasons.iter().find(|reason| reason.decides == decides).map(|reason| reason.rule.clone()).unwrap()
}
