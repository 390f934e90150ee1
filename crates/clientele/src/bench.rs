//! `bench`: what the suite costs, always as a ratio to something bare that runs in turn with it, in the same process and minute.
//!
//! | key | ours | bare |
//! | --- | --- | --- |
//! | `decide_to_echo` | `Decide` for a random customer, tracing on | a bare tonic echo of the same message sizes |
//! | `bulk_to_raw_sqlite`, `bulk_to_raw_postgres` | `StreamPurchases`, with summaries and outbox | the same rows by the database's fastest bulk insert |
//! | `durable_to_echo` | one purchase per call, durable, many callers | the echo |
//! | `freshness_p99_ms` | from a purchase's acknowledgement to the changed answer of `Decide` | – |
//! | `get_score_to_echo` | `GetScore` of a random customer, once everybody was asked for | the echo |
//! | `rank_to_select_sqlite`, `rank_to_select_postgres` | one pass of `RankCustomers` over a million | a plain SELECT of the same rows |
//! | `score_p99_ranking_sqlite`, `score_p99_ranking_postgres` | p99 of `GetScore` during a ranking | the same while nothing else happens |
use std::{sync::Arc, time::Duration};

use chassis::{clock::stopwatch, testing::Backend};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use proto::{
    routing::v1::routing_client::RoutingClient,
    scoring::v1::{self as scoring, scoring_client::ScoringClient},
};
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;
use value::generate::Purchase;

use crate::{
    cli::shows_progress,
    client::{Error, Result},
    config::Config,
    view,
};

mod calls;
mod collector;
mod echo;
mod rank;
mod raw;
mod suite;
mod wire;

pub use collector::Collector;
use suite::{Suite, decide, people};

/// Customers that contacts are decided for.
const CUSTOMERS: usize = 100_000;
/// Customers that are ranked.
const RANKED: usize = 1_000_000;
/// New customers whose past one round of bulk loads: some 100,000 rows.
const BULK_CUSTOMERS: usize = 50_000;
/// Rows in one message of the stream.
const BULK_BATCH: usize = 5_000;
/// Paired rounds of each measurement.
const ROUNDS: usize = 5;
/// Purchases of a round whose effect is waited for.
const FRESH: usize = 100;

/// Runs all measurements and prints them.
///
/// # Errors
/// A service that fails under load, which would make any figure a lie.
pub async fn run(config: Config, json: bool, only: &[Figure]) -> Result<()> {
    let bar = progress(json);
    let mut report = Report::default();
    let wanted = |figure: Figure| if only.is_empty() { !figure.is_large() } else { only.contains(&figure) };
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let figures: Vec<Figure> = Figure::value_variants()
            .iter()
            .copied()
            .filter(|figure| figure.backend() == backend && wanted(*figure))
            .collect();
        if figures.is_empty() || backend == Backend::Postgres && !chassis::testing::postgres_or_say_so() {
            continue;
        }
        let (large, usual): (Vec<Figure>, Vec<Figure>) = figures.into_iter().partition(|figure| figure.is_large());
        for (figures, customers) in [(usual, CUSTOMERS), (large, RANKED)] {
            if figures.is_empty() {
                continue;
            }
            bar.set_message(format!("{backend:?}: starting, {customers} customers"));
            let mut suite = Suite::start(&config, backend).await?;
            suite.populate(&bar, customers).await?;
            for figure in figures {
                match figure {
                    Figure::Decide | Figure::Durable | Figure::Score => {
                        report.rows.push(calls::measure(&suite, &bar, figure).await?);
                    }
                    Figure::Freshness => report.rows.push(freshness(&suite, &bar).await?),
                    Figure::BulkSqlite | Figure::BulkPostgres => {
                        report.rows.push(bulk(&mut suite, &bar, figure).await?);
                    }
                    Figure::RankSqlite | Figure::RankPostgres => {
                        report.rows.extend(rank::measure(&suite, &bar, customers, figure).await?);
                    }
                }
            }
            suite.stop().await?;
        }
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
    /// GetScore of a random customer, once everybody was asked for, against the echo
    #[value(name = "get_score_to_echo")]
    Score,
    /// RankCustomers over a million against a plain SELECT, and GetScore meanwhile (some ten minutes; only when named)
    #[value(name = "rank_to_select_sqlite")]
    RankSqlite,
    /// The same on PostgreSQL
    #[value(name = "rank_to_select_postgres")]
    RankPostgres,
}

impl Figure {
    fn key(self) -> &'static str {
        match self {
            Self::Decide => "decide_to_echo",
            Self::Durable => "durable_to_echo",
            Self::BulkSqlite => "bulk_to_raw_sqlite",
            Self::BulkPostgres => "bulk_to_raw_postgres",
            Self::Freshness => "freshness_p99_ms",
            Self::Score => "get_score_to_echo",
            Self::RankSqlite => "rank_to_select_sqlite",
            Self::RankPostgres => "rank_to_select_postgres",
        }
    }

    fn backend(self) -> Backend {
        if matches!(self, Self::BulkPostgres | Self::RankPostgres) { Backend::Postgres } else { Backend::Sqlite }
    }

    /// Whether it takes so many customers that it is only measured when named.
    fn is_large(self) -> bool {
        matches!(self, Self::RankSqlite | Self::RankPostgres)
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

async fn connect(url: &str) -> Result<Channel> {
    let endpoint =
        Endpoint::from_shared(url.to_owned()).map_err(|error| Error::new(error.to_string()))?.tcp_nodelay(true);
    endpoint.connect().await.map_err(|error| Error::new(format!("{url}: {error}")))
}

fn encoded(message: &impl prost::Message) -> prost::bytes::Bytes {
    message.encode_to_vec().into()
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
