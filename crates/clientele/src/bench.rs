//! `bench`: what the suite costs, always as a ratio to something bare that runs in turn with it, in the same process and minute.
//!
//! | key | ours | bare |
//! | --- | --- | --- |
//! | `decide_to_echo` | `Decide` for a random customer, tracing on | a bare tonic echo of the same message sizes |
//! | `bulk_to_raw_sqlite`, `bulk_to_raw_postgres` | `StreamPurchases`, with summaries and outbox | the same rows by the database's fastest bulk insert |
//! | `durable_to_echo` | one purchase per call, durable, many callers | the echo |
//! | `freshness_p99_ms` | from a purchase's acknowledgement to the changed answer of `Decide` | – |
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chassis::{
    Clock,
    clock::stopwatch,
    testing::{Backend, TempDb},
};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use proto::{
    common::v1::Money,
    profiles::v1 as profiles,
    routing::v1::{self as routing, routing_client::RoutingClient},
    scoring::v1::{self as scoring, scoring_client::ScoringClient},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;
use value::generate::{Plan, Population, Purchase};

use crate::{
    cli::shows_progress,
    client::{Client, Error, Result},
    commands,
    config::Config,
    generate, serve, view,
};

mod collector;
mod echo;
mod raw;
mod wire;

pub use collector::Collector;

/// Customers that contacts are decided for.
const CUSTOMERS: usize = 100_000;
/// New customers whose past one round of bulk loads: some 100,000 rows.
const BULK_CUSTOMERS: usize = 50_000;
/// Rows in one message of the stream.
const BULK_BATCH: usize = 5_000;
/// Paired rounds of each measurement.
const ROUNDS: usize = 5;
/// How long one half of a round of calls takes.
const HALF: Duration = Duration::from_secs(3);
/// Callers at once.
const CALLERS: usize = 128;
/// Connections that the callers share.
const CONNECTIONS: usize = 4;
/// Purchases of a round whose effect is waited for.
const FRESH: usize = 100;
/// When purchases happen: well before the services' clock.
const DAY_SECONDS: i64 = 86_400;

/// Runs all measurements and prints them.
///
/// # Errors
/// A service that fails under load, which would make any figure a lie.
pub async fn run(config: Config, json: bool, only: &[Figure]) -> Result<()> {
    let bar = progress(json);
    let mut report = Report::default();
    let wanted = |figure: Figure| only.is_empty() || only.contains(&figure);
    if Figure::value_variants().iter().any(|figure| figure.backend() == Backend::Sqlite && wanted(*figure)) {
        bar.set_message("SQLite: starting, 100,000 customers");
        let mut suite = Suite::start(&config, Backend::Sqlite).await?;
        suite.populate(&bar).await?;
        if wanted(Figure::Decide) {
            report.rows.push(calls(&suite, &bar, Figure::Decide).await?);
        }
        if wanted(Figure::Durable) {
            report.rows.push(calls(&suite, &bar, Figure::Durable).await?);
        }
        if wanted(Figure::Freshness) {
            report.rows.push(freshness(&suite, &bar).await?);
        }
        if wanted(Figure::BulkSqlite) {
            report.rows.push(bulk(&mut suite, &bar, Figure::BulkSqlite).await?);
        }
        suite.stop().await?;
    }
    if wanted(Figure::BulkPostgres) && chassis::testing::postgres_or_say_so() {
        bar.set_message("PostgreSQL: starting, 100,000 customers");
        let mut suite = Suite::start(&config, Backend::Postgres).await?;
        suite.populate(&bar).await?;
        report.rows.push(bulk(&mut suite, &bar, Figure::BulkPostgres).await?);
        suite.stop().await?;
    }
    bar.finish_and_clear();
    report.print(json);
    Ok(())
}

fn progress(json: bool) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    if json || !shows_progress() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Figure {
    /// Decide for a random customer, against the echo
    #[value(name = "decide_to_echo")]
    Decide,
    /// One purchase per call, durable, against the echo
    #[value(name = "durable_to_echo")]
    Durable,
    /// A stream of purchases against a multi-row insert
    #[value(name = "bulk_to_raw_sqlite")]
    BulkSqlite,
    /// A stream of purchases against a binary COPY
    #[value(name = "bulk_to_raw_postgres")]
    BulkPostgres,
    /// From a purchase to the changed decision
    #[value(name = "freshness_p99_ms")]
    Freshness,
}

impl Figure {
    fn key(self) -> &'static str {
        match self {
            Self::Decide => "decide_to_echo",
            Self::Durable => "durable_to_echo",
            Self::BulkSqlite => "bulk_to_raw_sqlite",
            Self::BulkPostgres => "bulk_to_raw_postgres",
            Self::Freshness => "freshness_p99_ms",
        }
    }

    fn backend(self) -> Backend {
        if self == Self::BulkPostgres { Backend::Postgres } else { Backend::Sqlite }
    }
}

/// One measurement.
struct Row {
    key: &'static str,
    median: f64,
    low: f64,
    high: f64,
    text: String,
}

impl Row {
    fn new(key: &'static str, mut values: Vec<f64>, text: String) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self { key, median: at(values.len() / 2), low: at(0), high: at(values.len().saturating_sub(1)), text }
    }
}

#[derive(Default)]
struct Report {
    rows: Vec<Row>,
}

impl Report {
    fn print(&self, json: bool) {
        if json {
            let map: serde_json::Map<String, serde_json::Value> =
                self.rows.iter().map(|row| (row.key.to_owned(), serde_json::json!(row.median))).collect();
            view::line(serde_json::Value::Object(map).to_string());
            return;
        }
        let rows = self.rows.iter().map(|row| {
            vec![
                row.key.to_owned(),
                format!("{:.3}", row.median),
                format!("{:.3} – {:.3}", row.low, row.high),
                row.text.clone(),
            ]
        });
        view::line(view::table(&["figure", "median", "range", "of the median's kind"], &[1, 2], rows));
        if cfg!(debug_assertions) {
            view::line("These are figures of the dev profile; for a release's: cargo run --release -- bench");
        }
    }
}

/// All services on temporary databases, with their customers.
struct Suite {
    client: Client,
    url: String,
    databases: Vec<TempDb>,
    customers: Vec<String>,
    first_day: i64,
    next: AtomicU64,
    end: CancellationToken,
    running: tokio::task::JoinHandle<chassis::Result<()>>,
}

impl Suite {
    async fn start(config: &Config, backend: Backend) -> Result<Self> {
        let mut config = config.clone();
        let mut databases = Vec::new();
        for url in [
            &mut config.profiles.database_url,
            &mut config.scoring.database_url,
            &mut config.routing.database_url,
            &mut config.complaints.database_url,
        ] {
            let database = TempDb::new(backend).await;
            *url = database.url().into();
            databases.push(database);
        }
        config.server.listen = ([127, 0, 0, 1], 0).into();
        let clock = Clock::system();
        let first_day = clock.now().as_second() - 300 * DAY_SECONDS;
        let end = CancellationToken::new();
        let running = serve::start(config, clock, &[], end.clone().cancelled_owned()).await?;
        let url = format!("http://{}", running.address);
        let client = Client::new(std::slice::from_ref(&url))?;
        let running = tokio::spawn(running.ended());
        let begin = stopwatch();
        while client.scoring().get_standing_counts(scoring::GetStandingCountsRequest {}).await.is_err()
            || client.profiles().list_customers(profiles::ListCustomersRequest::default()).await.is_err()
            || client.routing().list_queues(routing::ListQueuesRequest {}).await.is_err()
        {
            if running.is_finished() || begin.elapsed() > Duration::from_secs(60) {
                return Err(Error::new("the services did not start; the log has the reason"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { client, url, databases, customers: Vec::new(), first_day, next: AtomicU64::new(0), end, running })
    }

    async fn stop(self) -> Result<()> {
        self.end.cancel();
        let ended = self.running.await.map_err(|error| Error::new(error.to_string()))?;
        drop(self.databases);
        Ok(ended?)
    }

    /// Customers, one purchase each and some with more, models and a ranking; then waits until routing knows them all.
    async fn populate(&mut self, bar: &ProgressBar) -> Result<()> {
        self.ensure(CUSTOMERS).await?;
        bar.set_message("recording their purchases");
        let mut rows = Vec::new();
        for purchase in people(CUSTOMERS, 0)?.by_customer(0..CUSTOMERS as u64) {
            rows.push(self.made_up(0, &purchase));
        }
        for chunk in rows.chunks(5_000) {
            let message = scoring::RecordPurchasesRequest { purchases: chunk.to_vec() };
            self.client.scoring().record_purchases(message).await?;
        }
        bar.set_message("fitting and ranking");
        let message = scoring::FitModelsRequest { request_id: "bench".to_owned(), ..Default::default() };
        let operation = self.client.scoring().fit_models(message).await?.into_inner();
        commands::wait(&self.client, operation, false).await?;
        let message = scoring::RankCustomersRequest { request_id: "bench".to_owned(), ..Default::default() };
        let operation = self.client.scoring().rank_customers(message).await?.into_inner();
        commands::wait(&self.client, operation, false).await?;
        bar.set_message("waiting until routing has followed");
        let last = self.customer(CUSTOMERS - 1);
        let begin = stopwatch();
        loop {
            let reply = self.client.routing().decide(decide(&last)).await?.into_inner();
            if reply.standing.is_some_and(|standing| standing.tier != 0) {
                return Ok(());
            }
            if begin.elapsed() > Duration::from_secs(120) {
                return Err(Error::new("routing did not follow scoring within two minutes"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// So many customers more.
    async fn ensure(&mut self, more: usize) -> Result<()> {
        let first = self.customers.len();
        for start in (first..first + more).step_by(1_000) {
            let items = (start..(start + 1_000).min(first + more))
                .map(|number| profiles::EnsureCustomer {
                    identity: Some(profiles::ExternalIdentity { system: "bench".to_owned(), id: number.to_string() }),
                    customer: None,
                })
                .collect();
            let reply = self.client.profiles().ensure_customers(profiles::EnsureCustomersRequest { items }).await?;
            self.customers.extend(reply.into_inner().customers.into_iter().map(|ensured| ensured.customer_id));
        }
        Ok(())
    }

    fn customer(&self, number: usize) -> String {
        self.customers.get(number % self.customers.len().max(1)).cloned().unwrap_or_default()
    }

    /// Waits until profiles and routing have followed what scoring says of this customer, whose row came last.
    async fn quiet(&self, customer: usize) -> Result<()> {
        let id = self.customer(customer);
        let begin = stopwatch();
        loop {
            let record = profiles::GetCustomerRequest { customer_id: id.clone(), ..Default::default() };
            let record = self.client.profiles().get_customer(record).await?.into_inner();
            let score = scoring::GetScoreRequest { customer_id: id.clone(), ..Default::default() };
            let score = self.client.scoring().get_score(score).await?.into_inner();
            let decision = self.client.routing().decide(decide(&id)).await?.into_inner();
            let announced = score.score.and_then(|score| score.standing).unwrap_or_default().revision;
            let kept = record.customer.and_then(|customer| customer.standing).unwrap_or_default().revision;
            if kept >= announced && decision.standing.unwrap_or_default().revision >= announced {
                return Ok(());
            }
            if begin.elapsed() > Duration::from_secs(120) {
                return Err(Error::new("the followers did not come up within two minutes"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A made-up purchase; the customers it was made up for begin at `first`.
    fn made_up(&self, first: usize, purchase: &Purchase) -> scoring::Purchase {
        let customer = usize::try_from(purchase.customer).unwrap_or(usize::MAX);
        self.purchase(first + customer, purchase.day.into(), generate::minor_units(purchase.value, "USD"))
    }

    /// A new purchase of a customer.
    fn purchase(&self, customer: usize, day: i64, minor_units: i64) -> scoring::Purchase {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        scoring::Purchase {
            source: "bench".to_owned(),
            purchase_id: format!("{number:012}"),
            customer_id: self.customer(customer),
            purchase_time: Some(prost_types::Timestamp { seconds: self.first_day + day * DAY_SECONDS, nanos: 0 }),
            amount: Some(Money { currency_code: "USD".to_owned(), minor_units }),
            kind: scoring::PurchaseKind::Sale.into(),
            discount: None,
        }
    }
}

fn decide(customer_id: &str) -> routing::DecideRequest {
    routing::DecideRequest {
        who: Some(routing::decide_request::Who::CustomerId(customer_id.to_owned())),
        arrival_channel_id: "phone".to_owned(),
        purpose: routing::ContactPurpose::Inquiry.into(),
    }
}

/// Paired rounds of calls against the echo.
async fn calls(suite: &Suite, bar: &ProgressBar, figure: Figure) -> Result<Row> {
    let durable = figure == Figure::Durable;
    let sample_request;
    let sample_reply;
    match durable {
        false => {
            let request = decide(&suite.customer(0));
            let reply = suite.client.routing().decide(request.clone()).await?.into_inner();
            (sample_request, sample_reply) =
                (prost::Message::encoded_len(&request), prost::Message::encoded_len(&reply));
        }
        true => {
            let request = scoring::RecordPurchasesRequest { purchases: vec![suite.purchase(0, 1, 1_000)] };
            let reply = suite.client.scoring().record_purchases(request.clone()).await?.into_inner();
            (sample_request, sample_reply) =
                (prost::Message::encoded_len(&request), prost::Message::encoded_len(&reply));
        }
    }
    let echo = echo::Server::start(sample_reply).await?;
    let mut ours_channels = Vec::new();
    let mut echo_channels = Vec::new();
    for _ in 0..CONNECTIONS {
        ours_channels.push(connect(&suite.url).await?);
        echo_channels.push(connect(&echo.url).await?);
    }
    let mut ratios = Vec::new();
    let (mut ours_rates, mut echo_rates, mut ours_p99, mut echo_p99) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // The first pair warms both up and is not counted.
    for round in 0..=ROUNDS {
        bar.set_message(format!("{}, round {round} of {ROUNDS}", figure.key()));
        let echoed = encoded(&echo::Message { payload: vec![7_u8; sample_request.saturating_sub(3)] });
        let bare = || load(&echo_channels, |channel, _| wire::call(channel, echo::PATH, echoed.clone()));
        let ours = || {
            load(&ours_channels, |channel, number| {
                let customer = scatter(number) % CUSTOMERS;
                if durable {
                    let purchases = vec![suite.purchase(customer, 299, 1_000)];
                    let request = encoded(&scoring::RecordPurchasesRequest { purchases });
                    wire::call(channel, "/clientele.scoring.v1.Scoring/RecordPurchases", request)
                } else {
                    let request = encoded(&decide(&suite.customer(customer)));
                    wire::call(channel, "/clientele.routing.v1.Routing/Decide", request)
                }
            })
        };
        // Which one goes first takes turns, so that a machine that grows slower favours neither.
        let (bare, ours) = if round % 2 == 0 {
            let bare = bare().await?;
            (bare, ours().await?)
        } else {
            let ours = ours().await?;
            (bare().await?, ours)
        };
        if round > 0 {
            ratios.push(ours.rate / bare.rate);
            ours_rates.push(ours.rate);
            echo_rates.push(bare.rate);
            ours_p99.push(ours.p99);
            echo_p99.push(bare.p99);
        }
    }
    let text = format!(
        "{:.0} /s against {:.0} /s; p99 {:.2} ms against {:.2} ms ({CALLERS} callers, {sample_request} B in, {sample_reply} B out)",
        median(ours_rates),
        median(echo_rates),
        median(ours_p99),
        median(echo_p99)
    );
    Ok(Row::new(figure.key(), ratios, text))
}

fn encoded(message: &impl prost::Message) -> prost::bytes::Bytes {
    message.encode_to_vec().into()
}

/// Customers like those of the CDNOW sample over 290 days, the same in every run.
fn people(customers: usize, seed: u64) -> Result<Population> {
    generate::like_cdnow(Plan { customers: customers as u64, arrival_days: 200, days: 290, seed })
}

/// Spreads consecutive numbers over all customers (Fibonacci hashing): each call another one, the same in every run.
fn scatter(number: u64) -> usize {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
}

async fn connect(url: &str) -> Result<Channel> {
    let endpoint =
        Endpoint::from_shared(url.to_owned()).map_err(|error| Error::new(error.to_string()))?.tcp_nodelay(true);
    endpoint.connect().await.map_err(|error| Error::new(format!("{url}: {error}")))
}

struct Load {
    rate: f64,
    /// Milliseconds.
    p99: f64,
}

/// As many calls as [`CALLERS`] callers get done in [`HALF`].
async fn load<F>(channels: &[Channel], call: impl Fn(Channel, u64) -> F) -> Result<Load>
where
    F: Future<Output = std::result::Result<usize, tonic::Status>>,
{
    let numbers = AtomicU64::new(0);
    let begin = stopwatch();
    let callers = (0..CALLERS).map(|caller| {
        let channel = channels[caller % channels.len()].clone();
        let (numbers, call) = (&numbers, &call);
        async move {
            let mut latencies = Vec::new();
            while begin.elapsed() < HALF {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let sent = stopwatch();
                call(channel.clone(), number).await?;
                latencies.push(sent.elapsed());
            }
            Ok::<_, tonic::Status>(latencies)
        }
    });
    let mut latencies: Vec<Duration> = futures::future::try_join_all(callers).await?.into_iter().flatten().collect();
    let elapsed = begin.elapsed();
    latencies.sort_unstable();
    #[allow(clippy::cast_precision_loss, reason = "counts of calls are far below 2^52")]
    let rate = latencies.len() as f64 / elapsed.as_secs_f64();
    Ok(Load { rate, p99: quantile(&latencies, 99) })
}

/// Milliseconds.
fn quantile(sorted: &[Duration], per_cent: usize) -> f64 {
    let index = (sorted.len() * per_cent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1_000.0)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Paired rounds of bulk: the stream against the database alone. What is loaded is what a company loads: the past of its customers, who are known and
/// have no purchases here yet, in the order in which they were made.
async fn bulk(suite: &mut Suite, bar: &ProgressBar, figure: Figure) -> Result<Row> {
    let mut ratios = Vec::new();
    let (mut ours_rates, mut raw_rates) = (Vec::new(), Vec::new());
    let channel = connect(&suite.url).await?;
    for round in 0..=ROUNDS {
        bar.set_message(format!("{}, round {round} of {ROUNDS}", figure.key()));
        let first = suite.customers.len();
        suite.ensure(BULK_CUSTOMERS).await?;
        let population = people(BULK_CUSTOMERS, round as u64 + 1)?;
        let purchases: Vec<Purchase> = population.by_time(0..BULK_CUSTOMERS as u64).collect();
        let last = purchases.last().map_or(first, |purchase| first + usize::try_from(purchase.customer).unwrap_or(0));
        let rows: Vec<_> = purchases.iter().map(|purchase| suite.made_up(first, purchase)).collect();
        let mut raw = None;
        // As with the calls, which one goes first takes turns.
        if round % 2 == 0 {
            raw = Some(raw::insert(figure.backend(), &rows).await?);
        }
        let batches: Vec<_> = rows
            .chunks(BULK_BATCH)
            .map(|chunk| encoded(&scoring::StreamPurchasesRequest { purchases: chunk.to_vec() }))
            .collect();
        let begin = stopwatch();
        let reply = wire::stream(channel.clone(), "/clientele.scoring.v1.Scoring/StreamPurchases", batches).await?;
        let ours = begin.elapsed();
        let reply = <scoring::StreamPurchasesResponse as prost::Message>::decode(reply);
        let recorded = reply.map_err(|error| Error::new(error.to_string()))?.counts.map_or(0, |counts| counts.recorded);
        if usize::try_from(recorded) != Ok(rows.len()) {
            return Err(Error::new(format!("{recorded} of {} rows were recorded", rows.len())));
        }
        suite.quiet(last).await?;
        let raw = match raw {
            Some(raw) => raw,
            None => raw::insert(figure.backend(), &rows).await?,
        };
        if round > 0 {
            ratios.push(raw.as_secs_f64() / ours.as_secs_f64());
            #[allow(clippy::cast_precision_loss, reason = "counts of rows are far below 2^52")]
            let count = rows.len() as f64;
            ours_rates.push(count / ours.as_secs_f64());
            raw_rates.push(count / raw.as_secs_f64());
        }
    }
    let text = format!("{:.0} rows/s against {:.0} rows/s", median(ours_rates), median(raw_rates));
    Ok(Row::new(figure.key(), ratios, text))
}

/// A first-time customer buys again; how long until `Decide` says repeat? Rounds of so many, each with a p99 of its own.
async fn freshness(suite: &Suite, bar: &ProgressBar) -> Result<Row> {
    let channel = connect(&suite.url).await?;
    let (mut routing, mut scoring) = (RoutingClient::new(channel.clone()), ScoringClient::new(channel));
    let mut customer = 1;
    let (mut p50s, mut p99s) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        bar.set_message(format!("{}, round {round} of {ROUNDS}", Figure::Freshness.key()));
        let mut latencies = Vec::new();
        while latencies.len() < FRESH {
            customer += 1;
            if customer >= CUSTOMERS {
                return Err(Error::new("too few purchases changed a standing"));
            }
            let id = suite.customer(customer);
            let before = routing.decide(decide(&id)).await?.into_inner().standing.unwrap_or_default();
            let purchase = suite.purchase(customer, 298, 2_000);
            scoring.record_purchases(scoring::RecordPurchasesRequest { purchases: vec![purchase] }).await?;
            let acknowledged = stopwatch();
            let score = scoring.get_score(scoring::GetScoreRequest { customer_id: id.clone(), ..Default::default() });
            let after = score.await?.into_inner().score.and_then(|score| score.standing).unwrap_or_default();
            // Only a purchase that changes the standing can be seen in a decision.
            if after.revision <= before.revision {
                continue;
            }
            while routing.decide(decide(&id)).await?.into_inner().standing.unwrap_or_default().revision < after.revision
            {
                if acknowledged.elapsed() > Duration::from_secs(30) {
                    return Err(Error::new("a decision did not change within 30 s of the purchase"));
                }
                tokio::task::yield_now().await;
            }
            latencies.push(acknowledged.elapsed());
        }
        latencies.sort_unstable();
        if round > 0 {
            p50s.push(quantile(&latencies, 50));
            p99s.push(quantile(&latencies, 99));
        }
    }
    let text = format!("ms, of {FRESH} purchases one after another; p50 {:.2} ms", median(p50s));
    Ok(Row::new(Figure::Freshness.key(), p99s, text))
}

/// A customer's id as the bare table holds it.
pub(crate) fn parse_uuid(text: &str) -> Uuid {
    Uuid::parse_str(text).unwrap_or_default()
}

/// Shared by the echo's callers.
pub(crate) type Payload = Arc<Vec<u8>>;
