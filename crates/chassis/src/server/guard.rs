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
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tower::Service;

use super::{
    CALL_TIMEOUT, MAX_CONCURRENT_CALLS, MAX_MESSAGE_BYTES, MAX_WATCHERS, Response, answer,
    auth::Auth,
    body::{Ending, Patient},
    is_health,
};
use crate::{clock::stopwatch, error::Error, peers, telemetry};

/// Taken off the caller's deadline so that the answer arrives before it.
const ANSWER_MARGIN: Duration = Duration::from_millis(5);

/// What stands between the transport and the services.
#[derive(Clone)]
pub(super) struct Guard {
    inner: Auth,
    methods: Arc<telemetry::KnownMethods>,
    admitted: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
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
        let (admitted, watchers) = (Semaphore::new(MAX_CONCURRENT_CALLS), Semaphore::new(MAX_WATCHERS));
        Self { inner, methods, admitted: Arc::new(admitted), watchers: Arc::new(watchers), client_idle, shutdown }
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
        let permit = match Arc::clone(&self.admitted).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) if is_health(path) => None,
            Err(_) => return shed("concurrency", "too many calls at once"),
        };
        // Our own watchers end with the drain by themselves; those of health and reflection would hold it up.
        let foreign = path.starts_with("/grpc.");
        let drain = foreign.then(|| self.shutdown.clone());
        // Anything unknown is unary.
        let (sends, watches) = self
            .methods
            .get(path)
            .map_or((foreign, foreign), |method| (method.client_streaming, method.server_streaming));
        let watcher = if watches && !foreign {
            match Arc::clone(&self.watchers).try_acquire_owned() {
                Ok(watcher) => Some(watcher),
                Err(_) => return shed("watchers", "too many open watchers"),
            }
        } else {
            None
        };
        // A stream lives as long as its two ends want, unless the caller sets a deadline.
        let streaming = sends || watches;
        let asked = request.headers().get("grpc-timeout").and_then(|value| parse_timeout(value.to_str().ok()?));
        let limit = match (asked, streaming) {
            (Some(asked), false) => Some(asked.saturating_sub(ANSWER_MARGIN).min(CALL_TIMEOUT)),
            (Some(asked), true) => Some(asked.saturating_sub(ANSWER_MARGIN)),
            (None, false) => Some(CALL_TIMEOUT),
            (None, true) => None,
        };
        let request = match &drain {
            // In both directions, or the connection would wait for a client that never hangs up.
            Some(drain) => request.map(|body| Body::new(Ending::new(body, None, Some(drain.clone()), None))),
            None if sends => request.map(|body| Body::new(Patient::new(body, self.client_idle))),
            None => request,
        };
        let call = self.inner.call(request);
        Box::pin(async move {
            // Held until the answer's head is ready: a watcher counts as such once it streams.
            let _permit = permit;
            let deadline = limit.map(|limit| stopwatch() + limit);
            let guarded = AssertUnwindSafe(peers::with_deadline(deadline, call)).catch_unwind();
            let result = match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline.into(), guarded).await,
                None => Ok(guarded.await),
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

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "m", "-1m", "1", "123456789m", "1é", "é"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }
}
