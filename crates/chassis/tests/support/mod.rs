//! A source of changes to follow, a projection of it, and a service whose answers a test decides.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
use std::{
    collections::BTreeMap,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use chassis::{
    Db, Result, Service, Tx,
    clock::{self, Clock},
    config::DbUrl,
    db::{BoxFuture, sql},
    feed::{self, Change, Entry, Event, Follow, Source},
    server::Rpcs,
    testing::noon,
};
use futures::{Stream, StreamExt, stream::BoxStream};
use proto::scoring::v1::{
    GetScoreRequest, GetScoreResponse, ScoreChange, Standing, StreamPurchasesRequest, StreamPurchasesResponse,
    WatchScoresRequest, WatchScoresResponse, watch_scores_response,
};
use sea_orm::{ConnectionTrait, DatabaseTransaction, TryGetable};
use sea_orm_migration::{
    prelude::{DbErr, MigrationName, MigrationTrait, MigratorTrait, SchemaManager, Table},
    schema::{big_integer, uuid},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, body::Body, codec::Streaming};
use uuid::Uuid;

/// The topic that [`bump`] publishes to.
pub const TOPIC: &str = "scores";
/// A topic that nobody watches.
pub const OTHER: &str = "other";
pub const GRPC_NAME: &str = "clientele.scoring.v1.Scoring";

pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        chassis::db::migrations().into_iter().chain([Box::new(Tables) as Box<dyn MigrationTrait>]).collect()
    }
}

struct Tables;

impl MigrationName for Tables {
    fn name(&self) -> &str {
        "m0001_tables"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // What the source owns; what a follower makes of it; what a follower found wrong.
        for table in ["customer", "projection"] {
            let table = Table::create()
                .table(table)
                .col(uuid("id").primary_key())
                .col(big_integer("revision"))
                .col(big_integer("state"))
                .to_owned();
            manager.create_table(table).await?;
        }
        let anomaly = Table::create()
            .table("anomaly")
            .col(uuid("id"))
            .col(big_integer("stored"))
            .col(big_integer("came"))
            .to_owned();
        manager.create_table(anomaly).await?;
        manager
            .create_table(Table::create().table("tally").col(uuid("id").primary_key()).col(big_integer("n")).to_owned())
            .await
    }
}

pub async fn connect(url: impl Into<DbUrl>) -> Db {
    connect_at(url, &Clock::mock(noon())).await
}

pub async fn connect_at(url: impl Into<DbUrl>, clock: &Clock) -> Db {
    Db::connect::<Migrator>(url, clock).await.unwrap()
}

/// The same `n` ids each time, ascending.
pub fn ids(n: usize) -> Vec<Uuid> {
    (0..n as u128).map(|n| Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + (n << 64))).collect()
}

/// Numbers that look random and are the same in every run of the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 0 up to `below`.
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.roll(of.len() as u64)).unwrap()]
    }
}

/// Yields now and then, so that transactions overlap in every possible way.
pub async fn dawdle(turns: u64) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

/// Gives each customer its next revision and `state`, and publishes that, within the caller's transaction. The new revisions.
pub async fn bump_in(tx: &Tx<'_>, ids: &[Uuid], state: i64) -> Result<Vec<i64>> {
    let mut revisions = Vec::new();
    for id in ids {
        let text = "INSERT INTO customer (id, revision, state) VALUES ($1, 1, $2) \
                    ON CONFLICT (id) DO UPDATE SET revision = customer.revision + 1, state = $2 RETURNING revision";
        let row = tx.query_one_raw(sql(&**tx, text, [(*id).into(), state.into()])).await?.unwrap();
        let revision = i64::try_get(&row, "", "revision").unwrap();
        tx.publish(TOPIC, *id, &standing(*id, revision, state));
        revisions.push(revision);
    }
    Ok(revisions)
}

pub async fn bump(db: &Db, ids: &[Uuid], state: i64) -> Result<Vec<i64>> {
    db.run_tx("bump", |tx| Box::pin(bump_in(tx, ids, state))).await
}

pub async fn publish_elsewhere(db: &Db) {
    publish_many_elsewhere(db, 1).await;
}

pub async fn publish_many_elsewhere(db: &Db, changes: i64) {
    let id = Uuid::max();
    db.run_tx::<_, chassis::Error, _>("other", |tx| {
        Box::pin(async move {
            for revision in 1..=changes {
                tx.publish(OTHER, id, &standing(id, revision, 1));
            }
            Ok(())
        })
    })
    .await
    .unwrap();
}

pub fn standing(id: Uuid, revision: i64, state: i64) -> Standing {
    Standing {
        customer_id: id.to_string(),
        revision,
        since: Some(clock::to_proto(clock::at_micros(state))),
        ..Default::default()
    }
}

pub fn id_of(standing: &Standing) -> Uuid {
    standing.customer_id.parse().unwrap()
}

pub fn state_of(standing: &Standing) -> i64 {
    let since = standing.since.unwrap();
    since.seconds * 1_000_000 + i64::from(since.nanos) / 1_000
}

pub fn snapshot(
    tx: &DatabaseTransaction,
    after: Option<Uuid>,
    limit: u64,
) -> BoxFuture<'_, Result<Vec<(Uuid, Standing)>>> {
    Box::pin(async move {
        let text = "SELECT id, revision, state FROM customer WHERE id > $1 ORDER BY id LIMIT $2";
        let values = [after.unwrap_or_default().into(), (limit as i64).into()];
        let rows = tx.query_all_raw(sql(tx, text, values)).await?;
        Ok(rows
            .iter()
            .map(|row| {
                let (id, revision, state) = row_of(row);
                (id, standing(id, revision, state))
            })
            .collect())
    })
}

fn row_of(row: &sea_orm::QueryResult) -> (Uuid, i64, i64) {
    let id = Uuid::try_get(row, "", "id").unwrap();
    (id, i64::try_get(row, "", "revision").unwrap(), i64::try_get(row, "", "state").unwrap())
}

/// What `table` (customer or projection) holds: (revision, state) by id.
pub async fn contents<C: ConnectionTrait>(connection: &C, table: &str) -> BTreeMap<Uuid, (i64, i64)> {
    let rows = connection
        .query_all_raw(sql(connection, format!("SELECT id, revision, state FROM {table}"), []))
        .await
        .unwrap();
    rows.iter()
        .map(|row| {
            let (id, revision, state) = row_of(row);
            (id, (revision, state))
        })
        .collect()
}

/// A single number from the database.
pub async fn number<C: ConnectionTrait>(connection: &C, text: &str) -> i64 {
    let row = connection.query_one_raw(sql(connection, text, [])).await.unwrap().unwrap();
    row.try_get_by_index(0).unwrap()
}

pub fn source(db: &Db) -> Source<Standing> {
    Source { db: db.clone(), topic: TOPIC, snapshot, shutdown: CancellationToken::new() }
}

pub type Changes = BoxStream<'static, Result<Entry<Standing>>>;

pub async fn watch(db: &Db, cursor: &str, only_new: bool) -> Result<Changes> {
    Ok(feed::watch(source(db), cursor, only_new).await?.boxed())
}

/// Applies changes to the projection, and notes every live one that is not exactly the successor of what is stored.
pub fn project<'c>(tx: &'c Tx<'_>, changes: &'c [Change<Standing>]) -> BoxFuture<'c, Result<()>> {
    Box::pin(async move {
        for change in changes {
            let (id, came) = (id_of(&change.message), change.message.revision);
            let text = "SELECT revision FROM projection WHERE id = $1";
            let row = tx.query_one_raw(sql(&**tx, text, [id.into()])).await?;
            let stored = row.map_or(0, |row| i64::try_get(&row, "", "revision").unwrap());
            let fits = if change.snapshot { came >= stored } else { came == stored + 1 };
            if !fits {
                let text = "INSERT INTO anomaly (id, stored, came) VALUES ($1, $2, $3)";
                tx.execute_raw(sql(&**tx, text, [id.into(), stored.into(), came.into()])).await?;
            }
            let text = "INSERT INTO projection (id, revision, state) VALUES ($1, $2, $3) \
                        ON CONFLICT (id) DO UPDATE SET revision = $2, state = $3";
            tx.execute_raw(sql(&**tx, text, [id.into(), came.into(), state_of(&change.message).into()])).await?;
        }
        Ok(())
    })
}

/// Follows the source at the address that `url` gives, anew for each connection, into the projection of `db`.
pub async fn follow_scores(
    context: chassis::Context,
    db: Db,
    url: impl Fn() -> Option<String> + Send + Sync,
    apply: impl for<'c> Fn(&'c Tx<'_>, &'c [Change<Standing>]) -> BoxFuture<'c, Result<()>> + Send + Sync,
) {
    let url = &url;
    let connect = |cursor: String| async move {
        let url = url().ok_or_else(|| Status::unavailable("not there yet"))?;
        let channel = chassis::peers::channel("source", &url, None)?;
        watch_over_grpc(channel, cursor).await
    };
    feed::follow(context, Follow { name: "scores", db }, connect, apply).await;
}

/// Opens `WatchScores` and reads its entries, as every follower in the suite does.
pub async fn watch_over_grpc(
    channel: chassis::peers::Channel,
    cursor: String,
) -> Result<BoxStream<'static, Result<Entry<Standing>, Status>>, Status> {
    let mut client = proto::scoring::v1::scoring_client::ScoringClient::new(channel);
    let stream: Streaming<WatchScoresResponse> =
        client.watch_scores(WatchScoresRequest { cursor, ..Default::default() }).await?.into_inner();
    Ok(stream
        .map(|reply| {
            let reply = reply?;
            let event = match reply.event {
                Some(watch_scores_response::Event::Change(change)) => {
                    Event::Change(change.standing.unwrap_or_default())
                }
                Some(watch_scores_response::Event::Mark(mark)) => {
                    Event::Mark(proto::common::v1::FeedMark::try_from(mark).unwrap_or_default())
                }
                None => return Err(Status::internal("an entry without event")),
            };
            Ok(Entry { position: reply.position.unwrap_or_default(), event })
        })
        .boxed())
}

type Asked = BoxFuture<'static, Result<Response<GetScoreResponse>, Status>>;
type Streamed = BoxFuture<'static, Result<Response<StreamPurchasesResponse>, Status>>;
type Watched = BoxFuture<'static, Result<BoxStream<'static, Result<WatchScoresResponse, Status>>, Status>>;

/// A service under the name of Scoring with three RPCs, whose answers a test decides.
#[derive(Clone)]
pub struct Fake {
    pub get_score: Arc<dyn Fn(Request<GetScoreRequest>) -> Asked + Send + Sync>,
    pub watch_scores: Arc<dyn Fn(Request<WatchScoresRequest>) -> Watched + Send + Sync>,
    pub stream_purchases: Arc<dyn Fn(Request<Streaming<StreamPurchasesRequest>>) -> Streamed + Send + Sync>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            get_score: Arc::new(|_| Box::pin(async { Ok(Response::new(GetScoreResponse::default())) })),
            watch_scores: Arc::new(|_| Box::pin(async { Ok(futures::stream::empty().boxed()) })),
            stream_purchases: Arc::new(|_| Box::pin(async { Ok(Response::new(StreamPurchasesResponse::default())) })),
        }
    }
}

impl Fake {
    pub fn asking<F>(answer: impl Fn(Request<GetScoreRequest>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Response<GetScoreResponse>, Status>> + Send + 'static,
    {
        Self { get_score: Arc::new(move |request| Box::pin(answer(request))), ..Self::default() }
    }

    /// Serves the feed of `db` as `WatchScores`.
    pub fn watching(db: Db, shutdown: CancellationToken) -> Self {
        let source = Source { db, topic: TOPIC, snapshot, shutdown };
        Self {
            watch_scores: Arc::new(move |request| {
                let source = source.clone();
                Box::pin(async move {
                    let request = request.into_inner();
                    let entries = feed::watch(source, &request.cursor, request.only_new).await?;
                    Ok(entries.map(|entry| entry.map(response).map_err(Status::from)).boxed())
                })
            }),
            ..Self::default()
        }
    }

    pub fn service(self) -> Service {
        Service { name: "scoring", grpc_name: GRPC_NAME, start: Box::pin(async move { Ok(Rpcs::new(self)) }) }
    }
}

/// A service that opens the source's database and serves its feed.
pub fn feed_service(url: &str, context: &chassis::Context) -> Service {
    let (url, context) = (url.to_owned(), context.clone());
    Service {
        name: "scoring",
        grpc_name: GRPC_NAME,
        start: Box::pin(async move {
            let db = context.open::<Migrator>(&url).await?;
            Ok(Rpcs::new(Fake::watching(db, context.shutdown.clone())))
        }),
    }
}

fn response(entry: Entry<Standing>) -> WatchScoresResponse {
    let event = match entry.event {
        Event::Change(standing) => {
            watch_scores_response::Event::Change(ScoreChange { standing: Some(standing), ..Default::default() })
        }
        Event::Mark(mark) => watch_scores_response::Event::Mark(mark.into()),
    };
    WatchScoresResponse { position: Some(entry.position), event: Some(event) }
}

impl tonic::server::NamedService for Fake {
    const NAME: &'static str = GRPC_NAME;
}

impl tower::Service<http::Request<Body>> for Fake {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let fake = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path().rsplit('/').next() {
                Some("GetScore") => {
                    let codec = tonic_prost::ProstCodec::<GetScoreResponse, GetScoreRequest>::default();
                    let mut grpc = tonic::server::Grpc::new(codec);
                    grpc = grpc.max_decoding_message_size(chassis::server::MAX_MESSAGE_BYTES);
                    grpc.unary(tower::service_fn(move |request| (fake.get_score)(request)), request).await
                }
                Some("WatchScores") => {
                    let codec = tonic_prost::ProstCodec::<WatchScoresResponse, WatchScoresRequest>::default();
                    let watch = tower::service_fn(move |request| {
                        let answer = (fake.watch_scores)(request);
                        async move { answer.await.map(Response::new) }
                    });
                    tonic::server::Grpc::new(codec).server_streaming(watch, request).await
                }
                Some("StreamPurchases") => {
                    let codec = tonic_prost::ProstCodec::<StreamPurchasesResponse, StreamPurchasesRequest>::default();
                    let take = tower::service_fn(move |request| (fake.stream_purchases)(request));
                    tonic::server::Grpc::new(codec).client_streaming(take, request).await
                }
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// The next entry that is a change, and its cursor.
pub async fn next_change(stream: &mut (impl Stream<Item = Result<Entry<Standing>>> + Unpin)) -> Entry<Standing> {
    loop {
        let entry = next(stream).await;
        if matches!(entry.event, Event::Change(_)) {
            return entry;
        }
    }
}

/// The next entry, which must come in time.
pub async fn next(stream: &mut (impl Stream<Item = Result<Entry<Standing>>> + Unpin)) -> Entry<Standing> {
    tokio::time::timeout(chassis::testing::DEADLINE, stream.next())
        .await
        .expect("an entry in time")
        .expect("the stream goes on")
        .expect("no error")
}
