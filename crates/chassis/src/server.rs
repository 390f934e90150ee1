//! The one server that every service is mounted on.
//!
//! A call passes, from outside in:
//! 1. **trace and metrics** ([`telemetry::ServerLayer`]): outermost, so that refused calls are seen and measured too;
//! 2. **load shed and process-wide concurrency limit**: before any work is done, an overloaded process says so, with a time to come again; health is
//!    exempt, since a process restarted for being busy helps nobody;
//! 3. **deadline**: the caller's `grpc-timeout` or the server's own limit, whichever is sooner, counted after admission and
//!    handed to the calls made on the caller's behalf; a stream ends with it too;
//! 4. **panic guard**: a fault in one handler or stream is one INTERNAL answer, logged inside the call's trace;
//! 5. **mounts**: the service, or "not serving" while it starts;
//! 6. the RPC. (Errors are logged where they become a status: see [`crate::error`].)
use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::Poll,
    time::{Duration, Instant},
};

use futures::FutureExt;
use http_body::{Body as HttpBody, Frame};
use tokio::{net::TcpListener, sync::Semaphore, time::Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{
    Code, Status,
    body::Body,
    service::Routes,
    transport::{Identity, Server as Transport, ServerTlsConfig, server::TcpIncoming},
};
use tonic_health::ServingStatus;
use tower::{Layer, Service as Tower};

use crate::{
    clock::stopwatch,
    context::Context,
    db::BoxFuture,
    error::{Error, Result},
    peers, telemetry,
};

/// Largest message in either direction: a full batch of purchases is well below a megabyte.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Calls in work at once in this process: with two cores and sub-millisecond calls, more would only wait longer.
pub const MAX_CONCURRENT_CALLS: usize = 4_096;
/// Calls in work at once on one connection.
const MAX_CONNECTION_STREAMS: u32 = 1_024;
/// Longest unary call: beyond it nobody waits any more.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(65);
/// Taken off the caller's deadline so that the answer arrives before it.
const ANSWER_MARGIN: Duration = Duration::from_millis(5);
/// Probes come through also when everything else is shed.
const HEALTH: &str = "/grpc.health.";
/// How long calls in work may take to end when the process drains; Kubernetes allows 30 s by default.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// A service to be mounted.
pub struct Service {
    /// Short name: `profiles`, `scoring` …
    pub name: &'static str,
    /// Full gRPC name: `clientele.scoring.v1.Scoring`.
    pub grpc_name: &'static str,
    /// Opens the database, starts background tasks, and gives the RPCs.
    pub start: BoxFuture<'static, Result<Routes>>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Where and how to serve.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// PEM files of certificate and key; without them, plain text.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Allows plain text on an address that others can reach.
    pub insecure: bool,
    /// How long to go on answering, as not serving, after the signal to end: until load balancers have noticed.
    pub drain_delay: Duration,
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
                 listen on 127.0.0.1, or say --insecure"
            ),
        ));
    }
    TcpListener::bind(listen).await.map_err(|error| {
        Error::invalid("listen", format!("cannot listen on {listen}: {error}; choose another address"))
    })
}

/// Serves until `end` resolves, then drains. Health is SERVING for a service once it has started, and for the whole once all have.
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
    let methods = Arc::new(
        telemetry::KnownMethods::from_descriptors(proto::DESCRIPTORS)
            .map_err(|error| Error::Internal(format!("descriptors: {error}")))?,
    );
    let guard = Guard {
        inner: Mounts { base: base.prepare(), mounts: Arc::clone(&mounts) },
        methods: Arc::clone(&methods),
        admitted: Arc::new(Semaphore::new(MAX_CONCURRENT_CALLS)),
        shutdown: context.shutdown.clone(),
    };
    let stack = telemetry::ServerLayer::new(methods).layer(guard);

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
                let routes = service.start.await.map_err(|error| {
                    tracing::error!(service = service.name, ?error, "cannot start");
                    match error {
                        Error::Invalid(_) => error,
                        other => Error::Start { service: service.name, cause: format!("{other:?}") },
                    }
                })?;
                if let Some((_, mount)) = mounts.get(service.grpc_name) {
                    let _ = mount.set(routes.prepare());
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
    match drained.await {
        Ok(result) => ended.and(result),
        Err(_) => {
            tracing::warn!(limit = ?DRAIN_TIMEOUT, "calls in work were cut off");
            ended
        }
    }
}

async fn read_pem(key: &'static str, path: &PathBuf) -> Result<Vec<u8>> {
    tokio::fs::read(path).await.map_err(|error| Error::invalid(key, format!("cannot read {}: {error}", path.display())))
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

/// What the transport answers by itself, before a handler has seen a whole message: it is the caller's fault, and in the contract that has a name.
/// All errors of ours carry details, so those without are not ours.
fn named(response: Response) -> Response {
    let headers = response.headers();
    if !headers.contains_key(Status::GRPC_STATUS) || headers.contains_key("grpc-status-details-bin") {
        return response;
    }
    match Status::from_header_map(headers).map(|status| status.code()) {
        // None, or cut off, or no protobuf, or of other types.
        Some(Code::Internal) => answer(Error::invalid("message", "is not what this call takes, or was cut off")),
        Some(Code::OutOfRange | Code::ResourceExhausted) => {
            answer(Error::invalid("message", format!("is too large; at most {MAX_MESSAGE_BYTES} bytes are allowed")))
        }
        _ => response,
    }
}

/// Shed, limit, deadline, panic guard: one layer, because each call pays for every one.
#[derive(Clone)]
struct Guard {
    inner: Mounts,
    methods: Arc<telemetry::KnownMethods>,
    admitted: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl Tower<http::Request<Body>> for Guard {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let permit = match Arc::clone(&self.admitted).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) if path.starts_with(HEALTH) => None,
            Err(_) => {
                telemetry::count("rpc.server.shed", "concurrency");
                return Box::pin(std::future::ready(Ok(answer(Error::Overloaded("too many calls at once")))));
            }
        };
        // Our own watchers end with the drain by themselves; those of health and reflection would hold it up.
        let drain = path.starts_with("/grpc.").then(|| self.shutdown.clone());
        // A stream lives as long as its two ends want, unless the caller sets a deadline. Anything unknown is unary.
        let streaming = self
            .methods
            .get(path)
            .map_or(path.starts_with("/grpc."), |method| method.client_streaming || method.server_streaming);
        let asked = request.headers().get("grpc-timeout").and_then(|value| parse_timeout(value.to_str().ok()?));
        let limit = match (asked, streaming) {
            (Some(asked), false) => Some(asked.saturating_sub(ANSWER_MARGIN).min(CALL_TIMEOUT)),
            (Some(asked), true) => Some(asked.saturating_sub(ANSWER_MARGIN)),
            (None, false) => Some(CALL_TIMEOUT),
            (None, true) => None,
        };
        // In both directions, or the connection would wait for a client that never hangs up.
        let request = match &drain {
            Some(drain) => request.map(|body| Body::new(Streaming::new(body, None, Some(drain.clone())))),
            None => request,
        };
        let call = self.inner.call(request);
        Box::pin(async move {
            // Held until the answer's head is ready: a watcher does not count once it streams.
            let _permit = permit;
            let deadline = limit.map(|limit| stopwatch() + limit);
            let guarded = AssertUnwindSafe(peers::with_deadline(deadline, call)).catch_unwind();
            let result = match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline.into(), guarded).await,
                None => Ok(guarded.await),
            };
            Ok(match result {
                Ok(Ok(Ok(response))) if streaming && !response.body().is_end_stream() => {
                    response.map(|body| Body::new(Streaming::new(body, deadline, drain)))
                }
                Ok(Ok(Ok(response))) => named(response),
                // The panic hook has already logged where.
                Ok(Err(_)) => answer(Error::Internal("a handler panicked".to_owned())),
                Err(_) => answer(Error::Deadline),
            })
        })
    }
}

/// The body of a streaming answer. Ends, as the call's head would, with the deadline, with a panic, and (health and reflection) with the drain.
struct Streaming {
    /// Absent once it has ended.
    inner: Option<Body>,
    deadline: Option<(Instant, Pin<Box<Sleep>>)>,
    drain: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Streaming {
    fn new(inner: Body, deadline: Option<Instant>, drain: Option<CancellationToken>) -> Self {
        Self {
            inner: Some(inner),
            deadline: deadline.map(|deadline| (deadline, Box::pin(tokio::time::sleep_until(deadline.into())))),
            drain: drain.map(|drain| Box::pin(drain.cancelled_owned())),
        }
    }

    fn poll_inner(&mut self, context: &mut std::task::Context<'_>) -> Poll<std::result::Result<Option<Framed>, Error>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(Ok(None)) };
        if let Some((_, sleep)) = &mut self.deadline
            && sleep.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(Error::Deadline));
        }
        if let Some(drain) = &mut self.drain
            && drain.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(Error::NotServing("this replica")));
        }
        let deadline = self.deadline.as_ref().map(|(deadline, _)| *deadline);
        let poll = AssertUnwindSafe(|| peers::poll_with_deadline(deadline, || Pin::new(inner).poll_frame(context)));
        match std::panic::catch_unwind(poll) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(Error::Internal("a stream panicked".to_owned()))),
        }
    }
}

type Framed = std::result::Result<Frame<<Body as HttpBody>::Data>, Status>;

impl HttpBody for Streaming {
    type Data = <Body as HttpBody>::Data;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Option<Framed>> {
        let this = self.get_mut();
        this.poll_inner(context).map(|polled| match polled {
            Ok(frame) => frame,
            Err(error) => {
                this.inner = None;
                let mut trailers = http::HeaderMap::new();
                Some(Status::from(error).add_header(&mut trailers).map(|()| Frame::trailers(trailers)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }
}

/// gRPC's timeout header: up to eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

type Mount = (&'static str, Arc<OnceLock<Routes>>);

/// Finds the service of a call by its full gRPC name.
#[derive(Clone)]
struct Mounts {
    base: Routes,
    mounts: Arc<HashMap<&'static str, Mount>>,
}

impl Mounts {
    fn call(
        &self,
        request: http::Request<Body>,
    ) -> impl Future<Output = std::result::Result<Response, Infallible>> + Send + use<> {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        let target = match self.mounts.get(service) {
            None => Ok(self.base.clone()),
            Some((name, mount)) => mount.get().cloned().ok_or(*name),
        };
        async move {
            match target {
                Ok(mut routes) => routes.call(request).await,
                Err(name) => Ok(answer(Error::NotServing(name))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "m", "-1m", "1", "123456789m", "1é", "é"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
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
