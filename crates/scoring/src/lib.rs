//! What each customer is worth and where they stand.
//!
//! | to … | open |
//! | --- | --- |
//! | read a row of the books | [`row`], [`purchase`], [`service_cost`], [`payment`] |
//! | record rows, keep summaries, announce | [`ledger`], [`summary`] |
//! | compute a score | [`score`], with [`in_force`] |
//! | find a customer as they are now, in memory or not | [`present`] |
//! | judge a customer beyond the states | [`assessment`] |
//! | keep currency and calendar of the books | [`books`] |
//! | rank, cut tiers | [`pyramid`], [`rank`] |
//! | fit models, hold them against the future | [`fit`], [`hold_out`] |
//! | run something long | [`operation`] |
//! | read expressions, keep who is in which segment | [`segment`] |
//! | part customers into clusters | [`cluster`] |
//! | record moves, add them up | [`transition`] |
//! | estimate who has not bought | [`potential`], [`estimate`] |
//! | draw a sample of customers | [`sample`] |
//! | announce standings | [`standing`], [`sweep`] |
//! | follow profiles | [`follow`], [`attributes`] |
//! | query | [`store`] |
use std::{sync::Arc, time::Duration};

use chassis::{
    Context, Db, Error, Result, Service,
    config::{self, DbUrl, Validate},
    db::Batcher,
    server::{MAX_MESSAGE_BYTES, Rpcs},
};
use jiff::SignedDuration;
use proto::{common::v1::Money, scoring::v1::scoring_server::ScoringServer};
use serde::{Deserialize, Serialize};

pub mod api;
pub mod assessment;
pub mod attributes;
pub mod books;
pub mod calendar;
pub mod cluster;
pub mod estimate;
pub mod fit;
pub mod fitted;
pub mod follow;
pub mod hold_out;
pub mod in_force;
pub mod ledger;
pub mod migrations;
pub mod operation;
pub mod payment;
pub mod potential;
pub mod present;
pub mod purchase;
pub mod pyramid;
pub mod rank;
pub mod row;
pub mod sample;
pub mod score;
pub mod segment;
pub mod service_cost;
pub mod standing;
pub mod store;
pub mod summary;
pub mod sweep;
pub mod transition;

/// The section `[scoring]` with every key, explained.
pub const DEFAULTS: &str = include_str!("../defaults.toml");

/// The section `[scoring]`; what each key means and allows stands in `defaults.toml`.
#[allow(missing_docs)]
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub database_url: DbUrl,
    pub currency: String,
    pub time_zone: String,
    pub margin_rate: f64,
    pub horizon_months: u32,
    pub yearly_discount_rate: f64,
    pub future_tolerance_s: u32,
    pub sweep_period_s: u32,
    pub kept_customers: u32,
    pub thresholds: score::Thresholds,
    pub assessment: assessment::Thresholds,
}

impl Validate for Config {
    fn validate(&self, check: &mut config::Check<'_>) {
        check.require("currency", Money::is_currency(&self.currency), Money::CURRENCY);
        let zone = "allowed: an IANA time zone such as Europe/London";
        check.require("time_zone", calendar::Calendar::new(&self.time_zone).is_ok(), zone);
        check.range("margin_rate", self.margin_rate, -10.0..=1.0);
        check.range("horizon_months", self.horizon_months, 0..=value::clv::MAX_MONTHS);
        check.range("yearly_discount_rate", self.yearly_discount_rate, 0.0..=10.0);
        check.range("future_tolerance_s", self.future_tolerance_s, 0..=86_400);
        check.range("sweep_period_s", self.sweep_period_s, 1..=86_400);
        check.range("kept_customers", self.kept_customers, 0..=100_000_000);
        for (key, allowed) in self.thresholds.validate() {
            check.require(&format!("thresholds.{key}"), false, &allowed);
        }
        for (key, allowed) in self.assessment.validate() {
            check.require(&format!("assessment.{key}"), false, &allowed);
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        #[derive(Deserialize)]
        struct File {
            scoring: Config,
        }
        #[allow(clippy::expect_used, reason = "the text is part of the program, and a test reads it")]
        toml::from_str::<File>(DEFAULTS).expect("defaults.toml is complete").scoring
    }
}

impl Config {
    fn books(&self) -> Result<score::Books> {
        if !Money::is_currency(&self.currency) {
            return Err(Error::invalid("scoring.currency", Money::CURRENCY));
        }
        Ok(score::Books { minor_per_major: minor_per_major(&self.currency), margin_rate: self.margin_rate })
    }

    /// How the future is valued: without the margin, which the books apply to past and future alike.
    fn future(&self) -> Result<value::clv::Terms> {
        let monthly = value::clv::monthly(self.yearly_discount_rate);
        value::clv::Terms::new(self.horizon_months, monthly, 1.0)
            .map_err(|error| Error::invalid("scoring", error.to_string()))
    }
}

/// Minor units of one major unit, by ISO 4217: a hundred for most currencies.
fn minor_per_major(currency: &str) -> f64 {
    f64::from(10_u32.pow(Money::exponent(currency)))
}

/// The service, to be mounted.
pub fn service(config: Config, context: Context) -> Service {
    Service {
        name: "scoring",
        grpc_name: <ScoringServer<api::Api> as tonic::server::NamedService>::NAME,
        start: Box::pin(async move {
            let calendar = calendar::Calendar::new(&config.time_zone)?;
            let terms = books::Terms { currency: config.currency.clone(), time_zone: config.time_zone.clone() };
            let db = context.open::<migrations::Migrator>(config.database_url.clone()).await?;
            books::settle(&db, &terms).await?;
            let scorer = Arc::new(in_force::Scorer::new(in_force::Rules {
                books: config.books()?,
                terms,
                future: config.future()?,
                thresholds: config.thresholds.clone(),
                assessment: config.assessment.clone(),
                calendar: calendar.clone(),
            }));
            follow::spawn(&context, &db, &scorer)?;
            spawn_sweep(&context, &db, &scorer, Duration::from_secs(config.sweep_period_s.into()));
            let news = operation::News::new(0);
            let worker = operation::Worker {
                db: db.clone(),
                context: context.clone(),
                scorer: Arc::clone(&scorer),
                news: news.clone(),
            };
            context.spawn("operations", worker.run());
            let to_fill = segment::News::new(0);
            let filling = segment::keep_filled(context.clone(), db.clone(), Arc::clone(&scorer), to_fill.clone());
            context.spawn("fill_segments", filling);
            let rules = row::Rules {
                calendar,
                currency: config.currency,
                future_tolerance: SignedDuration::from_secs(config.future_tolerance_s.into()),
            };
            let batcher = Batcher::spawn(db.clone(), "record_purchases", {
                let scorer = Arc::clone(&scorer);
                move |tx, calls: &[ledger::Call]| {
                    let scorer = Arc::clone(&scorer);
                    Box::pin(async move { ledger::record(tx, &scorer, calls).await })
                }
            });
            let profiles = context.peers.channel("profiles")?;
            let present = present::Present::new(db.clone(), &scorer, config.kept_customers as usize);
            let api =
                api::Api { db, context, scorer, rules: Arc::new(rules), batcher, present, profiles, news, to_fill };
            Ok(Rpcs::new(ScoringServer::new(api).max_decoding_message_size(MAX_MESSAGE_BYTES)))
        }),
    }
}

fn spawn_sweep(context: &Context, db: &Db, scorer: &Arc<in_force::Scorer>, period: Duration) {
    let (db, scorer) = (db.clone(), Arc::clone(scorer));
    context.spawn_every("sweep_silence", period, move || {
        let (db, scorer) = (db.clone(), Arc::clone(&scorer));
        async move { sweep::run(&db, &scorer).await }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_defaults_are_valid_and_the_ones_of_the_types() {
        let config = Config::default();
        config::validate(&config).unwrap();
        assert_eq!(config.thresholds, score::Thresholds::default());
        config.books().unwrap();
    }

    #[test]
    fn every_key_out_of_range_is_named() {
        let mut config = Config { currency: "XXQ".into(), time_zone: "Mars".into(), ..Config::default() };
        (config.margin_rate, config.horizon_months, config.yearly_discount_rate) = (f64::NAN, 1_201, -0.1);
        (config.sweep_period_s, config.kept_customers) = (0, 100_000_001);
        config.thresholds.loyal_min_p_alive = 2.0;
        let errors = config::validate(&config).unwrap_err();
        let keys: Vec<_> = errors.iter().map(|problem| problem.key.as_str()).collect();
        let expected = [
            "currency",
            "time_zone",
            "margin_rate",
            "horizon_months",
            "yearly_discount_rate",
            "sweep_period_s",
            "kept_customers",
            "thresholds.loyal_min_p_alive",
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn money_is_counted_in_the_minor_units_of_its_currency() {
        assert_eq!(["USD", "JPY", "KWD"].map(minor_per_major), [100.0, 1.0, 1_000.0]);
    }
}
