//! Every table and query.
//!
//! `customer.details` is the encoded record as callers set it: with `name_key`, `identity.id` and the chassis's kept replies and changes, the only
//! place of personal data.
use std::collections::{BTreeSet, HashMap, HashSet};

use chassis::{
    Error, Result, Tx,
    clock::at_micros,
    db::{Columns, bulk, sql},
    feed::Kept,
};
use prost::Message;
use proto::{profiles::v1 as pb, scoring::v1::Standing};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, DatabaseBackend, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, SelectTwo, Value,
    sea_query::{Expr, ExprTrait, Func},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::customer::{Customer, Details, Identity, Kind};

pub(crate) mod customer {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "customer")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) customer_id: Uuid,
        pub(crate) revision: i64,
        pub(crate) kind: i32,
        pub(crate) name_key: String,
        pub(crate) details: Vec<u8>,
        pub(crate) open_complaints: i32,
        pub(crate) create_time: i64,
        pub(crate) update_time: i64,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {
        #[sea_orm(has_one = "super::standing::Entity")]
        Standing,
    }

    impl Related<super::standing::Entity> for Entity {
        fn to() -> RelationDef {
            Relation::Standing.def()
        }
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// Where customers stand, as scoring announced it. Apart from their records: it changes with every purchase, and those may be long.
pub(crate) mod standing {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "standing")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) customer_id: Uuid,
        pub(crate) revision: i64,
        pub(crate) relationship: i32,
        pub(crate) stage: i32,
        pub(crate) tier: i32,
        pub(crate) code: i32,
        pub(crate) estimated: bool,
        pub(crate) since: Option<i64>,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {
        #[sea_orm(
            belongs_to = "super::customer::Entity",
            from = "Column::CustomerId",
            to = "super::customer::Column::CustomerId"
        )]
        Customer,
    }

    impl Related<super::customer::Entity> for Entity {
        fn to() -> RelationDef {
            Relation::Customer.def()
        }
    }

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod identity {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "identity")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) system: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) id: String,
        pub(crate) customer_id: Uuid,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Pairs in one statement, at two parameters each: far below SQLite's 32,766.
const PAIRS_PER_STATEMENT: usize = 5_000;
/// Any number, the same for all replicas of this service.
const IDENTITY_LOCK: i64 = 0x69_6465_6e74;

fn read((row, standing): (customer::Model, Option<standing::Model>)) -> Result<Customer> {
    let details = pb::Customer::decode(&*row.details)
        .map_err(|error| Error::Internal(format!("details of customer {}: {error}", row.customer_id)))?;
    let standing = standing.map(|standing| Standing {
        customer_id: standing.customer_id.to_string(),
        revision: standing.revision,
        relationship: standing.relationship,
        stage: standing.stage,
        tier: standing.tier,
        code: standing.code,
        estimated: standing.estimated,
        since: standing.since.map(|since| chassis::clock::to_proto(at_micros(since))),
    });
    Ok(Customer {
        id: row.customer_id,
        revision: row.revision,
        details: Details::kept(details),
        standing,
        open_complaints: row.open_complaints,
        create_time: at_micros(row.create_time),
        update_time: at_micros(row.update_time),
    })
}

impl From<&Customer> for customer::ActiveModel {
    fn from(customer: &Customer) -> Self {
        Self {
            customer_id: Set(customer.id),
            revision: Set(customer.revision),
            kind: Set(customer.details.kind().to_proto().into()),
            name_key: Set(customer.details.name_key()),
            details: Set(customer.details.as_proto().encode_to_vec()),
            open_complaints: Set(customer.open_complaints),
            create_time: Set(customer.create_time.as_microsecond()),
            update_time: Set(customer.update_time.as_microsecond()),
        }
    }
}

/// Records, each with where its customer stands.
fn records() -> SelectTwo<customer::Entity, standing::Entity> {
    customer::Entity::find().find_also_related(standing::Entity)
}

/// One customer.
pub(crate) async fn get<C: ConnectionTrait>(connection: &C, id: Uuid) -> Result<Customer> {
    let row = records().filter(customer::Column::CustomerId.eq(id)).one(connection).await?;
    read(row.ok_or_else(|| Error::not_found("customer", id))?)
}

/// One customer, whom no other transaction changes until this one ends.
pub(crate) async fn get_for_update(tx: &Tx<'_>, id: Uuid) -> Result<Customer> {
    let row = customer::Entity::find_by_id(id).lock_exclusive().one(&**tx).await?;
    let row = row.ok_or_else(|| Error::not_found("customer", id))?;
    // No caller changes it, so it needs no lock.
    let standing = standing::Entity::find_by_id(id).one(&**tx).await?;
    read((row, standing))
}

/// Those of the ids that are there, in no order.
pub(crate) async fn find_many<C: ConnectionTrait>(connection: &C, ids: &[Uuid]) -> Result<Vec<Customer>> {
    let ids = ids.iter().copied();
    let rows = records().filter(customer::Column::CustomerId.is_in(ids)).all(connection).await?;
    rows.into_iter().map(read).collect()
}

/// A page of all customers by id.
pub(crate) async fn find_page<C: ConnectionTrait>(
    connection: &C,
    after: Option<Uuid>,
    limit: u64,
) -> Result<Vec<Customer>> {
    let mut select = records().order_by_asc(customer::Column::CustomerId).limit(limit);
    if let Some(after) = after {
        select = select.filter(customer::Column::CustomerId.gt(after));
    }
    select.all(connection).await?.into_iter().map(read).collect()
}

/// The customers of identities; those that belong to nobody are not in the map.
pub(crate) async fn find_owners<C: ConnectionTrait>(
    connection: &C,
    identities: &[Identity],
) -> Result<HashMap<Identity, Uuid>> {
    let head = "SELECT system, id, customer_id FROM identity WHERE (system, id) IN (";
    let keys = identities.iter().map(|identity| [identity.system.as_str().into(), identity.id.as_str().into()]);
    let mut owners = HashMap::with_capacity(identities.len());
    for row in bulk::find(connection, head, keys, ")").await? {
        let mut columns = Columns::of(&row);
        owners.insert(Identity { system: columns.take()?, id: columns.take()? }, columns.take()?);
    }
    Ok(owners)
}

/// Lets one transaction at a time give identities to customers, so that concurrent imports wait for each other instead of losing the same race
/// again and again. The unique key still decides; SQLite has one writer anyway.
pub(crate) async fn lock_identities(tx: &Tx<'_>) -> Result<()> {
    if tx.get_database_backend() == DatabaseBackend::Postgres {
        tx.execute_raw(sql(&**tx, "SELECT pg_advisory_xact_lock($1)", [IDENTITY_LOCK.into()])).await?;
    }
    Ok(())
}

/// Writes new customers and their identities. At most 1,000: eight parameters each.
pub(crate) async fn insert(tx: &Tx<'_>, customers: &[Customer]) -> Result<()> {
    if customers.is_empty() {
        return Ok(());
    }
    let rows = customers.iter().map(customer::ActiveModel::from);
    customer::Entity::insert_many(rows).exec_without_returning(&**tx).await?;
    let identities = customers.iter().flat_map(|customer| {
        customer.details.identities().into_iter().map(|identity| (identity, customer.id)).collect::<Vec<_>>()
    });
    insert_identities(tx, identities.collect()).await
}

async fn insert_identities(tx: &Tx<'_>, identities: Vec<(Identity, Uuid)>) -> Result<()> {
    for chunk in identities.chunks(PAIRS_PER_STATEMENT) {
        let rows = chunk.iter().map(|(identity, customer_id)| identity::ActiveModel {
            system: Set(identity.system.clone()),
            id: Set(identity.id.clone()),
            customer_id: Set(*customer_id),
        });
        identity::Entity::insert_many(rows).exec_without_returning(&**tx).await?;
    }
    Ok(())
}

/// Writes a changed customer.
pub(crate) async fn update(tx: &Tx<'_>, customer: &Customer) -> Result<()> {
    customer::Entity::update(customer::ActiveModel::from(customer)).exec_without_returning(&**tx).await?;
    Ok(())
}

/// Takes identities from a customer and gives others.
pub(crate) async fn move_identities(
    tx: &Tx<'_>,
    customer_id: Uuid,
    removed: &[Identity],
    added: Vec<Identity>,
) -> Result<()> {
    if !removed.is_empty() {
        let gone = removed.iter().fold(Condition::any(), |any, gone| {
            any.add(identity::Column::System.eq(&gone.system).and(identity::Column::Id.eq(&gone.id)))
        });
        identity::Entity::delete_many()
            .filter(identity::Column::CustomerId.eq(customer_id))
            .filter(gone)
            .exec(&**tx)
            .await?;
    }
    insert_identities(tx, added.into_iter().map(|identity| (identity, customer_id)).collect()).await
}

/// Those of the ids that are customers' here.
pub(crate) async fn find_ids(tx: &Tx<'_>, ids: &[Uuid]) -> Result<HashSet<Uuid>> {
    let head = "SELECT customer_id FROM customer WHERE customer_id IN (";
    let rows = bulk::find(&**tx, head, ids.iter().map(|id| [(*id).into()]), ")").await?;
    rows.iter().map(|row| Columns::of(row).take()).collect()
}

/// Keeps other transactions from changing these customers until this one ends; in the order of ids, so that two that each do this once never wait for
/// each other. Those that are here. On SQLite the writer is alone and nothing is locked.
pub(crate) async fn lock(tx: &Tx<'_>, ids: &BTreeSet<Uuid>) -> Result<HashSet<Uuid>> {
    let tail = format!(") ORDER BY customer_id{}", tx.for_update());
    let head = "SELECT customer_id FROM customer WHERE customer_id IN (";
    let rows = bulk::find(&**tx, head, ids.iter().map(|id| [(*id).into()]), &tail).await?;
    rows.iter().map(|row| Columns::of(row).take()).collect()
}

/// What is kept of where customers stand.
pub(crate) const STANDINGS: Kept<8> = Kept {
    table: "standing",
    key: "customer_id",
    revision: "revision",
    columns: &["revision", "relationship", "stage", "tier", "code", "estimated", "since"],
    shows_revision: true,
};

/// What is kept of complaints.
pub(crate) const COMPLAINTS: Kept<4> = Kept {
    table: "complaint",
    key: "complaint_id",
    revision: "revision",
    columns: &["customer_id", "revision", "open"],
    shows_revision: true,
};

/// Counts the open complaints of these locked customers and puts the numbers onto their records.
pub(crate) async fn count_open_complaints(tx: &Tx<'_>, customers: &HashSet<Uuid>) -> Result<()> {
    let head = "UPDATE customer SET open_complaints = (SELECT COUNT(*) FROM complaint WHERE complaint.open \
                AND complaint.customer_id = customer.customer_id) WHERE customer_id IN (";
    bulk::execute(&**tx, head, customers.iter().map(|id| [(*id).into()]), ")").await?;
    Ok(())
}

/// Which customers a list shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) kind: Option<Kind>,
    pub(crate) codes: Vec<i32>,
    pub(crate) tiers: Vec<i32>,
    pub(crate) stages: Vec<i32>,
    pub(crate) relationships: Vec<i32>,
    /// As [`crate::customer::name_key`] has it.
    pub(crate) name_prefix: String,
    pub(crate) system: Option<String>,
    pub(crate) with_open_complaints: bool,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Oldest,
    Newest,
    Name,
}

/// Where a page ends: what it is ordered by, and the id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Last {
    Time(i64, u128),
    Name(String, u128),
}

impl Last {
    pub(crate) fn of(sort: Sort, customer: &Customer) -> Self {
        match sort {
            Sort::Oldest | Sort::Newest => Self::Time(customer.create_time.as_microsecond(), customer.id.as_u128()),
            Sort::Name => Self::Name(customer.details.name_key(), customer.id.as_u128()),
        }
    }
}

/// A page of a list.
pub(crate) async fn list<C: ConnectionTrait>(
    connection: &C,
    filter: &Filter,
    sort: Sort,
    after: Option<&Last>,
    limit: u64,
) -> Result<Vec<Customer>> {
    use customer::Column;
    let mut select = records().limit(limit);
    if let Some(kind) = filter.kind {
        select = select.filter(Column::Kind.eq(i32::from(kind.to_proto())));
    }
    let states = [
        (standing::Column::Code, &filter.codes),
        (standing::Column::Tier, &filter.tiers),
        (standing::Column::Stage, &filter.stages),
        (standing::Column::Relationship, &filter.relationships),
    ];
    for (column, wanted) in states {
        if !wanted.is_empty() {
            let state = Expr::col(column.as_column_ref());
            // Whom scoring has not spoken of has no row: unspecified. PostgreSQL has statistics of the bare column; SQLite, bare of them, would begin
            // with the standings and sort all that it finds for each page.
            let bare = connection.get_database_backend() == DatabaseBackend::Postgres && !wanted.contains(&0);
            let state = if bare { state } else { Expr::expr(Func::coalesce([state, Expr::val(0)])) };
            select = select.filter(state.is_in(wanted.iter().copied()));
        }
    }
    if !filter.name_prefix.is_empty() {
        // A range of the index. The last character there is stands after every name with this beginning.
        select = select
            .filter(Column::NameKey.gte(&filter.name_prefix))
            .filter(Column::NameKey.lt(format!("{}\u{10FFFF}", filter.name_prefix)));
    }
    if let Some(system) = &filter.system {
        // Asked per row of the page: a list of all customers of a system could be long.
        let known = identity::Entity::find()
            .select_only()
            .column(identity::Column::Id)
            .filter(identity::Column::System.eq(system))
            .filter(Expr::col(identity::Column::CustomerId.as_column_ref()).equals(Column::CustomerId.as_column_ref()))
            .into_query();
        select = select.filter(Expr::exists(known));
    }
    if filter.with_open_complaints {
        select = select.filter(Column::OpenComplaints.gt(0));
    }
    let (column, order) = match sort {
        Sort::Oldest => (Column::CreateTime, Order::Asc),
        Sort::Newest => (Column::CreateTime, Order::Desc),
        Sort::Name => (Column::NameKey, Order::Asc),
    };
    if let Some(after) = after {
        let (value, id): (Value, u128) = match after {
            Last::Time(time, id) => ((*time).into(), *id),
            Last::Name(name, id) => (name.clone().into(), *id),
        };
        let here = Expr::tuple([column, Column::CustomerId].map(|column| Expr::col(column.as_column_ref())));
        let there = Expr::tuple([Expr::val(value), Expr::val(Uuid::from_u128(id))]);
        select = select.filter(if sort == Sort::Newest { here.lt(there) } else { here.gt(there) });
    }
    let select = select.order_by(column, order.clone()).order_by(Column::CustomerId, order);
    select.all(connection).await?.into_iter().map(read).collect()
}
