//! The load generator's side of a call: messages that are encoded already go out, and what comes back is not looked into. So both halves of a pair
//! cost the generator the same, and what differs is the server.
use http::uri::PathAndQuery;
use prost::bytes::{Buf, BufMut, Bytes};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

/// One unary call; how many bytes came back.
pub(super) async fn call(channel: Channel, path: &'static str, message: Bytes) -> Result<usize, Status> {
    let mut grpc = ready(channel).await?;
    let reply = grpc.unary(Request::new(message), PathAndQuery::from_static(path), Encoded).await?;
    Ok(reply.into_inner().len())
}

/// One call with a stream of messages; the reply.
pub(super) async fn stream(channel: Channel, path: &'static str, messages: Vec<Bytes>) -> Result<Bytes, Status> {
    let mut grpc = ready(channel).await?;
    let messages = Request::new(futures::stream::iter(messages));
    Ok(grpc.client_streaming(messages, PathAndQuery::from_static(path), Encoded).await?.into_inner())
}

async fn ready(channel: Channel) -> Result<Grpc<Channel>, Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    Ok(grpc)
}

/// Messages as they are on the wire.
pub(super) struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
