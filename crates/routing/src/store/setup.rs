//! Channels and queues. Whoever changes one locks the row of `setup` first, and publishes all of them to the views.
use chassis::{Db, Error, Result, Tx, db::sql};
use jiff::SignedDuration;
use proto::routing::v1 as pb;
use sea_orm::{ActiveModelTrait, ConnectionTrait, EntityTrait, IntoActiveModel, PaginatorTrait, TryGetable};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    channel::Channel,
    hours::Hours,
    point::Key,
    queue::Queue,
    seed, store,
    view::{Change, Part, SetupMessage},
};

mod channel {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "channel")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) channel_id: String,
        pub(crate) revision: i64,
        pub(crate) display_name: String,
        pub(crate) kind: i32,
        pub(crate) currency: String,
        pub(crate) cost: i64,
        pub(crate) capacity: i32,
        pub(crate) hours: String,
        pub(crate) relationship_building: f64,
        pub(crate) enabled: bool,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod queue {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "queue")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) queue_id: String,
        pub(crate) revision: i64,
        pub(crate) display_name: String,
        pub(crate) channel_id: String,
        pub(crate) tiers: String,
        pub(crate) purposes: String,
        pub(crate) priority: i32,
        pub(crate) answer: i64,
        pub(crate) handling: i64,
        pub(crate) enabled: bool,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Internal(error.to_string()))
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::Internal(format!("a stored list: {error}")))
}

fn channel_row(channel: &Channel) -> Result<channel::ActiveModel> {
    let row = channel::Model {
        channel_id: channel.id.clone(),
        revision: channel.revision,
        display_name: channel.display_name.clone(),
        kind: channel.kind.into(),
        currency: channel.currency.clone(),
        cost: channel.cost,
        capacity: channel.capacity,
        hours: to_json(&channel.hours.to_rows())?,
        relationship_building: channel.relationship_building,
        enabled: channel.enabled,
    };
    Ok(row.into_active_model().reset_all())
}

fn to_channel(row: channel::Model) -> Result<Channel> {
    Ok(Channel {
        id: row.channel_id,
        revision: row.revision,
        display_name: row.display_name,
        kind: pb::ChannelKind::try_from(row.kind).unwrap_or_default(),
        currency: row.currency,
        cost: row.cost,
        capacity: row.capacity,
        hours: Hours::from_rows(&from_json::<Vec<_>>(&row.hours)?),
        relationship_building: row.relationship_building,
        enabled: row.enabled,
    })
}

fn queue_row(queue: &Queue) -> Result<queue::ActiveModel> {
    let row = queue::Model {
        queue_id: queue.id.clone(),
        revision: queue.revision,
        display_name: queue.display_name.clone(),
        channel_id: queue.channel_id.clone(),
        tiers: to_json(&queue.tiers.iter().map(|tier| i32::from(*tier)).collect::<Vec<_>>())?,
        purposes: to_json(&queue.purposes.iter().map(|purpose| i32::from(*purpose)).collect::<Vec<_>>())?,
        priority: queue.priority,
        answer: chassis::clock::micros(queue.answer),
        handling: chassis::clock::micros(queue.handling),
        enabled: queue.enabled,
    };
    Ok(row.into_active_model().reset_all())
}

fn to_queue(row: queue::Model) -> Result<Queue> {
    fn values<E: TryFrom<i32>>(text: &str) -> Result<Vec<E>> {
        Ok(from_json::<Vec<i32>>(text)?.into_iter().filter_map(|value| E::try_from(value).ok()).collect())
    }
    Ok(Queue {
        id: row.queue_id,
        revision: row.revision,
        display_name: row.display_name,
        channel_id: row.channel_id,
        tiers: values(&row.tiers)?,
        purposes: values(&row.purposes)?,
        priority: row.priority,
        answer: SignedDuration::from_micros(row.answer),
        handling: SignedDuration::from_micros(row.handling),
        enabled: row.enabled,
    })
}

/// Keeps others from changing channels and queues until this transaction ends: so limits hold exactly, and what is published is
/// all there is.
pub(crate) async fn lock_setup(tx: &Tx<'_>) -> Result<()> {
    tx.execute_raw(sql(&**tx, "UPDATE setup SET revision = revision + 1 WHERE id = 1", [])).await?;
    Ok(())
}

/// Publishes all channels and queues to the views; under the lock.
pub(crate) async fn publish_setup(tx: &Tx<'_>) -> Result<()> {
    let message = setup_message(&**tx).await?;
    tx.publish(store::VIEW, Uuid::nil(), &message);
    Ok(())
}

/// All channels and queues as the views get them.
pub(super) async fn setup_message<C: ConnectionTrait>(connection: &C) -> Result<Change> {
    let channels = list_channels(connection).await?.iter().map(Channel::to_proto).collect();
    let queues = list_queues(connection).await?.iter().map(Queue::to_proto).collect();
    Ok(Change { part: Some(Part::Setup(SetupMessage { channels, queues })) })
}

/// The key of the contact points' hashes.
pub(crate) async fn point_key(db: &Db) -> Result<Key> {
    let row = db.read().query_one_raw(sql(db.read(), "SELECT point_key FROM setup WHERE id = 1", [])).await?;
    let row = row.ok_or_else(|| Error::Internal("setup has no row".to_owned()))?;
    Ok(Key::new(Vec::<u8>::try_get(&row, "", "point_key").map_err(sea_orm::DbErr::from)?))
}

/// Writes the first channels and queues, if there are none; replicas may start at once. Costs are compared with each other and never
/// converted, so channels in another currency than `currency` refuse the start.
pub(crate) async fn seed_or_check(db: &Db, currency: &str) -> Result<()> {
    db.run_tx("seed_setup", |tx| {
        Box::pin(async move {
            lock_setup(tx).await?;
            let channels = list_channels(&**tx).await?;
            if let Some(other) = channels.iter().find(|channel| channel.currency != currency) {
                let kept = &other.currency;
                let message = format!(
                    "the costs of the channels in this database are in {kept}; set it back to {kept}, or start with an empty \
                     database to keep them in {currency}"
                );
                return Err(Error::invalid("routing.currency", message));
            }
            if !channels.is_empty() {
                return Ok(());
            }
            for channel in seed::channels(currency) {
                insert_channel(tx, &channel).await?;
            }
            for queue in seed::queues() {
                insert_queue(tx, &queue).await?;
            }
            publish_setup(tx).await
        })
    })
    .await
}

pub(crate) async fn list_channels<C: ConnectionTrait>(connection: &C) -> Result<Vec<Channel>> {
    let rows = channel::Entity::find().all(connection).await?;
    // Sorted here: PostgreSQL would do it by its collation, SQLite by bytes.
    let mut channels = rows.into_iter().map(to_channel).collect::<Result<Vec<_>>>()?;
    channels.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(channels)
}

pub(crate) async fn list_queues<C: ConnectionTrait>(connection: &C) -> Result<Vec<Queue>> {
    let rows = queue::Entity::find().all(connection).await?;
    let mut queues = rows.into_iter().map(to_queue).collect::<Result<Vec<_>>>()?;
    queues.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(queues)
}

pub(crate) async fn find_channel<C: ConnectionTrait>(connection: &C, id: &str) -> Result<Option<Channel>> {
    channel::Entity::find_by_id(id).one(connection).await?.map(to_channel).transpose()
}

pub(crate) async fn find_queue<C: ConnectionTrait>(connection: &C, id: &str) -> Result<Option<Queue>> {
    queue::Entity::find_by_id(id).one(connection).await?.map(to_queue).transpose()
}

pub(crate) async fn channel_exists(tx: &Tx<'_>, id: &str) -> Result<bool> {
    Ok(find_channel(&**tx, id).await?.is_some())
}

pub(crate) async fn channel_count(tx: &Tx<'_>) -> Result<u64> {
    Ok(channel::Entity::find().count(&**tx).await?)
}

pub(crate) async fn queue_count(tx: &Tx<'_>) -> Result<u64> {
    Ok(queue::Entity::find().count(&**tx).await?)
}

pub(crate) async fn insert_channel(tx: &Tx<'_>, channel: &Channel) -> Result<()> {
    channel::Entity::insert(channel_row(channel)?).exec_without_returning(&**tx).await?;
    Ok(())
}

pub(crate) async fn insert_queue(tx: &Tx<'_>, queue: &Queue) -> Result<()> {
    queue::Entity::insert(queue_row(queue)?).exec_without_returning(&**tx).await?;
    Ok(())
}

pub(crate) async fn update_channel(tx: &Tx<'_>, channel: &Channel) -> Result<()> {
    channel_row(channel)?.update(&**tx).await?;
    Ok(())
}

pub(crate) async fn update_queue(tx: &Tx<'_>, queue: &Queue) -> Result<()> {
    queue_row(queue)?.update(&**tx).await?;
    Ok(())
}
