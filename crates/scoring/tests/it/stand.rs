//! What every test stands on: scoring on a temporary database, with a profiles beside it that knows whom the test tells it.
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use chassis::{
    Clock, Db, Service,
    clock::to_proto,
    config::DbUrl,
    server::Rpcs,
    testing::{Backend, TempDb, TestServer, noon},
};
use futures::{StreamExt, stream::BoxStream};
use jiff::{SignedDuration, Timestamp};
use proto::{
    common::v1::{FeedPosition, Money},
    profiles::v1::{
        self as profiles,
        profiles_server::{Profiles, ProfilesServer},
        watch_customers_response::Event,
    },
    scoring::v1::{self as pb, scoring_client::ScoringClient},
};
use sea_orm::ConnectionTrait;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use uuid::Uuid;

pub(crate) type Client = ScoringClient<chassis::peers::Channel>;

/// scoring, and how to talk to it.
pub(crate) struct Stand {
    pub(crate) db: TempDb,
    pub(crate) server: TestServer,
    pub(crate) clock: Clock,
    pub(crate) profiles: FakeProfiles,
    pub(crate) client: Client,
    config: scoring::Config,
}

impl Stand {
    pub(crate) async fn new(backend: Backend) -> Self {
        Self::at(backend, noon(), |_| {}).await
    }

    pub(crate) async fn at(backend: Backend, now: Timestamp, change: impl FnOnce(&mut scoring::Config)) -> Self {
        let db = TempDb::new(backend).await;
        // As in a data folder. On PostgreSQL it says nothing.
        let database_url = DbUrl::alone(db.url());
        let mut config = scoring::Config { database_url, ..scoring::Config::default() };
        change(&mut config);
        let (clock, profiles) = (Clock::mock(now), FakeProfiles::default());
        let server = start(&config, &clock, &profiles).await;
        let client = client(&server);
        Self { db, server, clock, profiles, client, config }
    }

    /// Ends the server and starts another one on the same database.
    pub(crate) async fn restarted(self) -> Self {
        self.server.stop().await.unwrap();
        let server = start(&self.config, &self.clock, &self.profiles).await;
        Self { client: client(&server), server, ..self }
    }

    /// Starts it anew as one of several that write to the database.
    pub(crate) async fn shared(mut self) -> Self {
        self.config.database_url = self.db.url().into();
        self.restarted().await
    }

    /// Starts the service once more on the same database, configured differently.
    pub(crate) async fn start_with(&self, change: impl FnOnce(&mut scoring::Config)) -> chassis::Result<()> {
        assert!(!self.config.database_url.is_alone(), "it was told to be alone: see `shared`");
        let mut config = self.config.clone();
        change(&mut config);
        scoring::service(config, self.server.context.clone()).start.await.map(|_| ())
    }

    /// A second replica on the same database.
    pub(crate) async fn replica(&self) -> (TestServer, Client) {
        assert!(!self.config.database_url.is_alone(), "it was told to be alone: see `shared`");
        let server = start(&self.config, &self.clock, &self.profiles).await;
        let client = client(&server);
        (server, client)
    }

    /// Runs a statement on the database, past the service.
    pub(crate) async fn alter(&self, statement: &str) {
        let db = Db::connect::<scoring::migrations::Migrator>(self.db.url(), &self.clock).await.unwrap();
        db.run_tx("alter", |tx| {
            Box::pin(async move { tx.execute_unprepared(statement).await.map_err(chassis::Error::from) })
        })
        .await
        .unwrap();
    }

    /// Records rows, all of which must be accepted.
    pub(crate) async fn record(&self, purchases: Vec<pb::Purchase>) -> pb::PurchaseCounts {
        let reply = self.try_record(purchases).await.unwrap();
        assert_eq!(reply.rejections, [], "{reply:?}");
        reply.counts.unwrap()
    }

    pub(crate) async fn try_record(&self, purchases: Vec<pb::Purchase>) -> Result<pb::RecordPurchasesResponse, Status> {
        let request = pb::RecordPurchasesRequest { purchases };
        self.client.clone().record_purchases(request).await.map(Response::into_inner)
    }

    pub(crate) async fn score(&self, customer: Uuid) -> pb::Score {
        let request = pb::GetScoreRequest {
            customer_id: customer.to_string(),
            as_of: None,
            with_evidence: false,
            ..Default::default()
        };
        self.client.clone().get_score(request).await.unwrap().into_inner().score.unwrap()
    }

    /// What is thought of a customer, as of noon so many days ago.
    pub(crate) async fn assess(&self, customer: Uuid, days_ago: i64) -> pb::Assessment {
        let as_of = (days_ago > 0).then(|| to_proto(noon() - SignedDuration::from_hours(24 * days_ago)));
        let request = pb::GetScoreRequest {
            customer_id: customer.to_string(),
            as_of,
            with_assessment: true,
            ..Default::default()
        };
        self.client.clone().get_score(request).await.unwrap().into_inner().score.unwrap().assessment.unwrap()
    }

    pub(crate) async fn fit(&self, request_id: &str) -> pb::Operation {
        let request = pb::FitModelsRequest { request_id: request_id.into(), ..Default::default() };
        let operation = self.client.clone().fit_models(request).await.unwrap().into_inner();
        self.wait(&operation).await
    }

    pub(crate) async fn rank(&self, request_id: &str) -> pb::Operation {
        let request = pb::RankCustomersRequest { request_id: request_id.into(), ..Default::default() };
        let operation = self.client.clone().rank_customers(request).await.unwrap().into_inner();
        self.wait(&operation).await
    }

    pub(crate) async fn wait(&self, operation: &pb::Operation) -> pb::Operation {
        let request = pb::WaitOperationRequest { operation_id: operation.operation_id.clone(), timeout: None };
        let operation = self.client.clone().wait_operation(request).await.unwrap().into_inner();
        assert!(operation.outcome.is_some(), "still at it: {operation:?}");
        operation
    }
}

pub(crate) async fn start(config: &scoring::Config, clock: &Clock, profiles: &FakeProfiles) -> TestServer {
    TestServer::start(clock.clone(), &[], |context| {
        vec![profiles.service(), scoring::service(config.clone(), context.clone())]
    })
    .await
}

fn client(server: &TestServer) -> Client {
    ScoringClient::new(server.channel()).max_decoding_message_size(chassis::server::MAX_MESSAGE_BYTES)
}

/// A customer's id out of a number.
pub(crate) fn id(number: u128) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 | number)
}

/// A purchase of so many cents, `days` before noon.
pub(crate) fn sale(purchase_id: impl ToString, customer: Uuid, days: i64, cents: i64) -> pb::Purchase {
    pb::Purchase {
        source: "shop".into(),
        purchase_id: purchase_id.to_string(),
        customer_id: customer.to_string(),
        purchase_time: Some(to_proto(noon() - SignedDuration::from_hours(24 * days))),
        amount: Some(Money { currency_code: "USD".into(), minor_units: cents }),
        kind: pb::PurchaseKind::Sale.into(),
        discount: None,
    }
}

/// Something given back.
pub(crate) fn back(purchase_id: impl ToString, customer: Uuid, days: i64, cents: i64) -> pb::Purchase {
    pb::Purchase { kind: pb::PurchaseKind::Return.into(), ..sale(purchase_id, customer, days, cents) }
}

/// A cost of so many cents, `days` before noon.
pub(crate) fn cost(cost_id: impl ToString, customer: Uuid, days: i64, cents: i64) -> pb::ServiceCost {
    let sale = sale("", customer, days, cents);
    pb::ServiceCost {
        source: sale.source,
        cost_id: cost_id.to_string(),
        customer_id: sale.customer_id,
        cost_time: sale.purchase_time,
        amount: sale.amount,
    }
}

/// An invoice over so many cents, issued `days` before noon and due ten days later, with nothing paid yet.
pub(crate) fn invoice(payment_id: impl ToString, customer: Uuid, days: i64, cents: i64) -> pb::Payment {
    let sale = sale("", customer, days, cents);
    pb::Payment {
        source: sale.source,
        payment_id: payment_id.to_string(),
        customer_id: sale.customer_id,
        issue_time: sale.purchase_time,
        due_time: self::sale("", customer, days - 10, 0).purchase_time,
        amount: sale.amount,
        ..Default::default()
    }
}

/// The same with so many cents of it paid, `days` before noon.
pub(crate) fn paid(invoice: pb::Payment, days: i64, cents: i64) -> pb::Payment {
    let sale = sale("", Uuid::nil(), days, cents);
    pb::Payment { paid_time: sale.purchase_time, paid_amount: sale.amount, ..invoice }
}

pub(crate) fn minor(money: Option<&Money>) -> i64 {
    money.unwrap().minor_units
}

/// A profiles that knows whom it is told, and feeds every change to its followers.
#[derive(Clone, Default)]
pub(crate) struct FakeProfiles(Arc<Known>);

struct Known {
    log: Mutex<Vec<profiles::Customer>>,
    /// How often it was restored. Cursors are of the life they were given out in, and after the first a snapshot comes before the changes.
    life: AtomicUsize,
    length: watch::Sender<usize>,
    /// Does not feed its followers, so that customers have to be asked for.
    silent: AtomicBool,
    down: AtomicBool,
    /// Customers that fit into one answer.
    at_most: AtomicUsize,
    asked: AtomicUsize,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            log: Mutex::default(),
            life: AtomicUsize::new(0),
            length: watch::Sender::new(0),
            silent: AtomicBool::new(true),
            down: AtomicBool::new(false),
            at_most: AtomicUsize::new(1_000),
            asked: AtomicUsize::new(0),
        }
    }
}

impl FakeProfiles {
    /// Makes a customer known or changes one.
    pub(crate) fn put(&self, customer: Uuid, showed_interest: bool, targeted: bool) {
        let mut log = self.0.log.lock().unwrap();
        let record = record(log.len(), customer, showed_interest, targeted);
        log.push(record);
        self.0.length.send_replace(log.len());
    }

    /// Makes a customer known by a record.
    pub(crate) fn put_record(&self, customer: Uuid, record: profiles::Customer) {
        let mut log = self.0.log.lock().unwrap();
        let revision = log.len() as i64 + 1;
        log.push(profiles::Customer { customer_id: customer.to_string(), revision, ..record });
        self.0.length.send_replace(log.len());
    }

    pub(crate) fn know(&self, customers: impl IntoIterator<Item = Uuid>) {
        customers.into_iter().for_each(|customer| self.put(customer, true, false));
    }

    /// Comes back from a copy with only these customers, by their facts; they have counted to where they stand in the list.
    pub(crate) fn restore(&self, customers: &[(Uuid, bool, bool)]) {
        let mut log = self.0.log.lock().unwrap();
        self.0.life.fetch_add(1, Ordering::SeqCst);
        let records = customers.iter().enumerate();
        *log = records.map(|(before, (id, interest, targeted))| record(before, *id, *interest, *targeted)).collect();
        self.0.length.send_replace(log.len());
    }

    /// From now on it feeds its followers.
    pub(crate) fn feed(&self) {
        self.0.silent.store(false, Ordering::SeqCst);
        self.0.length.send_modify(|_| {});
    }

    /// As where the records are long.
    pub(crate) fn answer_at_most(&self, customers: usize) {
        self.0.at_most.store(customers, Ordering::SeqCst);
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.0.down.store(down, Ordering::SeqCst);
    }

    /// How often it was asked for customers.
    pub(crate) fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }

    fn service(&self) -> Service {
        let fake = self.clone();
        Service {
            name: "profiles",
            grpc_name: <ProfilesServer<Self> as tonic::server::NamedService>::NAME,
            start: Box::pin(async move { Ok(Rpcs::new(ProfilesServer::new(fake))) }),
        }
    }
}

fn record(before: usize, customer: Uuid, showed_interest: bool, targeted: bool) -> profiles::Customer {
    let (customer_id, revision) = (customer.to_string(), before as i64 + 1);
    profiles::Customer { customer_id, revision, showed_interest, targeted, ..Default::default() }
}

#[tonic::async_trait]
impl Profiles for FakeProfiles {
    async fn batch_get_customers(
        &self,
        request: Request<profiles::BatchGetCustomersRequest>,
    ) -> Result<Response<profiles::BatchGetCustomersResponse>, Status> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        if self.0.down.load(Ordering::SeqCst) {
            return Err(Status::unavailable("down"));
        }
        let log = self.0.log.lock().unwrap();
        let mut reply = profiles::BatchGetCustomersResponse::default();
        if request.get_ref().customer_ids.len() > self.0.at_most.load(Ordering::SeqCst) {
            return Err(Status::invalid_argument("customer_ids: ask for half as many at once"));
        }
        for id in request.into_inner().customer_ids {
            match log.iter().rev().find(|customer| customer.customer_id == id) {
                Some(customer) => reply.customers.push(customer.clone()),
                None => reply.not_found.push(id),
            }
        }
        Ok(Response::new(reply))
    }

    type WatchCustomersStream = BoxStream<'static, Result<proto::Prepared<profiles::WatchCustomersResponse>, Status>>;

    async fn watch_customers(
        &self,
        request: Request<profiles::WatchCustomersRequest>,
    ) -> Result<Response<Self::WatchCustomersStream>, Status> {
        let (life, length) = {
            let log = self.0.log.lock().unwrap();
            (self.0.life.load(Ordering::SeqCst), log.len())
        };
        let (from, snapshot) = match request.get_ref().cursor.split_once('.') {
            None if life == 0 => (0, 0),
            None => (0, length),
            Some((of, from)) if of == life.to_string() => (from.parse().unwrap(), 0),
            Some(_) => return Err(chassis::Error::CursorUnknown.into()),
        };
        let state = (Arc::clone(&self.0), self.0.length.subscribe(), from);
        let stream = futures::stream::unfold(state, move |(known, mut length, next)| async move {
            loop {
                let change = known.log.lock().unwrap().get(next).cloned();
                if known.life.load(Ordering::SeqCst) != life {
                    return None;
                }
                if let Some(customer) = change.filter(|_| !known.silent.load(Ordering::SeqCst)) {
                    // The mark at the end of a snapshot is left out: it would only bring the cursor sooner.
                    let cursor = if next < snapshot { String::new() } else { format!("{life}.{}", next + 1) };
                    let position = FeedPosition { cursor, ..Default::default() };
                    let event = Some(Event::Customer(customer));
                    let message = profiles::WatchCustomersResponse { position: Some(position), event };
                    return Some((Ok(message.into()), (known, length, next + 1)));
                }
                length.changed().await.ok()?;
            }
        });
        Ok(Response::new(stream.boxed()))
    }

    async fn ensure_customers(
        &self,
        _: Request<profiles::EnsureCustomersRequest>,
    ) -> Result<Response<profiles::EnsureCustomersResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn create_customer(
        &self,
        _: Request<profiles::CreateCustomerRequest>,
    ) -> Result<Response<profiles::CreateCustomerResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn get_customer(
        &self,
        _: Request<profiles::GetCustomerRequest>,
    ) -> Result<Response<profiles::GetCustomerResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn resolve_identity(
        &self,
        _: Request<profiles::ResolveIdentityRequest>,
    ) -> Result<Response<profiles::ResolveIdentityResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn list_customers(
        &self,
        _: Request<profiles::ListCustomersRequest>,
    ) -> Result<Response<profiles::ListCustomersResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn update_customer(
        &self,
        _: Request<profiles::UpdateCustomerRequest>,
    ) -> Result<Response<profiles::UpdateCustomerResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }
}
