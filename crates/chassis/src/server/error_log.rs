//! Logs what went wrong inside, once, under the call's span.
//!
//! A status has no room for its cause that lasts: what tonic sends as trailers, which is how a stream ends that began well, is made of the
//! status's code and words alone. So the one conversion from [`Error`](crate::Error) to a status leaves the cause in a place of its call,
//! and this layer takes it from there when the call ends with that status, in its head or in its trailers. What a handler turned into
//! a status and then got over is no end of a call, and not logged. Where no call is being polled (a background task, or one that a
//! handler started) there is nobody to leave it to, and it is logged at once.
use std::{
    cell::Cell,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http_body::{Body as HttpBody, Frame};
use pin_project_lite::pin_project;
use tonic::{Code, Status, body::Body};
use tower::Service;

use super::Response;
use crate::telemetry::KnownMethods;

tokio::task_local! {
    static LEFT: Cell<Option<Cause>>;
}

/// What a fixed text outward stands for.
#[derive(Debug)]
pub(crate) struct Cause {
    /// The status that it became.
    pub code: Code,
    /// What to call it in the log.
    pub what: &'static str,
    /// The error with all its causes.
    pub chain: String,
}

impl Cause {
    /// Leaves it for the end of the call being polled.
    pub(crate) fn leave(self) {
        let mut cause = Some(self);
        let _ = LEFT.try_with(|left| left.set(cause.take()));
        if let Some(cause) = cause {
            cause.log();
        }
    }

    fn log(self) {
        tracing::error!(error = %self.chain, "{}", self.what);
    }
}

/// Polls a part of a call. What it leaves is put into `left`.
fn polling<T>(left: &mut Option<Cause>, poll: impl FnOnce() -> T) -> T {
    let (polled, now) = LEFT.sync_scope(Cell::new(left.take()), || {
        let polled = poll();
        (polled, LEFT.with(Cell::take))
    });
    *left = now;
    polled
}

fn ended(headers: &http::HeaderMap, left: &mut Option<Cause>) -> bool {
    let Some(code) = headers.get(Status::GRPC_STATUS) else { return false };
    if let Some(cause) = left.take()
        && cause.code == Code::from_bytes(code.as_bytes())
    {
        cause.log();
    }
    true
}

/// The layer.
#[derive(Clone)]
pub(super) struct ErrorLog<S> {
    inner: S,
    methods: Arc<KnownMethods>,
}

impl<S> ErrorLog<S> {
    pub(super) fn new(inner: S, methods: Arc<KnownMethods>) -> Self {
        Self { inner, methods }
    }
}

impl<S> Service<http::Request<Body>> for ErrorLog<S>
where
    S: Service<http::Request<Body>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Logged<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let streams = self.methods.get(request.uri().path()).is_some_and(|method| method.server_streaming);
        let mut left = None;
        let inner = polling(&mut left, || self.inner.call(request));
        Logged { inner, left, streams }
    }
}

pin_project! {
    /// A call whose answer's head is still to come.
    pub(super) struct Logged<F> {
        #[pin]
        inner: F,
        left: Option<Cause>,
        streams: bool,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for Logged<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(polling(this.left, || this.inner.poll(context)))?;
        // A unary answer that began well ends well, as far as we have a word in it.
        if ended(response.headers(), this.left) || !*this.streams {
            return Poll::Ready(Ok(response));
        }
        Poll::Ready(Ok(response.map(|inner| Body::new(LoggedBody { inner, left: None }))))
    }
}

/// The body of a stream, which can go wrong late.
struct LoggedBody {
    inner: Body,
    left: Option<Cause>,
}

impl HttpBody for LoggedBody {
    type Data = <Body as HttpBody>::Data;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        let frame = ready!(polling(&mut this.left, || Pin::new(&mut this.inner).poll_frame(context)));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            ended(trailers, &mut this.left);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}
