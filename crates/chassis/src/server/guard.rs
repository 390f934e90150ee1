//! Load shed, limits, deadline, panic guard: one layer, because each call pays for every one.
use std::{
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::FutureExt;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tower::Service;

use super::{
    CALL_TIMEOUT, MAX_CONCURRENT_CALLS, MAX_FOREIGN_STREAMS, MAX_MESSAGE_BYTES, MAX_PROBES, MAX_WATCHERS, Response,
    answer,
    auth::Auth,
    body::{Ending, Patient},
    is_health,
};
use crate::{clock::stopwatch, error::Error, peers, telemetry};

/// Taken off the caller's deadline so that the answer arrives before it; of a short one, half of it.
const ANSWER_MARGIN: Duration = Duration::from_millis(5);
/// A deadline so near has passed before anything can be done by it: timers count milliseconds.
const TOO_NEAR: Duration = Duration::from_millis(2);
/// Health and reflection, which come with the transport and end with the drain.
const FOREIGN: &str = "/grpc.";

/// What stands between the transport and the services.
#[derive(Clone)]
pub(super) struct Guard {
    inner: Auth,
    methods: Arc<telemetry::KnownMethods>,
    admitted: Arc<Semaphore>,
    probes: Probes,
    watchers: Arc<Semaphore>,
    foreign_streams: Arc<Semaphore>,
    client_idle: Duration,
    shutdown: CancellationToken,
}

impl Guard {
    pub(super) fn new(
        inner: Auth,
        methods: Arc<telemetry::KnownMethods>,
        client_idle: Duration,
        shutdown: CancellationToken,
    ) -> Self {
        let places = |most| Arc::new(Semaphore::new(most));
        let (admitted, watchers) = (places(MAX_CONCURRENT_CALLS), places(MAX_WATCHERS));
        let (probes, foreign_streams) = (Probes::default(), places(MAX_FOREIGN_STREAMS));
        Self { inner, methods, admitted, probes, watchers, foreign_streams, client_idle, shutdown }
    }
}

impl Service<http::Request<Body>> for Guard {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let foreign = path.starts_with(FOREIGN);
        // Strangers may probe. So that they crowd out no call, probes take no place among the calls but one of their own.
        let (permit, probe) = if is_health(path) {
            (None, Some(self.probes.enter()))
        } else {
            match Arc::clone(&self.admitted).try_acquire_owned() {
                Ok(permit) => (Some(permit), None),
                Err(_) => return shed("concurrency", "too many calls at once"),
            }
        };
        // Anything unknown is unary.
        let (sends, watches) =
            self.methods.get(path).map_or((false, false), |method| (method.client_streaming, method.server_streaming));
        let watcher = if watches {
            let places = if foreign { &self.foreign_streams } else { &self.watchers };
            match Arc::clone(places).try_acquire_owned() {
                Ok(watcher) => Some(watcher),
                Err(_) => return shed("watchers", "too many open watchers"),
            }
        } else {
            None
        };
        // Our own watchers end with the drain by themselves; those of health and reflection would hold it up.
        let drain = foreign.then(|| self.shutdown.clone());
        // A stream lives as long as its two ends want, unless the caller sets a deadline.
        let streaming = sends || watches;
        let asked = request.headers().get("grpc-timeout").and_then(|value| parse_timeout(value.to_str().ok()?));
        if asked.is_some_and(|asked| asked < TOO_NEAR) {
            return Box::pin(std::future::ready(Ok(answer(Error::Deadline))));
        }
        let asked = asked.map(|asked| asked - ANSWER_MARGIN.min(asked / 2));
        let limit = match (asked, streaming) {
            (Some(asked), false) => Some(asked.min(CALL_TIMEOUT)),
            (Some(asked), true) => Some(asked),
            (None, false) => Some(CALL_TIMEOUT),
            (None, true) => None,
        };
        // What has no time limit, or is not asked who it is, is not waited for without end: it holds a place from its first byte on.
        let request = if streaming || foreign {
            request.map(|body| Body::new(Patient::new(body, self.client_idle)))
        } else {
            request
        };
        let request = match &drain {
            // In both directions, or the connection would wait for a client that never hangs up.
            Some(drain) => request.map(|body| Body::new(Ending::new(body, None, Some(drain.clone()), None))),
            None => request,
        };
        let call = self.inner.call(request);
        Box::pin(async move {
            // Held until the answer's head is ready. A stream then holds only its place among the watchers, which it took before the call.
            let _permit = permit;
            let deadline = limit.map(|limit| stopwatch() + limit);
            let guarded = AssertUnwindSafe(peers::with_deadline(deadline, call)).catch_unwind();
            let limited = async {
                match deadline {
                    Some(deadline) => tokio::time::timeout_at(deadline.into(), guarded).await,
                    None => Ok(guarded.await),
                }
            };
            let result = match probe {
                None => limited.await,
                Some(gives_way) => tokio::select! {
                    biased;
                    result = limited => result,
                    () = gives_way => return shed("probes", "too many probes at once").await,
                },
            };
            Ok(match result {
                Ok(Ok(Ok(response))) if streaming && !http_body::Body::is_end_stream(response.body()) => {
                    response.map(|body| Body::new(Ending::new(body, deadline, drain, watcher)))
                }
                Ok(Ok(Ok(response))) => named(response),
                // The panic hook has already logged where.
                Ok(Err(_)) => answer(Error::Internal("a handler panicked".to_owned())),
                Err(_) => answer(Error::Deadline),
            })
        })
    }
}

/// Probes in work. The newest always comes in, and the oldest gives way: it has had time to send the few bytes that a probe is, which all that are
/// meant come with. Were places given out and kept, whoever holds them all without a word could have this process restarted for being silent.
#[derive(Clone, Default)]
struct Probes(Arc<watch::Sender<u64>>);

impl Probes {
    /// Counts one more, and ends once it must give way.
    fn enter(&self) -> impl Future<Output = ()> + Send + use<> {
        let (counter, mut come) = (Arc::clone(&self.0), self.0.subscribe());
        let mut last = 0;
        counter.send_modify(|come| {
            *come += 1;
            last = *come + MAX_PROBES;
        });
        async move {
            // The counter lives as long as this waits for it.
            let _counter = counter;
            let _ = come.wait_for(|come| *come >= last).await;
        }
    }
}

fn shed(limit: &'static str, what: &'static str) -> <Guard as Service<http::Request<Body>>>::Future {
    telemetry::count("rpc.server.shed", limit);
    Box::pin(std::future::ready(Ok(answer(Error::Overloaded(what)))))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_probe_comes_in_and_the_oldest_gives_way() {
        let probes = Probes::default();
        let mut oldest = std::pin::pin!(probes.enter());
        let mut second = std::pin::pin!(probes.enter());
        for _ in 2..MAX_PROBES {
            drop(probes.enter());
        }
        assert_eq!(futures::poll!(&mut oldest), Poll::Pending);
        drop(probes.enter());
        assert_eq!((futures::poll!(&mut oldest), futures::poll!(&mut second)), (Poll::Ready(()), Poll::Pending));
    }

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "m", "-1m", "1", "123456789m", "1é", "é"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }
}
