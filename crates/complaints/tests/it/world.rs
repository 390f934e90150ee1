//! What every test stands in: the service with a scoring that says what the test wants it to say.
use std::{
    convert::Infallible,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
};

use chassis::{
    Clock, Db,
    db::BoxFuture,
    feed::{self, Event, Source},
    peers::Channel,
    server::Rpcs,
    testing::{Backend, TempDb, TestServer, noon},
};
use complaints::Config;
use futures::{StreamExt, stream::BoxStream};
use jiff::{SignedDuration, Timestamp};
use proto::{
    complaints::v1::{self as pb, complaints_client::ComplaintsClient},
    scoring::v1::{ScoreChange, Standing, Tier, WatchScoresRequest, WatchScoresResponse, watch_scores_response},
};
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, body::Body};
use uuid::Uuid;

pub(crate) type Client = ComplaintsClient<Channel>;

/// The service, its database, its clock, and its scoring.
pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) server: TestServer,
    pub(crate) config: Config,
    scores: Db,
    databases: (TempDb, TempDb),
}

impl World {
    pub(crate) async fn start(backend: Backend) -> Self {
        Self::start_with(backend, Config::default()).await
    }

    pub(crate) async fn start_with(backend: Backend, config: Config) -> Self {
        let clock = Clock::mock(noon());
        let database = TempDb::new(backend).await;
        let (scores_database, scores) = new_scores(&clock).await;
        let config = Config { database_url: database.url().into(), ..config };
        let server = serve(&clock, &config, &scores).await;
        Self { clock, server, config, scores, databases: (database, scores_database) }
    }

    pub(crate) fn client(&self) -> Client {
        ComplaintsClient::new(self.server.channel())
    }

    /// One more replica on the same database.
    pub(crate) async fn replica(&self) -> TestServer {
        serve(&self.clock, &self.config, &self.scores).await
    }

    /// Kills the service and starts it again.
    pub(crate) async fn restart(self) -> Self {
        let Self { clock, server, config, scores, databases } = self;
        server.kill().await;
        let server = serve(&clock, &config, &scores).await;
        Self { clock, server, config, scores, databases }
    }

    /// Stops the service and starts it again beside a scoring with another database, in which it has said nothing but this.
    pub(crate) async fn replace_scoring(self, customer: Uuid, tier: Tier, revision: i64) -> Self {
        let Self { clock, server, config, databases: (database, _), .. } = self;
        server.stop().await.unwrap();
        let (scores_database, scores) = new_scores(&clock).await;
        publish(&scores, &standing(customer, tier, revision), customer).await;
        let server = serve(&clock, &config, &scores).await;
        Self { clock, server, config, scores, databases: (database, scores_database) }
    }

    /// The service's database, as a further replica would open it.
    pub(crate) async fn db(&self) -> Db {
        Db::connect::<complaints::migrations::Migrator>(self.config.database_url.expose(), &self.clock).await.unwrap()
    }

    /// Scoring says that the customer is in that tier now.
    pub(crate) async fn announce(&self, customer: Uuid, tier: Tier, revision: i64) {
        self.announce_raw(standing(customer, tier, revision), customer).await;
    }

    pub(crate) async fn announce_raw(&self, change: ScoreChange, key: Uuid) {
        publish(&self.scores, &change, key).await;
    }

    /// Moves the clock.
    pub(crate) fn pass(&self, hours: i64) {
        self.clock.advance(SignedDuration::from_hours(hours));
    }

    pub(crate) fn set(&self, to: &str) {
        self.clock.set(at(to));
    }
}

fn standing(customer: Uuid, tier: Tier, revision: i64) -> ScoreChange {
    let standing = Standing { customer_id: customer.to_string(), revision, tier: tier.into(), ..Standing::default() };
    ScoreChange { standing: Some(standing), ..ScoreChange::default() }
}

async fn new_scores(clock: &Clock) -> (TempDb, Db) {
    let database = TempDb::new(Backend::Sqlite).await;
    let scores = Db::connect::<FeedOnly>(database.url(), clock).await.unwrap();
    (database, scores)
}

async fn publish(scores: &Db, change: &ScoreChange, key: Uuid) {
    scores
        .run_tx("announce", |tx| -> BoxFuture<'_, chassis::Result<()>> {
            Box::pin(async move {
                tx.publish("scores", key, change);
                Ok(())
            })
        })
        .await
        .unwrap();
}

async fn serve(clock: &Clock, config: &Config, scores: &Db) -> TestServer {
    TestServer::start(clock.clone(), &[], |context| {
        let scoring = Scoring { db: scores.clone(), shutdown: context.shutdown.clone() };
        let scoring = chassis::Service {
            name: "scoring",
            grpc_name: <Scoring as tonic::server::NamedService>::NAME,
            start: Box::pin(async move { Ok(Rpcs::new(scoring)) }),
        };
        vec![scoring, complaints::service(config.clone(), context.clone())]
    })
    .await
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn proto_at(text: &str) -> Option<prost_types::Timestamp> {
    Some(chassis::clock::to_proto(at(text)))
}

pub(crate) fn hours(hours: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: hours * 3600, nanos: 0 })
}

pub(crate) fn minutes(minutes: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: minutes * 60, nanos: 0 })
}

/// A request id that no other call of the test run has.
pub(crate) fn rid() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("request-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn customer(number: u128) -> Uuid {
    Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0000 + number)
}

pub(crate) const DESCRIPTION: &str = "The kettle leaks onto my floor.";

pub(crate) fn filing(customer: Uuid, severity: pb::Severity) -> pb::FileComplaintRequest {
    pb::FileComplaintRequest {
        request_id: rid(),
        complaint: Some(pb::Complaint {
            customer_id: customer.to_string(),
            cause_id: "product-quality".into(),
            severity: severity.into(),
            description: DESCRIPTION.into(),
            ..pb::Complaint::default()
        }),
    }
}

pub(crate) async fn file(client: &Client, customer: Uuid) -> pb::Complaint {
    let request = filing(customer, pb::Severity::Moderate);
    client.clone().file_complaint(request).await.unwrap().into_inner().complaint.unwrap()
}

pub(crate) async fn get(client: &Client, id: &str) -> pb::GetComplaintResponse {
    let request = pb::GetComplaintRequest { complaint_id: id.to_owned() };
    client.clone().get_complaint(request).await.unwrap().into_inner()
}

pub(crate) async fn read(client: &Client, id: &str) -> pb::Complaint {
    get(client, id).await.complaint.unwrap()
}

/// The changes that a complaint can be asked to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Acknowledge,
    Assign,
    Escalate,
    Await,
    Resume,
    Resolve,
    Reopen,
    Close,
}

pub(crate) const ACTS: [Act; 8] =
    [Act::Acknowledge, Act::Assign, Act::Escalate, Act::Await, Act::Resume, Act::Resolve, Act::Reopen, Act::Close];

impl Act {
    /// Sends the change with the given ids.
    pub(crate) async fn send(
        self,
        client: &Client,
        request_id: &str,
        complaint_id: &str,
        etag: &str,
    ) -> Result<pb::Complaint, Status> {
        self.send_by(client, request_id, complaint_id, etag, "").await
    }

    /// The same, and says who does it.
    pub(crate) async fn send_by(
        self,
        client: &Client,
        request_id: &str,
        complaint_id: &str,
        etag: &str,
        actor_id: &str,
    ) -> Result<pb::Complaint, Status> {
        let mut client = client.clone();
        let (request_id, complaint_id, etag) = (request_id.to_owned(), complaint_id.to_owned(), etag.to_owned());
        let actor_id = actor_id.to_owned();
        let complaint = match self {
            Self::Acknowledge => {
                let owner_id = "agent-1".into();
                let request = pb::AcknowledgeComplaintRequest { request_id, complaint_id, etag, owner_id, actor_id };
                client.acknowledge_complaint(request).await?.into_inner().complaint
            }
            Self::Assign => {
                let (owner_id, reason) = ("agent-2".into(), "on holiday".into());
                let request = pb::AssignComplaintRequest { request_id, complaint_id, etag, owner_id, reason, actor_id };
                client.assign_complaint(request).await?.into_inner().complaint
            }
            Self::Escalate => {
                let (owner_id, reason) = ("manager-1".into(), "beyond my authority".into());
                let request =
                    pb::EscalateComplaintRequest { request_id, complaint_id, etag, owner_id, reason, actor_id };
                client.escalate_complaint(request).await?.into_inner().complaint
            }
            Self::Await => {
                let reason = "please send a picture".into();
                let request = pb::AwaitCustomerRequest { request_id, complaint_id, etag, reason, actor_id };
                client.await_customer(request).await?.into_inner().complaint
            }
            Self::Resume => {
                let request = pb::ResumeComplaintRequest { request_id, complaint_id, etag, actor_id };
                client.resume_complaint(request).await?.into_inner().complaint
            }
            Self::Resolve => {
                let answer = "A new kettle is on its way.".into();
                let request = pb::ResolveComplaintRequest { request_id, complaint_id, etag, answer, actor_id };
                client.resolve_complaint(request).await?.into_inner().complaint
            }
            Self::Reopen => {
                let reason = "the new one leaks too".into();
                let request = pb::ReopenComplaintRequest { request_id, complaint_id, etag, reason, actor_id };
                client.reopen_complaint(request).await?.into_inner().complaint
            }
            Self::Close => {
                let customer_word = pb::CustomerWord::NotSolved.into();
                let request = pb::CloseComplaintRequest { request_id, complaint_id, etag, customer_word, actor_id };
                client.close_complaint(request).await?.into_inner().complaint
            }
        };
        Ok(complaint.unwrap())
    }

    /// Does it to a complaint as it was last seen.
    pub(crate) async fn on(self, client: &Client, complaint: &pb::Complaint) -> pb::Complaint {
        self.send(client, &rid(), &complaint.complaint_id, &complaint.etag).await.unwrap()
    }

    /// What must come before it in the life of a new complaint.
    pub(crate) fn before(self) -> &'static [Act] {
        match self {
            Self::Acknowledge | Self::Assign | Self::Escalate | Self::Resolve => &[],
            Self::Await => &[Self::Acknowledge],
            Self::Resume => &[Self::Acknowledge, Self::Await],
            Self::Reopen | Self::Close => &[Self::Resolve],
        }
    }
}

/// A new complaint, led to where `act` can be done.
pub(crate) async fn ready_for(client: &Client, customer: Uuid, act: Act) -> pb::Complaint {
    let mut complaint = file(client, customer).await;
    for before in act.before() {
        complaint = before.on(client, &complaint).await;
    }
    complaint
}

struct FeedOnly;

#[tonic::async_trait]
impl MigratorTrait for FeedOnly {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        chassis::db::migrations()
    }
}

/// A scoring that only announces.
#[derive(Clone)]
struct Scoring {
    db: Db,
    shutdown: CancellationToken,
}

impl tonic::server::NamedService for Scoring {
    const NAME: &'static str = "clientele.scoring.v1.Scoring";
}

impl tonic::server::ServerStreamingService<WatchScoresRequest> for Scoring {
    type Response = WatchScoresResponse;
    type ResponseStream = BoxStream<'static, Result<WatchScoresResponse, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<WatchScoresRequest>) -> Self::Future {
        let Self { db, shutdown } = self.clone();
        let request = request.into_inner();
        Box::pin(async move {
            let snapshot: feed::Snapshot<ScoreChange> = |tx, after, _| {
                Box::pin(async move {
                    if after.is_some() {
                        return Ok(Vec::new());
                    }
                    let published = chassis::testing::published(tx, "scores").await?;
                    let last: std::collections::BTreeMap<_, _> =
                        published.into_iter().map(|(_, key, payload)| (key, payload)).collect();
                    Ok(last
                        .into_iter()
                        .map(|(key, payload)| (key, prost::Message::decode(&*payload).unwrap()))
                        .collect())
                })
            };
            let source = Source { db, topic: "scores", snapshot, shutdown };
            let stream = feed::watch(source, &request.cursor, request.only_new).await?.map(|entry| {
                let entry = entry?;
                let event = match entry.event {
                    Event::Change(change) => watch_scores_response::Event::Change(change),
                    Event::Mark(mark) => watch_scores_response::Event::Mark(mark.into()),
                };
                Ok(WatchScoresResponse { position: Some(entry.position), event: Some(event) })
            });
            Ok(Response::new(stream.boxed()))
        })
    }
}

impl tonic::codegen::Service<http::Request<Body>> for Scoring {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let scoring = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(tonic_prost::ProstCodec::default());
            Ok(grpc.server_streaming(scoring, request).await)
        })
    }
}
