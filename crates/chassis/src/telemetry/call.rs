//! One call on its way: from the headers of the request to the status that ends it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::{Bytes, StdError};
use tracing::Span;

/// The header or trailer that holds the outcome of a call.
const GRPC_STATUS: &str = "grpc-status";

/// What is to be done when a call has got its answer and when it has ended. Dropped without an end, the call was given up.
pub trait Watch: Send + 'static {
    /// The span of the call.
    fn span(&self) -> &Span;
    /// The body is worth a span of its own: it is produced while it is sent.
    fn is_streaming(&self) -> bool;
    /// The headers of a successful answer are there; the rest of it follows.
    fn answered(&mut self);
    /// The call ended with `code`. Called once.
    fn ended(&mut self, code: Code);
}

/// Calls [`Watch::ended`] exactly once, whatever becomes of the call.
#[derive(Debug)]
pub(super) struct Call<W: Watch> {
    watch: W,
    open: bool,
}

impl<W: Watch> Call<W> {
    pub(super) fn new(watch: W) -> Self {
        Self { watch, open: true }
    }

    fn end(&mut self, code: Code) {
        if std::mem::take(&mut self.open) {
            self.watch.ended(code);
        }
    }
}

impl<W: Watch> Drop for Call<W> {
    fn drop(&mut self) {
        // Nobody waits for the answer any more: the caller hung up or its deadline has passed.
        self.end(Code::Cancelled);
    }
}

pin_project! {
    /// A call whose answer's headers are still to come.
    #[derive(Debug)]
    pub struct Answer<F, W: Watch> {
        #[pin]
        inner: F,
        call: Option<Call<W>>,
    }
}

impl<F, W: Watch> Answer<F, W> {
    /// `call` is `None` when nobody watches.
    pub(super) fn new(inner: F, call: Option<Call<W>>) -> Self {
        Self { inner, call }
    }
}

impl<F, W, B, E> Future for Answer<F, W>
where
    F: Future<Output = Result<Response<B>, E>>,
    W: Watch,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(call) = this.call.as_ref() else {
            return this.inner.poll(cx).map_ok(|response| response.map(Body::new));
        };
        let result = {
            let _entered = call.watch.span().enter();
            ready!(this.inner.poll(cx))
        };
        let Some(mut call) = this.call.take() else {
            return Poll::Ready(result.map(|response| response.map(Body::new)));
        };
        Poll::Ready(match result {
            Err(error) => {
                call.end(Code::Unknown);
                Err(error)
            }
            Ok(response) => {
                // A status among the headers means that nothing else will come.
                if let Some(code) = status_in(response.headers()) {
                    call.end(code);
                    return Poll::Ready(Ok(response.map(Body::new)));
                }
                if response.body().is_end_stream() {
                    call.end(Code::Unknown);
                    return Poll::Ready(Ok(response.map(Body::new)));
                }
                call.watch.answered();
                Ok(response.map(|inner| Body::new(Watched { inner, call })))
            }
        })
    }
}

pin_project! {
    /// A body that looks out for the trailers.
    #[derive(Debug)]
    struct Watched<B, W: Watch> {
        #[pin]
        inner: B,
        call: Call<W>,
    }
}

impl<B, W> HttpBody for Watched<B, W>
where
    B: HttpBody<Data = Bytes>,
    W: Watch,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = if this.call.watch.is_streaming() {
            let _entered = this.call.watch.span().enter();
            ready!(this.inner.poll_frame(cx))
        } else {
            ready!(this.inner.poll_frame(cx))
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.call.end(status_in(trailers).unwrap_or(Code::Unknown));
                }
            }
            Some(Err(_)) | None => this.call.end(Code::Unknown),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn status_in(headers: &HeaderMap) -> Option<Code> {
    headers.get(GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}
