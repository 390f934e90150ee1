//! A collector that takes everything and keeps nothing: tracing is on in every measurement, as in production.
use std::net::SocketAddr;

use prost::bytes::Bytes;
use tonic::{Request, Response, Status, body::Body, server::Grpc, transport::server::TcpIncoming};

use super::wire::Encoded;
use crate::client::Result;

/// The collector; gone when dropped.
#[derive(Debug)]
pub struct Collector {
    /// Where it listens.
    pub endpoint: String,
    task: tokio::task::JoinHandle<()>,
}

impl Collector {
    /// Starts it on a port of its own. It does not look into what it is sent, spans or measurements: reading them is the work of another machine.
    ///
    /// # Errors
    /// A machine without a free port.
    pub async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let take = tower::service_fn(async |request: http::Request<Body>| {
            // No bytes are the answer of both services: a message without fields.
            let nothing = tower::service_fn(async |_: Request<Bytes>| Ok::<_, Status>(Response::new(Bytes::new())));
            let mut grpc = Grpc::new(Encoded).max_decoding_message_size(usize::MAX);
            Ok::<_, std::convert::Infallible>(grpc.unary(nothing, request).await)
        });
        let task = tokio::spawn(async move {
            let incoming = TcpIncoming::from(listener);
            let served = tonic::transport::Server::builder().serve_with_incoming(take, incoming).await;
            if let Err(error) = served {
                tracing::error!(%error, "collector");
            }
        });
        Ok(Self { endpoint, task })
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}
