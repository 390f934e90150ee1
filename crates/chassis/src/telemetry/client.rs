//! Passes the trace on to the peers.

use std::fmt;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body as HttpBody;
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::{Bytes, StdError};
use tower::{Layer, Service};
use tracing::Span;
use tracing::field::Empty;

use super::call::{Answer, Call, Watch};
use super::{active, context};

/// A layer for channels: it opens a client span around each call and sends its context along as `traceparent`. With telemetry
/// off no span is made, and the context of the request on whose behalf the call is made goes along as it came.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientLayer;

impl ClientLayer {
    /// A layer for one channel or for many.
    pub fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for ClientLayer {
    type Service = Tracing<S>;

    fn layer(&self, inner: S) -> Tracing<S> {
        Tracing { inner }
    }
}

/// A channel under [`ClientLayer`].
#[derive(Clone, Debug)]
pub struct Tracing<S> {
    inner: S,
}

impl<S, B> Service<Request<Body>> for Tracing<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<S::Future, ClientCall>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let exports = active().is_some_and(|active| active.exports());
        if !exports {
            if let Some(parent) = context::current() {
                context::insert(request.headers_mut(), parent);
            }
            return Answer::new(self.inner.call(request), None);
        }
        let name = request.uri().path().trim_start_matches('/');
        let (service, method) = name.split_once('/').unwrap_or((name, ""));
        let span = tracing::info_span!(
            "call",
            otel.name = name,
            otel.kind = "client",
            otel.status_code = Empty,
            rpc.system = "grpc",
            rpc.service = service,
            rpc.method = method,
            rpc.grpc.status_code = Empty,
        );
        context::adopt(&span);
        context::inject(&span, request.headers_mut());
        let inner = {
            let _entered = span.enter();
            self.inner.call(request)
        };
        Answer::new(inner, Some(Call::new(ClientCall { span })))
    }
}

/// What is known of a call to a peer while it runs.
pub struct ClientCall {
    span: Span,
}

impl Watch for ClientCall {
    fn span(&self) -> &Span {
        &self.span
    }

    fn is_streaming(&self) -> bool {
        // Reading a peer's stream is the work of the caller's span.
        false
    }

    fn answered(&mut self) {}

    fn ended(&mut self, code: Code) {
        let span = std::mem::replace(&mut self.span, Span::none());
        span.record("rpc.grpc.status_code", code as i32);
        if code != Code::Ok {
            span.record("otel.status_code", "error");
        }
    }
}

impl fmt::Debug for ClientCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCall")
    }
}
