//! A bare tonic echo: no layer, no telemetry, one message of bytes each way.
use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use tonic::{Request, Response, Status, body::Body, server::NamedService, transport::server::TcpIncoming};
use tonic_prost::ProstCodec;
use tower::Service;

use super::Payload;
use crate::client::{Error, Result};

/// What the echo takes and gives.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Message {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) payload: Vec<u8>,
}

/// The path of its only method.
pub(super) const PATH: &str = "/bench.Echo/Echo";

/// The server; gone when dropped.
pub(super) struct Server {
    pub(super) url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Answers every call with a message of about `reply` bytes.
    pub(super) async fn start(reply: usize) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = tokio::net::TcpListener::bind(address).await?;
        let url = format!("http://{}", listener.local_addr()?);
        // Tag and length take three bytes for messages of up to 16 KiB.
        let payload = Payload::new(vec![7; reply.saturating_sub(3)]);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let task = tokio::spawn(async move {
            let served =
                tonic::transport::Server::builder().add_service(Echo { payload }).serve_with_incoming(incoming).await;
            if let Err(error) = served {
                tracing::error!(%error, "echo");
            }
        });
        Ok(Self { url, task })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Echo {
    payload: Payload,
}

impl NamedService for Echo {
    const NAME: &'static str = "bench.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let payload = Payload::clone(&self.payload);
        Box::pin(async move {
            let answer = tower::service_fn(move |_: Request<Message>| {
                let payload = payload.to_vec();
                async move { Ok::<_, Status>(Response::new(Message { payload })) }
            });
            let codec = ProstCodec::<Message, Message>::default();
            Ok(tonic::server::Grpc::new(codec).unary(answer, request).await)
        })
    }
}

impl From<tonic::transport::Error> for Error {
    fn from(error: tonic::transport::Error) -> Self {
        Self::new(error.to_string())
    }
}
