//! Complaints: easy to make, quick to handle, key customers first.
//!
//! | to … | open |
//! | --- | --- |
//! | change opening hours, holidays, daylight saving | [`calendar`] |
//! | change states, transitions, due times, escalation | [`complaint`] |
//! | change an RPC | `api.rs`, `api/` |
//! | change what is kept of scoring | `follow.rs` |
//! | change what the clock does by itself | [`sweep`] |
//! | change a table or a query | `migrations.rs`, `store.rs` |
use chassis::{
    Context,
    config::{DbUrl, Validate},
    parse::Check,
    server::{MAX_MESSAGE_BYTES, Rpcs},
};
use proto::complaints::v1::complaints_server::ComplaintsServer;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tonic::server::NamedService;

mod api;
pub mod calendar;
pub mod complaint;
mod follow;
pub mod migrations;
mod store;
pub mod sweep;

use complaint::Rules;

/// The service's section of the configuration, every key with a comment.
pub const DEFAULTS: &str = include_str!("../defaults.toml");

/// The configuration; see `defaults.toml` for units and ranges.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `sqlite:PATH` or `postgres://…`.
    pub database_url: DbUrl,
    /// Seconds between two sweeps.
    pub sweep_period_s: u32,
    /// Percent of the allowed time that is left when a case is escalated.
    pub escalation_lead_percent: u32,
    /// The highest level of escalation.
    pub max_escalation_level: i32,
    /// Business hours that a reopened case has left at least.
    pub reopen_grace_hours: u32,
    /// Business hours allowed, by tier and severity.
    pub allowed_hours: complaint::AllowedHours,
    /// When the clock of a case runs.
    pub calendar: calendar::Config,
}

impl Default for Config {
    #[allow(clippy::expect_used, reason = "the defaults are part of the program, and a test reads them")]
    fn default() -> Self {
        #[derive(Deserialize)]
        struct Section {
            complaints: Config,
        }
        toml::from_str::<Section>(DEFAULTS).expect("defaults.toml").complaints
    }
}

impl Config {
    /// Notes every key whose value is out of its range.
    pub fn check(&self, check: &mut Check) {
        self.parse(check);
    }

    fn parse(&self, check: &mut Check) -> Rules {
        check.range("complaints.sweep_period_s", self.sweep_period_s, 1..=3_600);
        Rules::parse(check, self)
    }

    /// The rules by which cases are handled.
    ///
    /// # Errors
    /// `Invalid` naming every key whose value is out of its range.
    pub fn rules(&self) -> chassis::Result<Rules> {
        let mut check = Check::new();
        let rules = self.parse(&mut check);
        check.done()?;
        Ok(rules)
    }
}

impl Validate for Config {
    fn validate(&self, check: &mut chassis::config::Check<'_>) {
        check.parsing(|found| self.check(found));
    }
}

/// The service, to be mounted on a server.
pub fn service(config: Config, context: Context) -> chassis::Service {
    chassis::Service {
        name: "complaints",
        grpc_name: <ComplaintsServer<api::Api> as NamedService>::NAME,
        start: Box::pin(async move {
            let rules = Arc::new(config.rules()?);
            let db = context.open::<migrations::Migrator>(config.database_url.clone()).await?;
            follow::spawn(&context, &db, &rules)?;
            let period = Duration::from_secs(u64::from(config.sweep_period_s));
            context.spawn_every("sweep_complaints", period, {
                let (db, rules) = (db.clone(), Arc::clone(&rules));
                move || {
                    let (db, rules) = (db.clone(), Arc::clone(&rules));
                    async move { sweep::run(&db, &rules).await.map(drop) }
                }
            });
            let api = api::Api { db, context, rules };
            Ok(Rpcs::new(ComplaintsServer::new(api).max_decoding_message_size(MAX_MESSAGE_BYTES)))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range() {
        Config::default().rules().unwrap();
    }

    #[test]
    fn everything_wrong_with_a_configuration_is_named_at_once() {
        let mut config = Config { sweep_period_s: 0, escalation_lead_percent: 91, ..Config::default() };
        config.allowed_hours.small.minor = 0;
        config.calendar.time_zone = "Mars/Olympus".into();
        config.calendar.holidays = vec!["25.12.2026".into()];
        config.calendar.monday = vec!["09:00-17:00".into(), "16:00-18:00".into()];
        config.calendar.sunday = vec!["22:00-06:00".into()];
        let mut check = Check::new();
        config.check(&mut check);
        let fields: Vec<_> = check.take().into_iter().map(|violation| violation.field).collect();
        assert_eq!(
            fields,
            [
                "complaints.sweep_period_s",
                "complaints.calendar.time_zone",
                "complaints.calendar.holidays[0]",
                "complaints.calendar.monday[1]",
                "complaints.calendar.sunday[0]",
                "complaints.escalation_lead_percent",
                "complaints.allowed_hours.small.minor",
            ]
        );
    }

    #[test]
    fn a_calendar_without_any_hours_is_refused() {
        let mut config = Config::default();
        let calendar = &mut config.calendar;
        for day in [
            &mut calendar.monday,
            &mut calendar.tuesday,
            &mut calendar.wednesday,
            &mut calendar.thursday,
            &mut calendar.friday,
        ] {
            day.clear();
        }
        let error = config.rules().unwrap_err().to_string();
        assert!(error.contains("complaints.calendar: has no opening hours at all"), "{error}");
    }

    #[test]
    fn allowed_times_beyond_a_year_of_opening_hours_are_refused() {
        let mut config = Config::default();
        let calendar = &mut config.calendar;
        for day in [&mut calendar.tuesday, &mut calendar.wednesday, &mut calendar.thursday, &mut calendar.friday] {
            day.clear();
        }
        calendar.monday = vec!["09:00-10:00".into()];
        let error = config.rules().unwrap_err().to_string();
        assert!(error.contains("complaints.allowed_hours.small.minor"), "{error}");
        assert!(!error.contains("complaints.allowed_hours.small.moderate"), "{error}");
    }
}
