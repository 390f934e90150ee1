//! gRPC calls by hand, over a bare HTTP/2 connection: what comes back is the server's doing alone.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
use std::net::SocketAddr;

use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request};
use tonic::{Status, body::Body};

type Bytes = <Body as http_body::Body>::Data;

pub struct Wire(SendRequest<Bytes>);

/// What a call gave: the messages (with their five bytes before them), and the status from trailers or, where there are none, headers.
#[derive(Debug)]
pub struct Answer {
    pub body: Vec<u8>,
    pub status: Option<Status>,
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self(send)
    }

    /// Calls `path` with one message and the headers given; gives up when the server does not answer in the tests' time.
    pub async fn call(&self, path: &str, headers: &[(&str, &str)], message: &[u8]) -> Answer {
        let mut frame = vec![0];
        frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        frame.extend(message);
        tokio::time::timeout(chassis::testing::DEADLINE, self.send(path, headers, frame))
            .await
            .expect("an answer in time")
    }

    /// The same with any bytes in place of the message's frame.
    pub async fn send(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let mut call = self.open(path, headers).await;
        call.sent.send_data(body.into(), true).unwrap();
        call.answer().await
    }

    /// Sends the headers of a call and nothing else.
    pub async fn open(&self, path: &str, headers: &[(&str, &str)]) -> Open {
        let mut request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut send = self.0.clone().ready().await.unwrap();
        let (response, sent) = send.send_request(request.body(()).unwrap(), false).unwrap();
        Open { response, sent }
    }
}

/// A call whose message is still to come.
pub struct Open {
    response: ResponseFuture,
    sent: SendStream<Bytes>,
}

impl Open {
    pub async fn answer(self) -> Answer {
        let response = self.response.await.unwrap();
        let headers = response.headers().clone();
        let mut incoming = response.into_body();
        let mut body = Vec::new();
        while let Some(data) = incoming.data().await {
            let data = data.unwrap();
            incoming.flow_control().release_capacity(data.len()).unwrap();
            body.extend_from_slice(&data);
        }
        let trailers: Option<HeaderMap> = incoming.trailers().await.unwrap();
        let status = trailers.and_then(|trailers| Status::from_header_map(&trailers));
        Answer { body, status: status.or_else(|| Status::from_header_map(&headers)) }
    }
}
