//! Channels and queues: created, read, changed. What changes here is what decisions are made by from the commit on.
//!
//! Each mutation locks all of them first: limits and etags are judged by one call after the other. The request is claimed under the lock, always in this order.
use chassis::{
    Error, Result,
    idempotency::{self, Key},
    parse::Check,
};
use proto::routing::v1 as pb;

use super::{Api, check_etag};
use crate::{
    channel::{Channel, MAX_CHANNELS, MAX_ID, parse_mask},
    queue::{MAX_QUEUES, Queue},
    store,
};

/// The most there may be are there: none can be deleted, since contacts name them, but any can be changed into another.
fn full(what: &'static str, most: u64) -> Error {
    Error::WrongState { what, state: "full".to_owned(), rule: format!("at most {most}; change one that is not in use") }
}

impl Api {
    pub(super) async fn add_channel(&self, request: pb::CreateChannelRequest) -> Result<pb::CreateChannelResponse> {
        let mut check = Check::new();
        let key = Key::parse(&mut check, "CreateChannel", &request.request_id, &request);
        check.require(request.channel.is_some(), "channel", "is not set");
        let from = request.channel.unwrap_or_default();
        let channel = Channel::parse(&mut check, &from, &self.config.currency);
        check.done()?;
        let (key, channel) = (&key, &channel);
        self.db
            .run_tx("create_channel", |tx| {
                Box::pin(async move {
                    store::lock_setup(tx).await?;
                    if let Some(reply) = idempotency::replay(tx, key).await? {
                        return Ok(reply);
                    }
                    if store::channel_exists(tx, &channel.id).await? {
                        return Err(Error::AlreadyExists { what: "channel", id: channel.id.clone() });
                    }
                    if store::channel_count(tx).await? >= MAX_CHANNELS {
                        return Err(full("the list of channels", MAX_CHANNELS));
                    }
                    store::insert_channel(tx, channel).await?;
                    store::publish_setup(tx).await?;
                    let reply = pb::CreateChannelResponse { channel: Some(channel.to_proto()) };
                    idempotency::record(tx, key, reply).await
                })
            })
            .await
    }

    pub(super) async fn one_channel(&self, request: pb::GetChannelRequest) -> Result<pb::GetChannelResponse> {
        let mut check = Check::new();
        let id = check.slug("channel_id", &request.channel_id, MAX_ID);
        check.done()?;
        let channel = store::find_channel(self.db.read(), &id).await?;
        let channel = channel.ok_or_else(|| Error::not_found("channel", &id))?;
        Ok(pb::GetChannelResponse { channel: Some(channel.to_proto()) })
    }

    pub(super) async fn all_channels(&self) -> Result<pb::ListChannelsResponse> {
        let channels = store::list_channels(self.db.read()).await?;
        Ok(pb::ListChannelsResponse { channels: channels.iter().map(Channel::to_proto).collect() })
    }

    pub(super) async fn change_channel(&self, request: pb::UpdateChannelRequest) -> Result<pb::UpdateChannelResponse> {
        let mut check = Check::new();
        let key = Key::parse(&mut check, "UpdateChannel", &request.request_id, &request);
        check.require(request.channel.is_some(), "channel", "is not set");
        let from = request.channel.unwrap_or_default();
        let id = check.slug("channel.channel_id", &from.channel_id, MAX_ID);
        check.require(!from.etag.is_empty(), "channel.etag", "is empty; the current one is required");
        let paths = parse_mask(&mut check, request.update_mask.as_ref(), Channel::PATHS);
        let currency = &self.config.currency;
        let mut values = Channel::blank(id);
        for path in &paths {
            values.set(&mut check, path, &from, currency);
        }
        check.done()?;
        let (key, from, paths, id) = (&key, &from, &paths, &values.id);
        self.db
            .run_tx("update_channel", |tx| {
                Box::pin(async move {
                    store::lock_setup(tx).await?;
                    if let Some(reply) = idempotency::replay(tx, key).await? {
                        return Ok(reply);
                    }
                    let channel = store::find_channel(&**tx, id).await?;
                    let mut channel = channel.ok_or_else(|| Error::not_found("channel", id))?;
                    check_etag("channel", &from.etag, channel.revision)?;
                    for path in paths {
                        channel.set(&mut Check::new(), path, from, currency);
                    }
                    channel.revision += 1;
                    store::update_channel(tx, &channel).await?;
                    store::publish_setup(tx).await?;
                    let reply = pb::UpdateChannelResponse { channel: Some(channel.to_proto()) };
                    idempotency::record(tx, key, reply).await
                })
            })
            .await
    }

    pub(super) async fn add_queue(&self, request: pb::CreateQueueRequest) -> Result<pb::CreateQueueResponse> {
        let mut check = Check::new();
        let key = Key::parse(&mut check, "CreateQueue", &request.request_id, &request);
        check.require(request.queue.is_some(), "queue", "is not set");
        let queue = Queue::parse(&mut check, &request.queue.unwrap_or_default());
        check.done()?;
        let (key, queue) = (&key, &queue);
        self.db
            .run_tx("create_queue", |tx| {
                Box::pin(async move {
                    store::lock_setup(tx).await?;
                    if let Some(reply) = idempotency::replay(tx, key).await? {
                        return Ok(reply);
                    }
                    if !store::channel_exists(tx, &queue.channel_id).await? {
                        return Err(Error::not_found("channel", &queue.channel_id));
                    }
                    if store::find_queue(&**tx, &queue.id).await?.is_some() {
                        return Err(Error::AlreadyExists { what: "queue", id: queue.id.clone() });
                    }
                    if store::queue_count(tx).await? >= MAX_QUEUES {
                        return Err(full("the list of queues", MAX_QUEUES));
                    }
                    store::insert_queue(tx, queue).await?;
                    store::publish_setup(tx).await?;
                    let reply = pb::CreateQueueResponse { queue: Some(queue.to_proto()) };
                    idempotency::record(tx, key, reply).await
                })
            })
            .await
    }

    pub(super) async fn one_queue(&self, request: pb::GetQueueRequest) -> Result<pb::GetQueueResponse> {
        let mut check = Check::new();
        let id = check.slug("queue_id", &request.queue_id, MAX_ID);
        check.done()?;
        let queue = store::find_queue(self.db.read(), &id).await?;
        let queue = queue.ok_or_else(|| Error::not_found("queue", &id))?;
        Ok(pb::GetQueueResponse { queue: Some(queue.to_proto()) })
    }

    pub(super) async fn all_queues(&self) -> Result<pb::ListQueuesResponse> {
        let queues = store::list_queues(self.db.read()).await?;
        Ok(pb::ListQueuesResponse { queues: queues.iter().map(Queue::to_proto).collect() })
    }

    pub(super) async fn change_queue(&self, request: pb::UpdateQueueRequest) -> Result<pb::UpdateQueueResponse> {
        let mut check = Check::new();
        let key = Key::parse(&mut check, "UpdateQueue", &request.request_id, &request);
        check.require(request.queue.is_some(), "queue", "is not set");
        let from = request.queue.unwrap_or_default();
        let id = check.slug("queue.queue_id", &from.queue_id, MAX_ID);
        check.require(!from.etag.is_empty(), "queue.etag", "is empty; the current one is required");
        let paths = parse_mask(&mut check, request.update_mask.as_ref(), Queue::PATHS);
        let mut values = Queue::blank(id);
        for path in &paths {
            values.set(&mut check, path, &from);
        }
        check.done()?;
        let (key, from, paths, id) = (&key, &from, &paths, &values.id);
        self.db
            .run_tx("update_queue", |tx| {
                Box::pin(async move {
                    store::lock_setup(tx).await?;
                    if let Some(reply) = idempotency::replay(tx, key).await? {
                        return Ok(reply);
                    }
                    let queue = store::find_queue(&**tx, id).await?;
                    let mut queue = queue.ok_or_else(|| Error::not_found("queue", id))?;
                    check_etag("queue", &from.etag, queue.revision)?;
                    for path in paths {
                        queue.set(&mut Check::new(), path, from);
                    }
                    if !store::channel_exists(tx, &queue.channel_id).await? {
                        return Err(Error::not_found("channel", &queue.channel_id));
                    }
                    queue.revision += 1;
                    store::update_queue(tx, &queue).await?;
                    store::publish_setup(tx).await?;
                    let reply = pb::UpdateQueueResponse { queue: Some(queue.to_proto()) };
                    idempotency::record(tx, key, reply).await
                })
            })
            .await
    }
}
