//! What a service's tests stand on: a temporary database of either kind, a mock clock, a real server on port 0, an OTLP receiver.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should say so loudly"
)]
use std::{collections::BTreeMap, io::Write, net::SocketAddr, sync::Once, time::Duration};

use jiff::Timestamp;
use sea_orm::ConnectionTrait;
use tokio::{runtime::Runtime, task::JoinHandle};
use uuid::Uuid;

use crate::{
    clock::{Clock, stopwatch},
    context::Context,
    error::{Error, Result},
    feed::outbox,
    peers::{self, Access, Channel, Peers},
    server::{self, Service},
};

pub mod otlp;

/// The variable that names a PostgreSQL server for tests.
pub const POSTGRES_URL: &str = "CLIENTELE_TEST_POSTGRES_URL";
/// How long a test waits for anything before it fails: generous, because machines are shared.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A file in a temporary folder.
    Sqlite,
    /// A database of its own on the server that [`POSTGRES_URL`] names.
    Postgres,
}

/// Makes two tests of each `async fn name(backend: Backend)`: one on SQLite, one on PostgreSQL where a server is named.
#[macro_export]
macro_rules! db_tests {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::testing::Backend::Sqlite).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if $crate::testing::postgres_or_say_so() {
                    super::$name($crate::testing::Backend::Postgres).await;
                }
            })*
        }
    };
}

/// Whether a PostgreSQL server is named; if not, says once in plain words that its half of the suite is not run.
#[allow(clippy::disallowed_methods, reason = "the one variable of the test suite")]
pub fn postgres_or_say_so() -> bool {
    static SAID: Once = Once::new();
    let named = std::env::var(POSTGRES_URL).is_ok();
    if !named {
        SAID.call_once(|| {
            // Written past the test harness, which shows nothing of a test that passes.
            let _ = writeln!(
                std::io::stderr().lock(),
                "NOT RUN: the PostgreSQL half of these tests. To run it: {POSTGRES_URL}=postgres://user@host:port/postgres"
            );
        });
    }
    named
}

/// A database for one test, gone when dropped.
#[derive(Debug)]
pub struct TempDb {
    url: String,
    _folder: Option<tempfile::TempDir>,
    drop: Option<(String, String)>,
}

impl TempDb {
    /// A new, empty database.
    #[allow(clippy::disallowed_methods, reason = "the one variable of the test suite")]
    pub async fn new(backend: Backend) -> Self {
        match backend {
            Backend::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("sqlite:{}", folder.path().join("test.db").display());
                Self { url, _folder: Some(folder), drop: None }
            }
            Backend::Postgres => {
                let server = std::env::var(POSTGRES_URL).unwrap();
                let name = format!("clientele_test_{}", crate::Ids::new(Clock::system()).next().simple());
                let admin = sea_orm::Database::connect(&server).await.unwrap();
                admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
                admin.close().await.unwrap();
                let (base, _) = server.rsplit_once('/').unwrap();
                Self { url: format!("{base}/{name}"), _folder: None, drop: Some((server, name)) }
            }
        }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for TempDb {
    fn drop(&mut self) {
        let Some((server, name)) = self.drop.take() else { return };
        // Dropping is not async and may happen inside a runtime: a thread with a runtime of its own does it.
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                if let Ok(admin) = sea_orm::Database::connect(&server).await {
                    let _ = admin.execute_unprepared(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
                    let _ = admin.close().await;
                }
            });
        })
        .join();
    }
}

/// A moment on a working day, where tests like to begin: Wednesday 2026-01-14, 12:00 UTC.
pub fn noon() -> Timestamp {
    "2026-01-14T12:00:00Z".parse().unwrap()
}

/// Number, key and message of all changes of a topic that are still in a database's outbox.
///
/// # Errors
/// `Database`.
pub async fn published<C: ConnectionTrait>(connection: &C, topic: &'static str) -> Result<Vec<(i64, Uuid, Vec<u8>)>> {
    outbox::published(connection, topic).await
}

/// A real server on a port of its own.
#[derive(Debug)]
pub struct TestServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// The context its services run in.
    pub context: Context,
    serving: JoinHandle<Result<()>>,
    end: tokio_util::sync::CancellationToken,
    /// Its own, so that a kill ends every connection and task of it, and nothing else.
    runtime: Option<Runtime>,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl TestServer {
    /// Starts the services that `mount` makes of the context, and returns once all serve. Every service finds itself and all others as peers at the same
    /// address; `elsewhere` names peers that are somewhere else.
    pub async fn start(
        clock: Clock,
        elsewhere: &[(&str, String)],
        mount: impl FnOnce(&Context) -> Vec<Service>,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let config = server::Config::default();
        let listener = runtime
            .spawn({
                let config = config.clone();
                async move { server::bind("127.0.0.1:0".parse().unwrap(), &config).await.unwrap() }
            })
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        let mut urls: BTreeMap<String, String> = ["profiles", "scoring", "routing", "complaints"]
            .into_iter()
            .map(|name| (name.to_owned(), format!("http://{address}")))
            .collect();
        for (name, url) in elsewhere {
            urls.insert((*name).to_owned(), url.clone());
        }
        let (context, services) = {
            let _entered = runtime.enter();
            let context = Context::new(clock, Peers::connect(&urls, &Access::default()).unwrap());
            let services = mount(&context);
            (context, services)
        };
        let end = tokio_util::sync::CancellationToken::new();
        let serving = runtime.spawn({
            let (context, end) = (context.clone(), end.clone());
            async move { server::serve(listener, config, context, services, async move { end.cancelled().await }).await }
        });
        let mut started = Self { address, context, serving, end, runtime: Some(runtime) };
        let health = tonic_health::pb::health_client::HealthClient::new(started.channel());
        eventually("the services start", || {
            let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
            let (mut health, over) = (health.clone(), started.serving.is_finished());
            async move { over || health.check(request).await.is_ok_and(|reply| reply.into_inner().status == 1) }
        })
        .await;
        if started.serving.is_finished() {
            panic!("the services do not start: {:?}", (&mut started.serving).await);
        }
        started
    }

    /// The URL it serves at.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A channel to it, for generated clients.
    pub fn channel(&self) -> Channel {
        peers::channel("server", &self.url(), None).unwrap()
    }

    /// Ends it as SIGTERM would, and returns once it has drained.
    pub async fn stop(mut self) -> Result<()> {
        self.end.cancel();
        (&mut self.serving).await.map_err(|error| Error::Internal(error.to_string()))?
    }

    /// Ends it as SIGKILL would, as far as one process can: connections break off, no task goes on, nothing is drained, no lease is given back.
    pub async fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            tokio::task::spawn_blocking(move || runtime.shutdown_timeout(DEADLINE)).await.unwrap();
        }
    }
}

/// Waits until `check` holds, asking again and again; fails after [`DEADLINE`].
pub async fn eventually<F>(what: &str, mut check: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let begin = stopwatch();
    while !check().await {
        assert!(begin.elapsed() < DEADLINE, "waited in vain until: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The fields that a malformed request was refused for, and the reason of any error: what tests compare.
pub fn fault(status: &tonic::Status) -> (tonic::Code, String, Vec<String>) {
    use tonic_types::StatusExt;
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    let fields = status
        .get_details_bad_request()
        .map(|bad| bad.field_violations.into_iter().map(|violation| violation.field).collect())
        .unwrap_or_default();
    (status.code(), reason, fields)
}
