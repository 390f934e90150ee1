//! Decides which channel and queue a contact goes to, how fast, and what the agent should say.
//!
//! | to change … | open |
//! | --- | --- |
//! | how a contact is decided | [`decide`] |
//! | what the agent is told | [`prompt`] |
//! | what a channel, its hours, a queue, a contact may be | [`channel`], [`hours`], [`queue`], [`contact`] |
//! | how a caller is recognised | [`point`] |
//! | what stands there at the first start | [`seed`] |
//! | what `Decide` reads, and how it is kept fresh | [`view`], [`setup`] |
//! | how long an answer is kept ready | [`answer`] |
//! | an RPC | `api.rs`, `api/` |
//! | a query or a table | `store.rs`, `store/`, `migrations.rs` |
//! | what is followed of other services | `follow.rs` |
use chassis::{
    Context, Error,
    config::{DbUrl, Validate},
    parse::Check,
    server::{MAX_MESSAGE_BYTES, Rpcs},
};
use jiff::tz::TimeZone;
use proto::{common::v1::Money, routing::v1::routing_server::RoutingServer};
use serde::{Deserialize, Serialize};
use tonic::server::NamedService;

pub mod answer;
mod api;
pub mod channel;
pub mod contact;
pub mod decide;
mod follow;
pub mod hours;
mod migrations;
pub mod point;
pub mod prompt;
pub mod queue;
pub mod seed;
pub mod setup;
mod store;
pub mod view;

/// The section `[routing]` of the configuration, every key with its meaning and range.
pub const DEFAULTS: &str = include_str!("../defaults.toml");

/// What can be configured; see [`DEFAULTS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `sqlite:PATH` or `postgres://…`.
    pub database_url: DbUrl,
    /// IANA name of the time zone that opening hours are meant in.
    pub time_zone: String,
    /// ISO 4217 code of all costs per contact.
    pub currency: String,
    /// How channels are weighed.
    pub weights: decide::Weights,
    /// How far a contact moves forward.
    pub lift: decide::Lift,
}

#[derive(Deserialize)]
struct Defaults {
    routing: Config,
}

impl Default for Config {
    #[allow(clippy::expect_used, reason = "the text is part of the program; a test parses it")]
    fn default() -> Self {
        toml::from_str::<Defaults>(DEFAULTS).expect("defaults.toml is valid").routing
    }
}

impl Config {
    /// Notes every value that is out of its range, by its full key.
    pub fn check(&self, check: &mut Check) {
        if TimeZone::get(&self.time_zone).is_err() {
            check.fault("routing.time_zone", "is not an IANA time zone such as Europe/Berlin");
        }
        if !Money::is_currency(&self.currency) {
            check.fault("routing.currency", Money::CURRENCY);
        }
        let decide::Weights { key, others, routine } = &self.weights;
        for (name, weights) in [("key", key), ("others", others), ("routine", routine)] {
            check.range(&format!("routing.weights.{name}.preference"), weights.preference, 0.0..=1.0);
            check.range(&format!("routing.weights.{name}.relationship"), weights.relationship, 0.0..=1.0);
            check.range(&format!("routing.weights.{name}.cost"), weights.cost, 0.0..=1.0);
        }
        let decide::Lift { important, major, open_complaint } = self.lift;
        for (name, lift) in [("important", important), ("major", major), ("open_complaint", open_complaint)] {
            check.range(&format!("routing.lift.{name}"), lift, 0..=99);
        }
    }
}

impl Validate for Config {
    fn validate(&self, check: &mut chassis::config::Check<'_>) {
        check.parsing(|found| self.check(found));
    }
}

/// The service, to be mounted on a server. It serves once the view that `Decide` reads is complete.
pub fn service(config: Config, context: Context) -> chassis::Service {
    chassis::Service {
        name: "routing",
        grpc_name: <RoutingServer<api::Api> as NamedService>::NAME,
        start: Box::pin(async move {
            let mut check = Check::new();
            config.check(&mut check);
            check.done()?;
            context.peers.require(&["scoring", "profiles", "complaints"])?;
            let zone = TimeZone::get(&config.time_zone).map_err(|error| Error::Internal(error.to_string()))?;
            let db = context.open::<migrations::Migrator>(config.database_url.clone()).await?;
            store::seed_or_check(&db, &config.currency).await?;
            let key = store::point_key(&db).await?;
            let view = view::View::start(&context, &db, zone).await?;
            follow::spawn(&context, &db, &key)?;
            let api = api::Api { db, context, config, view, key };
            Ok(Rpcs::new(RoutingServer::new(api).max_decoding_message_size(MAX_MESSAGE_BYTES)))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(config: &Config) -> Vec<String> {
        let mut check = Check::new();
        config.check(&mut check);
        check.take().into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn the_defaults_are_within_their_own_ranges() {
        assert_eq!(faults(&Config::default()), Vec::<String>::new());
    }

    #[test]
    fn every_wrong_value_is_named_by_its_key() {
        let mut config = Config { time_zone: "Mars/Base".into(), currency: "XXQ".into(), ..Config::default() };
        config.weights.key.cost = f64::NAN;
        config.lift.major = -1;
        assert_eq!(
            faults(&config),
            ["routing.time_zone", "routing.currency", "routing.weights.key.cost", "routing.lift.major"]
        );
    }
}
