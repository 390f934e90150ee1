//! Any bytes to any RPC, without its generated client: what a careless or hostile caller can send.
use std::time::Duration;

use chassis::peers::Channel;
use http::uri::PathAndQuery;
use prost::bytes::{Buf, BufMut};
use prost_reflect::{DescriptorPool, MethodDescriptor};
use tonic::{
    Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// How long to listen to a stream that may have nothing to say. Not a wait for something: whatever comes later is not asked for.
const LISTEN: Duration = Duration::from_millis(20);

/// Every RPC of every service.
pub fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(proto::DESCRIPTORS).unwrap();
    pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
}

/// Calls an RPC with these messages, whatever they are, and takes the first answer. None where it answered with nothing (yet).
///
/// # Errors
/// What the service answered.
pub async fn call(
    channel: &Channel,
    method: &MethodDescriptor,
    messages: Vec<Vec<u8>>,
) -> Result<Option<Vec<u8>>, Status> {
    let path: PathAndQuery = format!("/{}/{}", method.parent_service().full_name(), method.name()).parse().unwrap();
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let messages = Request::new(tokio_stream::iter(messages));
    let mut answers = client.streaming(messages, path, Bytes).await?.into_inner();
    if method.is_server_streaming() {
        return tokio::time::timeout(LISTEN, answers.message()).await.unwrap_or(Ok(None));
    }
    let answer = answers.message().await?;
    // The status comes after the message.
    answers.trailers().await?;
    Ok(answer)
}

/// A codec that leaves messages as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}
