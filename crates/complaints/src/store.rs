//! The tables and every query. Nothing outside this file knows sea-orm's entities.
//!
//! Lock order, the same everywhere: the customer's row (several: by id), then complaints. Whoever holds the customer's row is alone with
//! the customer's complaints, so that counts and their order in the feed are right on PostgreSQL, too.
use std::collections::BTreeMap;

use chassis::{
    Error, Result, Tx,
    clock::{at_micros, micros},
    db::sql,
    feed::{Kept, Newest},
};
use jiff::{SignedDuration, Timestamp};
use proto::{
    complaints::v1::{ComplaintState, CustomerWord, Severity},
    scoring::v1::Tier,
};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use uuid::Uuid;

use crate::complaint::{Clock, Complaint, Step, Swept};

/// Stands for "never" in the columns of due and sweep times, so that those come last in every order and before no moment.
const NEVER: i64 = i64::MAX;
/// Steps of a history that are read: the last ones. A case that takes more has lost its way long before.
pub(crate) const MAX_STEPS: u64 = 200;
/// Most causes: a tree that people choose from.
pub(crate) const MAX_CAUSES: usize = 1_000;
/// Customers in one statement: far below SQLite's 32,766 parameters at three each.
const CUSTOMERS_PER_STATEMENT: usize = 5_000;

mod tables;
pub(crate) use tables::cause::Model as Cause;
use tables::{cause, complaint, customer, step};

fn broken(what: &str, id: Uuid) -> Error {
    Error::Internal(format!("complaint {id} has an unknown {what} in its row"))
}

fn due(micros: i64) -> Option<Timestamp> {
    (micros != NEVER).then(|| at_micros(micros))
}

fn or_never(time: Option<Timestamp>) -> i64 {
    time.map_or(NEVER, Timestamp::as_microsecond)
}

impl TryFrom<complaint::Model> for Complaint {
    type Error = Error;

    fn try_from(row: complaint::Model) -> Result<Self> {
        let id = row.complaint_id;
        Ok(Self {
            id,
            revision: row.revision,
            customer_id: row.customer_id,
            cause_id: row.cause_id,
            severity: Severity::try_from(row.severity).map_err(|_| broken("severity", id))?,
            description: row.description,
            state: ComplaintState::try_from(row.state).map_err(|_| broken("state", id))?,
            owner_id: row.owner_id,
            level: row.escalation_level,
            tier: Tier::try_from(row.tier).map_err(|_| broken("tier", id))?,
            clock: Clock {
                allowed: SignedDuration::from_micros(row.allowed_micros),
                floor: SignedDuration::from_micros(row.floor_micros),
                elapsed: SignedDuration::from_micros(row.elapsed_micros),
                running_since: row.running_since.map(at_micros),
            },
            due: due(row.due_time),
            sweep: due(row.sweep_time),
            swept: match row.swept {
                0 => Swept::Nothing,
                1 => Swept::Escalated,
                2 => Swept::Breached,
                _ => return Err(broken("stage of the sweep", id)),
            },
            breached: row.breached,
            answer: row.answer,
            customer_word: CustomerWord::try_from(row.customer_word).map_err(|_| broken("customer's word", id))?,
            create_time: at_micros(row.create_time),
            update_time: at_micros(row.update_time),
        })
    }
}

/// A row of the columns that change; those that never do are left out.
fn changed(complaint: &Complaint) -> complaint::ActiveModel {
    complaint::ActiveModel {
        complaint_id: NotSet,
        customer_id: NotSet,
        cause_id: NotSet,
        description: NotSet,
        create_time: NotSet,
        severity: Set(complaint.severity.into()),
        state: Set(complaint.state.into()),
        owner_id: Set(complaint.owner_id.clone()),
        escalation_level: Set(complaint.level),
        tier: Set(complaint.tier.into()),
        allowed_micros: Set(micros(complaint.clock.allowed)),
        floor_micros: Set(micros(complaint.clock.floor)),
        elapsed_micros: Set(micros(complaint.clock.elapsed)),
        running_since: Set(complaint.clock.running_since.map(Timestamp::as_microsecond)),
        due_time: Set(or_never(complaint.due)),
        sweep_time: Set(or_never(complaint.sweep)),
        swept: Set(match complaint.swept {
            Swept::Nothing => 0,
            Swept::Escalated => 1,
            Swept::Breached => 2,
        }),
        breached: Set(complaint.breached),
        answer: Set(complaint.answer.clone()),
        customer_word: Set(complaint.customer_word.into()),
        update_time: Set(complaint.update_time.as_microsecond()),
        revision: Set(complaint.revision),
    }
}

/// Locks the customer's row, making it where there is none yet; the tier as last followed.
pub(crate) async fn lock_customer(tx: &Tx<'_>, id: Uuid) -> Result<Tier> {
    let text =
        "INSERT INTO customer (customer_id, tier, revision) VALUES ($1, 0, 0) ON CONFLICT (customer_id) DO NOTHING";
    tx.execute_raw(sql(&**tx, text, [id.into()])).await?;
    let row = customer::Entity::find_by_id(id).lock_exclusive().one(&**tx).await?;
    let row = row.ok_or_else(|| Error::Internal("a customer's row vanished under its lock".to_owned()))?;
    Ok(Tier::try_from(row.tier).unwrap_or_default())
}

/// Locks a complaint, its customer's row first; the complaint and the customer's tier.
///
/// # Errors
/// `NotFound`; `Database`.
pub(crate) async fn lock(tx: &Tx<'_>, id: Uuid) -> Result<(Complaint, Tier)> {
    let missing = || Error::not_found("complaint", id);
    // A complaint never moves to another customer, so this much can be read without a lock.
    let customer_id: Option<Uuid> = complaint::Entity::find_by_id(id)
        .select_only()
        .column(complaint::Column::CustomerId)
        .into_tuple()
        .one(&**tx)
        .await?;
    let tier = lock_customer(tx, customer_id.ok_or_else(missing)?).await?;
    let row = complaint::Entity::find_by_id(id).lock_exclusive().one(&**tx).await?;
    Ok((row.ok_or_else(missing)?.try_into()?, tier))
}

/// Writes a new complaint and its first step.
pub(crate) async fn insert(tx: &Tx<'_>, complaint: &Complaint, step: &Step) -> Result<()> {
    let row = complaint::ActiveModel {
        complaint_id: Set(complaint.id),
        customer_id: Set(complaint.customer_id),
        cause_id: Set(complaint.cause_id.clone()),
        description: Set(complaint.description.clone()),
        create_time: Set(complaint.create_time.as_microsecond()),
        ..changed(complaint)
    };
    complaint::Entity::insert(row).exec_without_returning(&**tx).await?;
    insert_step(tx, step).await
}

/// Writes a changed complaint and the step that changed it.
pub(crate) async fn update(tx: &Tx<'_>, complaint: &Complaint, step: &Step) -> Result<()> {
    let done = complaint::Entity::update_many()
        .set(changed(complaint))
        .filter(complaint::Column::ComplaintId.eq(complaint.id))
        .exec(&**tx)
        .await?;
    if done.rows_affected != 1 {
        return Err(Error::Internal("a complaint vanished under its lock".to_owned()));
    }
    insert_step(tx, step).await
}

async fn insert_step(tx: &Tx<'_>, step: &Step) -> Result<()> {
    let row = step::ActiveModel {
        complaint_id: Set(step.complaint_id),
        number: Set(step.number),
        time: Set(step.time.as_microsecond()),
        action: Set(step.action.clone()),
        state: Set(step.state.into()),
        actor_id: Set(step.actor_id.clone()),
        owner_id: Set(step.owner_id.clone()),
        note: Set(step.note.clone()),
    };
    step::Entity::insert(row).exec_without_returning(&**tx).await?;
    Ok(())
}

fn open() -> sea_orm::sea_query::SimpleExpr {
    complaint::Column::State.is_in(ComplaintState::ALL_OPEN.map(i32::from))
}

/// Complaints of a customer that are open. Right only under the lock of the customer's row.
pub(crate) async fn count_open(tx: &Tx<'_>, customer_id: Uuid) -> Result<i32> {
    let find = complaint::Entity::find().filter(complaint::Column::CustomerId.eq(customer_id)).filter(open());
    Ok(i32::try_from(find.count(&**tx).await?).unwrap_or(i32::MAX))
}

/// A complaint with its last steps, oldest first, as of one moment.
///
/// # Errors
/// `NotFound`; `Database`.
pub(crate) async fn get(tx: &DatabaseTransaction, id: Uuid) -> Result<(Complaint, Vec<Step>)> {
    let row = complaint::Entity::find_by_id(id).one(tx).await?.ok_or_else(|| Error::not_found("complaint", id))?;
    let rows = step::Entity::find()
        .filter(step::Column::ComplaintId.eq(id))
        .order_by_desc(step::Column::Number)
        .limit(MAX_STEPS)
        .all(tx)
        .await?;
    let steps = rows.into_iter().rev().map(|row| {
        Ok(Step {
            complaint_id: id,
            number: row.number,
            time: at_micros(row.time),
            action: row.action,
            state: ComplaintState::try_from(row.state).map_err(|_| broken("state in a step", id))?,
            actor_id: row.actor_id,
            owner_id: row.owner_id,
            note: row.note,
        })
    });
    Ok((row.try_into()?, steps.collect::<Result<_>>()?))
}

/// What a list is narrowed to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) states: Vec<ComplaintState>,
    pub(crate) owner_id: Option<String>,
    pub(crate) customer_id: Option<Uuid>,
    pub(crate) due_before: Option<Timestamp>,
}

/// Where a complaint stands in the list: by due time, then by id.
pub(crate) type ListKey = (i64, Uuid);

/// The key of a complaint in the list.
pub(crate) fn list_key(complaint: &Complaint) -> ListKey {
    (or_never(complaint.due), complaint.id)
}

/// Complaints after a key, soonest due first, those whose clock stands last.
pub(crate) async fn list<C: ConnectionTrait>(
    connection: &C,
    filter: &Filter,
    after: Option<ListKey>,
    limit: u64,
) -> Result<Vec<Complaint>> {
    use complaint::Column;
    let mut wanted = Condition::all()
        .add_option(filter.owner_id.as_ref().map(|owner| Column::OwnerId.eq(owner)))
        .add_option(filter.customer_id.map(|customer| Column::CustomerId.eq(customer)))
        .add_option(filter.due_before.map(|before| Column::DueTime.lt(before.as_microsecond())));
    if !filter.states.is_empty() {
        wanted = wanted.add(Column::State.is_in(filter.states.iter().map(|state| i32::from(*state))));
    }
    if let Some((due, id)) = after {
        wanted = wanted
            .add(Column::DueTime.gte(due))
            .add(Condition::any().add(Column::DueTime.gt(due)).add(Column::ComplaintId.gt(id)));
    }
    let rows = complaint::Entity::find()
        .filter(wanted)
        .order_by_asc(Column::DueTime)
        .order_by_asc(Column::ComplaintId)
        .limit(limit)
        .all(connection)
        .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Where the sweep stands: by the time to act, then by id.
pub(crate) type SweepKey = (i64, Uuid);

/// Complaints whose time to act has come, after a key.
pub(crate) async fn to_sweep<C: ConnectionTrait>(
    connection: &C,
    now: Timestamp,
    after: Option<SweepKey>,
    limit: u64,
) -> Result<Vec<SweepKey>> {
    use complaint::Column;
    let mut wanted = Condition::all().add(Column::SweepTime.lte(now.as_microsecond()));
    if let Some((time, id)) = after {
        wanted = wanted
            .add(Column::SweepTime.gte(time))
            .add(Condition::any().add(Column::SweepTime.gt(time)).add(Column::ComplaintId.gt(id)));
    }
    let rows = complaint::Entity::find()
        .select_only()
        .column(Column::SweepTime)
        .column(Column::ComplaintId)
        .filter(wanted)
        .order_by_asc(Column::SweepTime)
        .order_by_asc(Column::ComplaintId)
        .limit(limit)
        .into_tuple()
        .all(connection)
        .await?;
    Ok(rows)
}

/// One page of the feed's snapshot: complaints by customer, with the customer's count of open ones; whole customers, so that the page ends
/// between two keys of the feed. At least `limit` complaints, unless those are the last.
pub(crate) async fn snapshot(
    tx: &DatabaseTransaction,
    after: Option<Uuid>,
    limit: u64,
) -> Result<Vec<(Complaint, i32)>> {
    use complaint::Column;
    let behind = Condition::all().add_option(after.map(|after| Column::CustomerId.gt(after)));
    let last: Option<Uuid> = complaint::Entity::find()
        .select_only()
        .column(Column::CustomerId)
        .filter(behind.clone())
        .order_by_asc(Column::CustomerId)
        .offset(limit.saturating_sub(1))
        .limit(1)
        .into_tuple()
        .one(tx)
        .await?;
    let rows = complaint::Entity::find()
        .filter(behind.add_option(last.map(|last| Column::CustomerId.lte(last))))
        .order_by_asc(Column::CustomerId)
        .order_by_asc(Column::ComplaintId)
        .all(tx)
        .await?;
    let complaints = rows.into_iter().map(Complaint::try_from).collect::<Result<Vec<_>>>()?;
    let mut counts = BTreeMap::<Uuid, i32>::new();
    for complaint in complaints.iter().filter(|complaint| complaint.state.is_open()) {
        *counts.entry(complaint.customer_id).or_default() += 1;
    }
    let count = |complaint: &Complaint| counts.get(&complaint.customer_id).copied().unwrap_or(0);
    Ok(complaints
        .into_iter()
        .map(|complaint| {
            let open = count(&complaint);
            (complaint, open)
        })
        .collect())
}

const TIERS: Kept<3> = Kept {
    table: "customer",
    key: "customer_id",
    revision: "revision",
    columns: &["tier", "revision"],
    shows_revision: false,
};

/// Keeps what scoring announced of tiers, and locks those customers' rows; the customers whose row changed.
pub(crate) async fn put_tiers(tx: &Tx<'_>, news: &BTreeMap<Uuid, Newest<'_, Tier>>) -> Result<Vec<Uuid>> {
    let row = |id: Uuid, news: &Newest<'_, Tier>| [id.into(), i32::from(news.item).into(), news.revision.into()];
    Ok(TIERS.put(tx, news, row).await?.into_iter().collect())
}

/// Locks the open complaints of customers whose rows are locked.
pub(crate) async fn lock_open_of(tx: &Tx<'_>, customers: &[Uuid]) -> Result<Vec<Complaint>> {
    let mut found = Vec::new();
    for chunk in customers.chunks(CUSTOMERS_PER_STATEMENT) {
        let rows = complaint::Entity::find()
            .filter(complaint::Column::CustomerId.is_in(chunk.iter().copied()))
            .filter(open())
            .order_by_asc(complaint::Column::CustomerId)
            .order_by_asc(complaint::Column::ComplaintId)
            .lock_exclusive()
            .all(&**tx)
            .await?;
        for row in rows {
            found.push(row.try_into()?);
        }
    }
    Ok(found)
}

/// Whether there is such a cause. Causes are never taken away.
pub(crate) async fn has_cause<C: ConnectionTrait>(connection: &C, id: &str) -> Result<bool> {
    Ok(cause::Entity::find_by_id(id).one(connection).await?.is_some())
}

/// All causes, by id.
pub(crate) async fn causes<C: ConnectionTrait>(connection: &C) -> Result<Vec<Cause>> {
    Ok(cause::Entity::find().order_by_asc(cause::Column::CauseId).all(connection).await?)
}

/// Makes the transaction the only one that adds causes, so that their number can be limited.
pub(crate) async fn lock_causes(tx: &Tx<'_>) -> Result<()> {
    // The migration puts this one in and nothing takes it away.
    cause::Entity::find_by_id("other").lock_exclusive().one(&**tx).await?;
    Ok(())
}

/// Writes a new cause.
pub(crate) async fn insert_cause(tx: &Tx<'_>, cause: &Cause) -> Result<()> {
    let row = cause::ActiveModel {
        cause_id: Set(cause.cause_id.clone()),
        parent_id: Set(cause.parent_id.clone()),
        display_name: Set(cause.display_name.clone()),
    };
    cause::Entity::insert(row).exec_without_returning(&**tx).await?;
    Ok(())
}
