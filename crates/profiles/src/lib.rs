//! The one record of a customer: who this is in every system that knows them, and what we know.
//!
//! | to change … | open |
//! | --- | --- |
//! | an RPC | [`api`] |
//! | the full view: what is asked of the peers | `parts.rs` |
//! | the rules of a record: revisions, etag, what is followed | `customer.rs` |
//! | what a field may hold | `customer/details.rs` |
//! | what an update may name | `customer/patch.rs` |
//! | how identities find or create customers | `ensure.rs` |
//! | a query, a table | `store.rs`, `migrations.rs` |
//! | what is kept of scoring and complaints | `follow.rs` |
use chassis::{
    Context, Service,
    config::{DbUrl, Validate},
    parse::Check,
    server::{MAX_MESSAGE_BYTES, Rpcs},
};
use proto::profiles::v1::profiles_server::ProfilesServer;
use serde::{Deserialize, Serialize};
use tonic::server::NamedService;

mod api;
mod customer;
mod ensure;
mod follow;
mod migrations;
mod parts;
mod store;

/// The service's section of the default configuration, every key commented.
pub const DEFAULTS: &str = include_str!("../defaults.toml");

/// The service's configuration: see `defaults.toml` for what each key means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `sqlite:PATH` or `postgres://…`.
    pub database_url: DbUrl,
    /// Wait for a peer in the full view where the caller sets no deadline, in milliseconds, 10 to 60,000.
    pub peer_timeout_ms: u64,
}

impl Default for Config {
    #[allow(clippy::expect_used, reason = "the text is part of the program, and a test reads it")]
    fn default() -> Self {
        #[derive(Deserialize)]
        struct File {
            profiles: Config,
        }
        toml::from_str::<File>(DEFAULTS).expect("the embedded defaults are valid").profiles
    }
}

impl Config {
    /// Notes every value that is out of its range, by its full key.
    pub fn check(&self, check: &mut Check) {
        check.range("profiles.peer_timeout_ms", self.peer_timeout_ms, 10..=60_000);
    }
}

impl Validate for Config {
    fn validate(&self, check: &mut chassis::config::Check<'_>) {
        check.parsing(|found| self.check(found));
    }
}

/// The service, to be mounted on a server. Starting it brings its database up to date and follows scoring and complaints.
pub fn service(config: Config, context: Context) -> Service {
    Service {
        name: "profiles",
        grpc_name: <ProfilesServer<api::Api> as NamedService>::NAME,
        start: Box::pin(async move {
            let mut check = Check::new();
            config.check(&mut check);
            check.done()?;
            context.peers.require(&["scoring", "complaints"])?;
            let db = context.open::<migrations::Migrator>(config.database_url.clone()).await?;
            follow::spawn(&context, &db)?;
            let api = api::Api::new(db, context, &config);
            Ok(Rpcs::new(ProfilesServer::new(api).max_decoding_message_size(MAX_MESSAGE_BYTES)))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        let mut check = Check::new();
        Config::default().check(&mut check);
        check.done().unwrap();
    }

    #[test]
    fn a_value_out_of_range_is_named_by_its_key() {
        let mut check = Check::new();
        Config { peer_timeout_ms: 0, ..Config::default() }.check(&mut check);
        let keys: Vec<_> = check.take().into_iter().map(|violation| violation.field).collect();
        assert_eq!(keys, ["profiles.peer_timeout_ms"]);
    }
}
