//! Traces and measures the calls that come in.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{Request, Response};
use http_body::Body as HttpBody;
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::{Bytes, StdError};
use tower::{Layer, Service};
use tracing::Span;

use super::call::{Answer, Call, Watch};
use super::context;
use super::methods::is_traced;
use super::served::Served;
use super::{Active, KnownMethods, Method, active};
use crate::clock::stopwatch;

/// The outermost layer of a server: it continues the caller's trace in a span named by the RPC, and measures every call as
/// `rpc.server.duration` in seconds, with the attributes `rpc.service`, `rpc.method` and `rpc.grpc.status_code`.
///
/// - The duration of a unary answer ends with its body. That of a server stream ends with its headers: a watch that is open
///   for hours would otherwise hide how long calls take. How streams end is counted in `rpc.server.stream.ends`.
/// - The span of a stream covers the whole stream, and is the current span whenever the stream makes its next message.
/// - A call dropped before its end counts as CANCELLED, an error of the inner service or an answer without status as UNKNOWN.
/// - Paths that are not served share the label `other`. Packages under `grpc.` (health, reflection) are measured, not traced.
/// - Of a request nothing but its path and its trace context is looked at, and of an answer nothing but its status.
#[derive(Clone, Debug)]
pub struct ServerLayer {
    known: Arc<KnownMethods>,
}

impl ServerLayer {
    /// A layer that knows the RPCs of `known_methods` by name.
    pub fn new(known_methods: Arc<KnownMethods>) -> Self {
        Self { known: known_methods }
    }
}

impl<S> Layer<S> for ServerLayer {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { inner, known: Arc::clone(&self.known) }
    }
}

/// A service under [`ServerLayer`].
#[derive(Clone, Debug)]
pub struct Traced<S> {
    inner: S,
    known: Arc<KnownMethods>,
}

impl<S, B> Service<Request<Body>> for Traced<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<S::Future, ServerCall>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(active) = active() else {
            return Answer::new(self.inner.call(request), None);
        };
        let path = request.uri().path();
        let index = self.known.index(path);
        let span = if is_traced(path) {
            Served::open(&self.known, index, active.tracer(), context::extract(request.headers()))
        } else {
            Span::none()
        };
        let call = ServerCall { span, known: Arc::clone(&self.known), index, active, started: stopwatch() };
        Answer::new(self.inner.call(request), Some(Call::new(call)))
    }
}

/// Says on the current call's span, and so in its log lines, which caller it is of.
pub fn name_caller(name: &Arc<str>) {
    Served::name_caller(&Span::current(), name);
}

/// What is known of a call while it runs.
pub struct ServerCall {
    span: Span,
    known: Arc<KnownMethods>,
    index: usize,
    active: Arc<Active>,
    started: Instant,
}

impl ServerCall {
    fn method(&self) -> &Method {
        self.known.at(self.index)
    }

    fn record_duration(&self, code: Code) {
        if let Some(instruments) = self.active.instruments() {
            let seconds = self.started.elapsed().as_secs_f64();
            instruments.server_duration.record(seconds, self.method().labels(code as usize));
        }
    }
}

impl Watch for ServerCall {
    fn span(&self) -> &Span {
        &self.span
    }

    fn is_streaming(&self) -> bool {
        self.method().server_streaming
    }

    fn answered(&mut self) {
        if self.is_streaming() {
            self.record_duration(Code::Ok);
        }
    }

    fn ended(&mut self, code: Code) {
        Served::end(&self.span, code, is_fault(code));
        // Let go here: whoever keeps the body a little longer must not keep the span's place, too.
        self.span = Span::none();
        if self.is_streaming() {
            if let Some(instruments) = self.active.instruments() {
                instruments.stream_ends.add(1, self.method().labels(code as usize));
            }
        } else {
            self.record_duration(code);
        }
    }
}

impl fmt::Debug for ServerCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCall").field("method", &self.method().name()).finish_non_exhaustive()
    }
}

/// The codes that are the server's fault; the others tell the caller about its own request and are no error of ours.
fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}
