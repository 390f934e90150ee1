//! The one server that every service is mounted on.
//!
//! A call passes, from outside in:
//! 1. **trace extraction** ([`telemetry::ServerLayer`]): outermost, so that all that follows, refusals included, belongs to the caller's trace;
//! 2. **metrics** (the same layer): refused calls are calls too, and the ones to look at when a process is in trouble;
//! 3. **error log** (`error_log`): under the call's span, and around everything that can fail, so that whatever went wrong inside is
//!    logged once, in one place, also where it ends a stream late;
//! 4. **load shed and process-wide limits** (`guard`): before any work is done, an overloaded process says so, with a time to come again; health
//!    has a limit of its own at which the newest probe still comes in, since a process restarted for being busy helps nobody. Shedding needs no
//!    place of its own: a call that finds no room is not queued;
//! 5. **deadline** (`guard`): the caller's `grpc-timeout` or the server's own limit, whichever is sooner, counted after admission and
//!    handed to the calls made on the caller's behalf; a stream ends with it too. With it the **panic guard**: a fault in one handler or
//!    stream is one INTERNAL answer;
//! 6. **auth** (`auth`): after the limits, since hashing a token is work as well, and strangers must not do it without bounds;
//! 7. the **RPC**, or "not serving" while its service starts.
use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::net::TcpListener;
use tonic::{
    Status,
    body::Body,
    service::Routes,
    transport::{Identity, Server as Transport, ServerTlsConfig, server::TcpIncoming},
};
use tonic_health::ServingStatus;
use tower::{Layer, Service as Tower};

mod auth;
mod body;
pub(crate) mod error_log;
mod guard;

use crate::{
    auth::Callers,
    context::Context,
    db::BoxFuture,
    error::{Error, Result},
    telemetry,
};
use error_log::ErrorLog;
use guard::Guard;

/// Largest message in either direction: a full batch of purchases is well below a megabyte.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Calls in work at once in this process: with two cores and sub-millisecond calls, more would only wait longer.
pub const MAX_CONCURRENT_CALLS: usize = 4_096;
/// Calls in work at once on one connection.
const MAX_CONNECTION_STREAMS: u32 = 1_024;
/// Longest unary call: beyond it nobody waits any more.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(65);
/// Watchers of our own services open at once in this process, whichever service they watch. Each may hold a page of changes in memory, some
/// hundred KiB; a suite of a dozen replicas has fewer followers than half of this.
pub const MAX_WATCHERS: usize = 256;
/// Streams of health and reflection open at once in this process. Strangers may open those of health; load balancers hold one each.
pub const MAX_FOREIGN_STREAMS: usize = 64;
/// Probes waited for at once in this process: each is answered within microseconds of its message, so that those of all load balancers and supervisors
/// together are a few at a time.
pub const MAX_PROBES: u64 = 64;
/// How long a client whose call has no time limit of its own, or that nobody asked who it is, may send nothing while it is waited for. It holds a place
/// meanwhile; whoever works through a file sends every few milliseconds, and a connection that is dead is noticed by keep-alive.
pub const CLIENT_IDLE: Duration = Duration::from_secs(30);
/// Probes come through also when everything else is shed.
const HEALTH: &str = "/grpc.health.";
/// How long calls in work may take to end when the process drains. Databases take 5 s more at most to close, and telemetry 3 s; Kubernetes allows 30 s by
/// default.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// A service to be mounted.
pub struct Service {
    /// Short name: `profiles`, `scoring` …
    pub name: &'static str,
    /// Full gRPC name: `clientele.scoring.v1.Scoring`.
    pub grpc_name: &'static str,
    /// Opens the database, starts background tasks, and gives the RPCs.
    pub start: BoxFuture<'static, Result<Rpcs>>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The RPCs of one service.
#[derive(Clone)]
pub struct Rpcs(Arc<Call>);

type Call = dyn Fn(http::Request<Body>) -> Called + Send + Sync;
type Called = tonic::codegen::BoxFuture<Response, Infallible>;

impl Rpcs {
    /// Those of a generated server. It is called as it is: a router would look once more at a path that it knows by itself.
    pub fn new<S>(server: S) -> Self
    where
        S: Tower<http::Request<Body>, Response = Response, Error = Infallible, Future = Called>,
        S: Clone + Send + Sync + 'static,
    {
        Self(Arc::new(move |request| server.clone().call(request)))
    }

    fn call(&self, request: http::Request<Body>) -> Called {
        (self.0)(request)
    }
}

impl std::fmt::Debug for Rpcs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rpcs").finish_non_exhaustive()
    }
}

/// Where and how to serve.
#[derive(Clone, Debug)]
pub struct Config {
    /// PEM files of certificate and key; without them, plain text.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Allows plain text on an address that others can reach.
    pub insecure: bool,
    /// How long to go on answering, as not serving, after the signal to end: until load balancers have noticed.
    pub drain_delay: Duration,
    /// Who may call; nobody is asked where there are none.
    pub callers: Callers,
    /// How long a client may send nothing: [`CLIENT_IDLE`] unless a test is in a hurry.
    pub client_idle: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tls: None,
            insecure: false,
            drain_delay: Duration::ZERO,
            callers: Callers::default(),
            client_idle: CLIENT_IDLE,
        }
    }
}

/// Binds an address. Done before anything else, so that services know the address they serve on.
///
/// # Errors
/// `Invalid` naming `listen` for an address that is in use, or that others can reach without TLS and without `insecure`.
pub async fn bind(listen: SocketAddr, config: &Config) -> Result<TcpListener> {
    if !listen.ip().is_loopback() && config.tls.is_none() && !config.insecure {
        return Err(Error::invalid(
            "listen",
            format!(
                "{listen} can be reached from other machines and no TLS is configured; give server.tls_cert_file and server.tls_key_file, \
                 listen on 127.0.0.1, or allow plain text with --set server.insecure=true (`serve` has --insecure for it)"
            ),
        ));
    }
    if !listen.ip().is_loopback() && config.callers.is_empty() {
        tracing::warn!(%listen, "whoever reaches this address may call everything: no auth.callers are named");
    }
    TcpListener::bind(listen).await.map_err(|error| {
        Error::invalid("listen", format!("cannot listen on {listen}: {error}; name another address with --listen"))
    })
}

/// Serves until `end` resolves, then drains and closes the databases. Health is SERVING for a service once it has started, and for the whole once all have.
///
/// # Errors
/// The error of the first service that cannot start; `Internal` where the transport fails.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    context: Context,
    services: Vec<Service>,
    end: impl Future<Output = ()> + Send,
) -> Result<()> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", ServingStatus::NotServing).await;
    // Both versions: older tools ask v1alpha alone.
    let unusable = |error| Error::Internal(format!("reflection: {error}"));
    let base = Routes::new(health)
        .add_service(reflection(&services).build_v1().map_err(unusable)?)
        .add_service(reflection(&services).build_v1alpha().map_err(unusable)?);

    let mounts: HashMap<&'static str, Mount> =
        services.iter().map(|service| (service.grpc_name, (service.name, Arc::new(OnceLock::new())))).collect();
    let mounts = Arc::new(mounts);
    for name in mounts.keys() {
        reporter.set_service_status(*name, ServingStatus::NotServing).await;
    }
    let methods = known_methods().map_err(|error| Error::Internal(format!("descriptors: {error}")))?;
    let methods = Arc::new(methods);
    let mounted = Mounts { base: base.prepare(), mounts: Arc::clone(&mounts) };
    let guarded = Guard::new(
        auth::Auth::new(mounted, config.callers.clone()),
        Arc::clone(&methods),
        config.client_idle,
        context.shutdown.clone(),
    );
    let stack = telemetry::ServerLayer::new(Arc::clone(&methods)).layer(ErrorLog::new(guarded, methods));

    let mut transport = Transport::builder()
        .max_concurrent_streams(MAX_CONNECTION_STREAMS)
        .http2_keepalive_interval(Some(Duration::from_secs(20)));
    if let Some((cert, key)) = &config.tls {
        let identity = Identity::from_pem(
            read_pem("server.tls_cert_file", cert).await?,
            read_pem("server.tls_key_file", key).await?,
        );
        transport = transport.tls_config(ServerTlsConfig::new().identity(identity)).map_err(|error| {
            Error::invalid("server.tls_cert_file", format!("certificate and key are not usable: {error}"))
        })?;
    }
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let stop = context.shutdown.clone();
    let serving = transport.serve_with_incoming_shutdown(stack, incoming, stop.cancelled_owned());
    let mut serving = std::pin::pin!(serving);

    let starting = async {
        let starts = services.into_iter().map(|service| {
            let (mounts, reporter) = (Arc::clone(&mounts), reporter.clone());
            async move {
                let rpcs = service.start.await.map_err(|error| {
                    tracing::error!(service = service.name, ?error, "cannot start");
                    match error {
                        Error::Invalid(_) => error,
                        other => Error::Start { service: service.name, cause: format!("{other:?}") },
                    }
                })?;
                if let Some((_, mount)) = mounts.get(service.grpc_name) {
                    let _ = mount.set(rpcs);
                }
                reporter.set_service_status(service.grpc_name, ServingStatus::Serving).await;
                tracing::info!(service = service.name, "serving");
                Ok::<_, Error>(())
            }
        });
        futures::future::try_join_all(starts).await?;
        reporter.set_service_status("", ServingStatus::Serving).await;
        Ok::<_, Error>(())
    };
    let failed = |error: tonic::transport::Error| Error::Internal(format!("transport: {error}"));

    // Serve, start, then wait for the end; a service that cannot start ends the process, and so does a background task that panics.
    let broken = async {
        context.broken.cancelled().await;
        Err(Error::Internal("a background task panicked: see the log".to_owned()))
    };
    let life = async {
        let mut end = std::pin::pin!(end);
        // The end may come while a service still starts, and comes only once.
        let ended = tokio::select! {
            started = starting => started.map(|()| false)?,
            () = &mut end => true,
        };
        if !ended {
            end.await;
        }
        tracing::info!("draining");
        Ok(())
    };
    let ended = tokio::select! {
        result = &mut serving => return result.map_err(failed),
        ended = life => ended,
        ended = broken => ended,
    };
    reporter.set_service_status("", ServingStatus::NotServing).await;
    for name in mounts.keys() {
        reporter.set_service_status(*name, ServingStatus::NotServing).await;
    }
    if ended.is_ok() && !config.drain_delay.is_zero() {
        tokio::select! {
            result = &mut serving => return result.map_err(failed),
            () = tokio::time::sleep(config.drain_delay) => {}
        }
    }
    context.shutdown.cancel();
    context.tasks.close();
    let drained = tokio::time::timeout(DRAIN_TIMEOUT, async {
        let result = serving.await.map_err(failed);
        context.tasks.wait().await;
        result
    });
    let drained = drained.await;
    if drained.is_err() {
        tracing::warn!(limit = ?DRAIN_TIMEOUT, "calls in work were cut off");
    }
    context.close_databases().await;
    ended.and(drained.unwrap_or(Ok(())))
}

async fn read_pem(key: &'static str, path: &PathBuf) -> Result<Vec<u8>> {
    tokio::fs::read(path).await.map_err(|error| Error::invalid(key, format!("cannot read {}: {error}", path.display())))
}

/// All that can be called here, health and reflection included: what is not known is taken for unary.
fn known_methods() -> std::result::Result<telemetry::KnownMethods, prost::DecodeError> {
    telemetry::KnownMethods::from_descriptors(proto::DESCRIPTORS)?
        .and(tonic_health::pb::FILE_DESCRIPTOR_SET)?
        .and(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)?
        .and(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
}

/// Lists what is mounted here, and knows every message, those in the details of errors included.
fn reflection(services: &[Service]) -> tonic_reflection::server::Builder<'static> {
    let fixed =
        ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];
    services
        .iter()
        .map(|service| service.grpc_name)
        .chain(fixed)
        .fold(tonic_reflection::server::Builder::configure(), |builder, name| builder.with_service_name(name))
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

type Response = http::Response<Body>;

fn answer(error: Error) -> Response {
    Status::from(error).into_http()
}

fn is_health(path: &str) -> bool {
    path.starts_with(HEALTH)
}

type Mount = (&'static str, Arc<OnceLock<Rpcs>>);

/// Finds the service of a call by its full gRPC name.
#[derive(Clone)]
struct Mounts {
    base: Routes,
    mounts: Arc<HashMap<&'static str, Mount>>,
}

impl Mounts {
    fn call(&self, request: http::Request<Body>) -> Called {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        match self.mounts.get(service) {
            None => {
                let answer = self.base.clone().call(request);
                Box::pin(answer)
            }
            Some((name, mount)) => match mount.get() {
                Some(rpcs) => rpcs.call(request),
                None => Box::pin(std::future::ready(Ok(answer(Error::NotServing(name))))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_and_reflection_are_known_so_that_only_their_streams_have_no_time_limit() {
        let known = known_methods().unwrap();
        let kind = |path: &str| {
            let method = known.get(path).unwrap();
            (method.client_streaming, method.server_streaming)
        };
        assert_eq!(kind("/grpc.health.v1.Health/Check"), (false, false));
        assert_eq!(kind("/grpc.health.v1.Health/Watch"), (false, true));
        assert_eq!(kind("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), (true, true));
        assert_eq!(kind("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"), (true, true));
    }

    #[tokio::test]
    async fn an_address_that_others_can_reach_needs_tls_or_a_word() {
        let open: SocketAddr = "0.0.0.0:0".parse().unwrap();
        let error = bind(open, &Config::default()).await.unwrap_err();
        assert!(error.to_string().contains("--insecure"), "{error}");
        let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
        bind(loopback, &Config::default()).await.unwrap();
    }
}
