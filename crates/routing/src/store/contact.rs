//! Contacts.
use chassis::{Db, Result, Tx, clock::at_micros, db::BoxFuture, page::Page};
use proto::routing::v1 as pb;
use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};
use uuid::Uuid;

use crate::contact::Contact;

mod row {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "contact")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) contact_id: Uuid,
        pub(crate) decision_id: Option<Uuid>,
        pub(crate) customer_id: Option<Uuid>,
        pub(crate) channel_id: String,
        pub(crate) queue_id: Option<String>,
        pub(crate) purpose: i32,
        pub(crate) arrive_time: i64,
        pub(crate) answer_time: Option<i64>,
        pub(crate) end_time: i64,
        pub(crate) outcome: i32,
        pub(crate) agent_id: String,
        pub(crate) create_time: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
use row::Column;

fn to_contact(row: row::Model) -> Contact {
    Contact {
        id: row.contact_id,
        decision_id: row.decision_id,
        customer_id: row.customer_id,
        channel_id: row.channel_id,
        queue_id: row.queue_id,
        purpose: pb::ContactPurpose::try_from(row.purpose).unwrap_or_default(),
        arrive: at_micros(row.arrive_time),
        answer: row.answer_time.map(at_micros),
        end: at_micros(row.end_time),
        outcome: pb::ContactOutcome::try_from(row.outcome).unwrap_or_default(),
        agent_id: row.agent_id,
        create: at_micros(row.create_time),
    }
}

pub(crate) async fn insert_contact(tx: &Tx<'_>, contact: &Contact) -> Result<()> {
    let contact = contact.clone();
    let row = row::Model {
        contact_id: contact.id,
        decision_id: contact.decision_id,
        customer_id: contact.customer_id,
        channel_id: contact.channel_id,
        queue_id: contact.queue_id,
        purpose: contact.purpose.into(),
        arrive_time: contact.arrive.as_microsecond(),
        answer_time: contact.answer.map(|time| time.as_microsecond()),
        end_time: contact.end.as_microsecond(),
        outcome: contact.outcome.into(),
        agent_id: contact.agent_id,
        create_time: contact.create.as_microsecond(),
    };
    row::Entity::insert(row.into_active_model()).exec_without_returning(&**tx).await?;
    Ok(())
}

pub(crate) async fn find_contact(db: &Db, id: Uuid) -> Result<Option<Contact>> {
    Ok(row::Entity::find_by_id(id).one(db.read()).await?.map(to_contact))
}

/// Newest first, by arrival; the key of a row is (arrival, id).
pub(crate) async fn contact_page(db: &Db, customer_id: Option<Uuid>, page: &Page<(i64, Uuid)>) -> Result<Vec<Contact>> {
    let mut query = row::Entity::find();
    if let Some(customer_id) = customer_id {
        query = query.filter(Column::CustomerId.eq(customer_id));
    }
    if let Some((arrive, id)) = page.after {
        let same_moment = Condition::all().add(Column::ArriveTime.eq(arrive)).add(Column::ContactId.lt(id));
        // The first condition alone bounds the range that the index is read in.
        query = query
            .filter(Column::ArriveTime.lte(arrive))
            .filter(Condition::any().add(Column::ArriveTime.lt(arrive)).add(same_moment));
    }
    let query = query.order_by_desc(Column::ArriveTime).order_by_desc(Column::ContactId).limit(page.limit());
    Ok(query.all(db.read()).await?.into_iter().map(to_contact).collect())
}

pub(crate) fn contacts_snapshot(
    tx: &DatabaseTransaction,
    after: Option<Uuid>,
    limit: u64,
) -> BoxFuture<'_, Result<Vec<(Uuid, pb::Contact)>>> {
    Box::pin(async move {
        let mut query = row::Entity::find().order_by_asc(Column::ContactId).limit(limit);
        if let Some(after) = after {
            query = query.filter(Column::ContactId.gt(after));
        }
        let rows = query.all(tx).await?;
        Ok(rows.into_iter().map(|row| (row.contact_id, to_contact(row).into_proto())).collect())
    })
}
