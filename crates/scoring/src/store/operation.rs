//! `operation`: what runs long.
use chassis::{
    Result, Tx,
    clock::at_micros,
    db::{Columns, sql},
};
use proto::{common::v1::ErrorReason, scoring::v1 as pb};
use sea_orm::{ConnectionTrait, QueryResult};
use uuid::Uuid;

use crate::operation::{Operation, Outcome, Progress};

const COLUMNS: &str = "operation_id, kind, state, as_of_day, trial, done, total, phase, create_time, end_time, \
                       error_reason, error_message, result, request";

fn read(row: &QueryResult) -> Result<Operation> {
    let mut columns = Columns::of(row);
    let id = columns.take()?;
    let kind = pb::OperationKind::try_from(columns.narrow::<i32>()?).unwrap_or_default();
    let state = pb::OperationState::try_from(columns.narrow::<i32>()?).unwrap_or_default();
    let as_of = columns.narrow()?;
    let trial = columns.take()?;
    let progress = Progress { done: columns.take()?, total: columns.take()?, phase: columns.take::<String>()?.into() };
    let create_time = at_micros(columns.take()?);
    let end_time = columns.take::<Option<i64>>()?.map(at_micros);
    let reason: Option<i64> = columns.take()?;
    let message: Option<String> = columns.take()?;
    let result: Option<Vec<u8>> = columns.take()?;
    let request = columns.take::<Option<Vec<u8>>>()?.unwrap_or_default();
    let outcome = match (reason, result) {
        (Some(reason), _) => {
            let reason = i32::try_from(reason).ok().and_then(|reason| ErrorReason::try_from(reason).ok());
            Some(Outcome::Failed(reason.unwrap_or(ErrorReason::Internal), message.unwrap_or_default()))
        }
        (None, Some(result)) => Some(Outcome::decode(kind, &result)?),
        (None, None) => None,
    };
    Ok(Operation { id, kind, state, as_of, trial, request, progress, create_time, end_time, outcome })
}

/// Puts an operation in line.
pub async fn insert(tx: &Tx<'_>, operation: &Operation) -> Result<()> {
    let text = "INSERT INTO operation (operation_id, kind, state, as_of_day, trial, done, total, phase, create_time, held_until, request) \
                VALUES ($1, $2, $3, $4, $5, 0, 0, $6, $7, 0, $8)";
    let values = [
        operation.id.into(),
        i64::from(i32::from(operation.kind)).into(),
        i64::from(i32::from(operation.state)).into(),
        i64::from(operation.as_of).into(),
        operation.trial.into(),
        operation.progress.phase.as_ref().into(),
        operation.create_time.as_microsecond().into(),
        operation.request.clone().into(),
    ];
    tx.execute_raw(sql(&**tx, text, values)).await?;
    Ok(())
}

/// An operation as it is now.
pub async fn find<C: ConnectionTrait>(connection: &C, id: Uuid) -> Result<Option<Operation>> {
    let text = format!("SELECT {COLUMNS} FROM operation WHERE operation_id = $1");
    let row = connection.query_one_raw(sql(connection, text, [id.into()])).await?;
    row.as_ref().map(read).transpose()
}

/// One page of operations, newest first: their ids grow with time.
pub async fn list<C: ConnectionTrait>(connection: &C, after: Option<Uuid>, limit: u64) -> Result<Vec<Operation>> {
    let text = format!("SELECT {COLUMNS} FROM operation WHERE operation_id < $1 ORDER BY operation_id DESC LIMIT $2");
    let values = [after.unwrap_or(Uuid::max()).into(), i64::try_from(limit).unwrap_or(i64::MAX).into()];
    connection.query_all_raw(sql(connection, text, values)).await?.iter().map(read).collect()
}

/// Who runs an operation, and until when the others keep off.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// The replica.
    pub holder: Uuid,
    /// Now, and when the lease ends if it is not renewed, in microseconds.
    pub now: i64,
    /// See `now`.
    pub until: i64,
}

/// Whether any operation waits or runs: what an idle replica looks at.
pub async fn any_open<C: ConnectionTrait>(connection: &C) -> Result<bool> {
    let text = "SELECT operation_id FROM operation WHERE state IN (1, 2) LIMIT 1";
    Ok(connection.query_one_raw(sql(connection, text, [])).await?.is_some())
}

/// Takes the operation that is first in line, unless another replica runs it. Only the first one is ever taken, so one at most runs.
pub async fn claim(tx: &Tx<'_>, lease: Lease) -> Result<Option<Operation>> {
    let text = format!("SELECT {COLUMNS} FROM operation WHERE state IN (1, 2) ORDER BY operation_id LIMIT 1");
    let Some(row) = tx.query_one_raw(sql(&**tx, text, [])).await? else { return Ok(None) };
    let operation = read(&row)?;
    // An end that no honest clock could have written yet comes from a clock that jumped back since.
    let absurd = lease.until.saturating_add(lease.until - lease.now);
    let text = "UPDATE operation SET state = 2, holder = $1, held_until = $2 WHERE operation_id = $3 AND state IN (1, 2) \
                AND (held_until <= $4 OR held_until > $5 OR holder = $1)";
    let values =
        [lease.holder.to_string().into(), lease.until.into(), operation.id.into(), lease.now.into(), absurd.into()];
    let taken = tx.execute_raw(sql(&**tx, text, values)).await?.rows_affected() == 1;
    Ok(taken.then_some(Operation { state: pb::OperationState::Running, ..operation }))
}

/// Writes how far an operation is and renews the lease; false where another replica has taken over.
pub async fn renew(tx: &Tx<'_>, id: Uuid, lease: Lease, progress: &Progress) -> Result<bool> {
    let text = "UPDATE operation SET held_until = $1, done = $2, total = $3, phase = $4 \
                WHERE operation_id = $5 AND holder = $6 AND state = 2";
    let values = [
        lease.until.into(),
        progress.done.into(),
        progress.total.into(),
        progress.phase.as_ref().into(),
        id.into(),
        lease.holder.to_string().into(),
    ];
    Ok(tx.execute_raw(sql(&**tx, text, values)).await?.rows_affected() == 1)
}

/// Whether this replica still runs the operation; locks its row, so that this stays true to the end of the transaction.
pub async fn is_held(tx: &Tx<'_>, id: Uuid, holder: Uuid) -> Result<bool> {
    let text = format!(
        "SELECT operation_id FROM operation WHERE operation_id = $1 AND holder = $2 AND state = 2{}",
        tx.for_update()
    );
    Ok(tx.query_one_raw(sql(&**tx, text, [id.into(), holder.to_string().into()])).await?.is_some())
}

/// Ends an operation; false where another replica has taken over.
pub async fn end(tx: &Tx<'_>, id: Uuid, holder: Uuid, outcome: &Outcome) -> Result<bool> {
    let (state, reason, message, result) = match outcome {
        Outcome::Failed(reason, message) => {
            (pb::OperationState::Failed, Some(i64::from(i32::from(*reason))), Some(message.clone()), None)
        }
        done => (pb::OperationState::Succeeded, None, None, Some(done.encode())),
    };
    let text = "UPDATE operation SET state = $1, error_reason = $2, error_message = $3, result = $4, end_time = $5, \
                held_until = 0, phase = '', done = CASE WHEN total > done THEN total ELSE done END \
                WHERE operation_id = $6 AND holder = $7 AND state = 2";
    let values = [
        i64::from(i32::from(state)).into(),
        reason.into(),
        message.into(),
        result.into(),
        tx.clock().now_micros().into(),
        id.into(),
        holder.to_string().into(),
    ];
    Ok(tx.execute_raw(sql(&**tx, text, values)).await?.rows_affected() == 1)
}

/// Puts an operation back in line: the next replica need not wait for the lease to run out.
pub async fn release(tx: &Tx<'_>, id: Uuid, holder: Uuid) -> Result<()> {
    let text = "UPDATE operation SET state = 1, held_until = 0 WHERE operation_id = $1 AND holder = $2 AND state = 2";
    tx.execute_raw(sql(&**tx, text, [id.into(), holder.to_string().into()])).await?;
    Ok(())
}
