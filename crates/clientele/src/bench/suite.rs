//! All services of the suite in this process, with customers.
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use chassis::{
    Clock,
    clock::stopwatch,
    config::DbUrl,
    testing::{Backend, TempDb},
};
use indicatif::ProgressBar;
use proto::{common::v1::Money, profiles::v1 as profiles, routing::v1 as routing, scoring::v1 as scoring};
use tokio_util::sync::CancellationToken;
use value::generate::{Plan, Population, Purchase};

use crate::{
    client::{Client, Error, Result},
    commands,
    config::Config,
    generate, serve,
};

/// When purchases happen: well before the services' clock.
const DAY_SECONDS: i64 = 86_400;

/// All services on temporary databases, with their customers.
pub(super) struct Suite {
    pub(super) client: Client,
    pub(super) url: String,
    databases: Vec<TempDb>,
    /// Where scoring keeps its own.
    pub(super) scoring_url: String,
    pub(super) customers: Vec<String>,
    first_day: i64,
    next: AtomicU64,
    end: CancellationToken,
    running: tokio::task::JoinHandle<chassis::Result<()>>,
}

impl Suite {
    pub(super) async fn start(config: &Config, backend: Backend) -> Result<Self> {
        let mut config = config.clone();
        let mut databases = Vec::new();
        for url in [
            &mut config.profiles.database_url,
            &mut config.scoring.database_url,
            &mut config.routing.database_url,
            &mut config.complaints.database_url,
        ] {
            let database = TempDb::new(backend).await;
            // Ours alone, as those of a data folder are.
            *url = DbUrl::alone(database.url());
            databases.push(database);
        }
        config.server.listen = ([127, 0, 0, 1], 0).into();
        let scoring_url = config.scoring.database_url.expose().to_owned();
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
        Ok(Self {
            client,
            url,
            databases,
            scoring_url,
            customers: Vec::new(),
            first_day,
            next: AtomicU64::new(0),
            end,
            running,
        })
    }

    pub(super) async fn stop(self) -> Result<()> {
        self.end.cancel();
        let ended = self.running.await.map_err(|error| Error::new(error.to_string()))?;
        drop(self.databases);
        Ok(ended?)
    }

    /// Customers, one purchase each and some with more, models and a ranking; then waits until routing knows them all.
    pub(super) async fn populate(&mut self, bar: &ProgressBar, customers: usize) -> Result<()> {
        self.ensure(customers).await?;
        bar.set_message("recording their purchases");
        let mut rows = Vec::new();
        for purchase in people(customers, 0)?.by_customer(0..customers as u64) {
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
        let last = self.customer(customers - 1);
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
    pub(super) async fn ensure(&mut self, more: usize) -> Result<()> {
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

    pub(super) fn customer(&self, number: usize) -> String {
        self.customers.get(number % self.customers.len().max(1)).cloned().unwrap_or_default()
    }

    /// Waits until profiles and routing have followed what scoring says of this customer, whose row came last.
    pub(super) async fn quiet(&self, customer: usize) -> Result<()> {
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
    pub(super) fn made_up(&self, first: usize, purchase: &Purchase) -> scoring::Purchase {
        let customer = usize::try_from(purchase.customer).unwrap_or(usize::MAX);
        self.purchase(first + customer, purchase.day.into(), generate::minor_units(purchase.value, "USD"))
    }

    /// A new purchase of a customer.
    pub(super) fn purchase(&self, customer: usize, day: i64, minor_units: i64) -> scoring::Purchase {
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

/// A contact of a customer.
pub(super) fn decide(customer_id: &str) -> routing::DecideRequest {
    routing::DecideRequest {
        who: Some(routing::decide_request::Who::CustomerId(customer_id.to_owned())),
        arrival_channel_id: "phone".to_owned(),
        purpose: routing::ContactPurpose::Inquiry.into(),
    }
}

/// Customers like those of the CDNOW sample over 290 days, the same in every run.
pub(super) fn people(customers: usize, seed: u64) -> Result<Population> {
    generate::like_cdnow(Plan { customers: customers as u64, arrival_days: 200, days: 290, seed })
}
