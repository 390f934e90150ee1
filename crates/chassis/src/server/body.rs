//! The bodies of streams, which end by more than their own end.
use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use http_body::{Body as HttpBody, Frame};
use tokio::{sync::OwnedSemaphorePermit, time::Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, body::Body};

use crate::{error::Error, peers};

/// The body of a streaming answer. Ends, as the call's head would, with the deadline, with a panic, and (health and reflection) with the drain.
pub(super) struct Ending {
    /// Absent once it has ended.
    inner: Option<Body>,
    deadline: Option<(Instant, Pin<Box<Sleep>>)>,
    drain: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Among the open watchers.
    _place: Option<OwnedSemaphorePermit>,
}

impl Ending {
    pub(super) fn new(
        inner: Body,
        deadline: Option<Instant>,
        drain: Option<CancellationToken>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            inner: Some(inner),
            deadline: deadline.map(|deadline| (deadline, Box::pin(tokio::time::sleep_until(deadline.into())))),
            drain: drain.map(|drain| Box::pin(drain.cancelled_owned())),
            _place: place,
        }
    }

    fn poll_inner(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Framed>, Error>> {
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

type Framed = Result<Frame<<Body as HttpBody>::Data>, Status>;

impl HttpBody for Ending {
    type Data = <Body as HttpBody>::Data;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Framed>> {
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

/// The body of a request that is waited for only so long. The time while the service is at work, and does not ask for more, does
/// not count.
pub(super) struct Patient {
    inner: Body,
    limit: Duration,
    sleep: Pin<Box<Sleep>>,
    waits: bool,
}

impl Patient {
    pub(super) fn new(inner: Body, limit: Duration) -> Self {
        Self { inner, limit, sleep: Box::pin(tokio::time::sleep(limit)), waits: false }
    }
}

impl HttpBody for Patient {
    type Data = <Body as HttpBody>::Data;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Framed>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) {
            this.waits = false;
            return Poll::Ready(frame);
        }
        if !std::mem::replace(&mut this.waits, true) {
            this.sleep.as_mut().reset(tokio::time::Instant::now() + this.limit);
        }
        ready!(this.sleep.as_mut().poll(context));
        Poll::Ready(Some(Err(Error::ClientIdle(this.limit).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    #[tokio::test]
    async fn only_the_time_that_is_waited_counts_against_a_client() {
        let frame = |byte: u8| Ok::<_, Status>(Frame::data(vec![byte].into()));
        let sent = futures::stream::iter([frame(1), frame(2), frame(3)]).chain(futures::stream::pending());
        // No patience at all: what is there is taken all the same, however late the service comes for it.
        let mut body = Patient::new(Body::new(StreamBody::new(sent)), Duration::ZERO);
        for expected in [1, 2, 3] {
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap()[..], [expected]);
        }
        let status = body.frame().await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    }
}
