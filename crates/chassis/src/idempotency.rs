//! Makes a mutation safe to send twice: the first reply is kept under the caller's `request_id`, in the transaction that did the work.
use prost::Message;
use sea_orm::{ConnectionTrait, TryGetable};
use sha2::{Digest, Sha256};

use crate::{
    db::{Db, Tx, sql},
    error::{Error, Result},
    parse::{Check, REQUEST_ID_CHARS},
};

/// How long replies are kept: longer than any sensible caller goes on retrying, a weekend included.
pub const RETENTION_MICROS: i64 = 7 * 24 * 3600 * 1_000_000;
/// Replies dropped in one transaction at most: writers wait meanwhile.
const FORGET: i64 = 5_000;

/// One request, recognised when it comes again.
#[derive(Clone, Debug)]
pub struct Key {
    rpc: &'static str,
    request_id: String,
    fingerprint: Vec<u8>,
}

impl Key {
    /// Parses the `request_id` of `request`; the whole request is its fingerprint.
    pub fn parse(check: &mut Check, rpc: &'static str, request_id: &str, request: &impl Message) -> Self {
        let request_id = check.text("request_id", request_id, 1..=REQUEST_ID_CHARS);
        let fingerprint = Sha256::digest(request.encode_to_vec()).to_vec();
        Self { rpc, request_id, fingerprint }
    }
}

/// The first reply, if this request was done before. If not, the request is claimed for this transaction: another call with the same id waits
/// here until this one has committed, and then finds its reply, or has rolled back, and then does the work itself. So it comes first in
/// the transaction, before anything that the work decides by; [`record`] must follow.
///
/// # Errors
/// `RequestIdReused` where the id came before with another body; `Database`.
pub async fn replay<R: Message + Default>(tx: &Tx<'_>, key: &Key) -> Result<Option<R>> {
    let text = "INSERT INTO request (rpc, request_id, fingerprint, reply, create_time) VALUES ($1, $2, $3, $4, $5) \
                ON CONFLICT (rpc, request_id) DO NOTHING";
    let values = [
        key.rpc.into(),
        key.request_id.clone().into(),
        key.fingerprint.clone().into(),
        Vec::<u8>::new().into(),
        tx.clock().now_micros().into(),
    ];
    if tx.execute_raw(sql(&**tx, text, values)).await?.rows_affected() == 1 {
        return Ok(None);
    }
    let text = "SELECT fingerprint, reply FROM request WHERE rpc = $1 AND request_id = $2";
    let row = tx.query_one_raw(sql(&**tx, text, [key.rpc.into(), key.request_id.clone().into()])).await?;
    // Forgotten in between: as good as never sent, and sent again it is done.
    let row = row.ok_or_else(|| Error::Internal(format!("kept reply of {} is gone", key.rpc)))?;
    let fingerprint = Vec::<u8>::try_get(&row, "", "fingerprint").map_err(sea_orm::DbErr::from)?;
    if fingerprint != key.fingerprint {
        return Err(Error::RequestIdReused);
    }
    let reply = Vec::<u8>::try_get(&row, "", "reply").map_err(sea_orm::DbErr::from)?;
    let reply = R::decode(&*reply).map_err(|error| Error::Internal(format!("kept reply of {}: {error}", key.rpc)))?;
    Ok(Some(reply))
}

/// Keeps the reply under the request that [`replay`] claimed, and hands it on.
///
/// # Errors
/// `Internal` where nothing was claimed; `Database`.
pub async fn record<R: Message>(tx: &Tx<'_>, key: &Key, reply: R) -> Result<R> {
    let text = "UPDATE request SET reply = $1 WHERE rpc = $2 AND request_id = $3";
    let values = [reply.encode_to_vec().into(), key.rpc.into(), key.request_id.clone().into()];
    if tx.execute_raw(sql(&**tx, text, values)).await?.rows_affected() != 1 {
        return Err(Error::Internal(format!("{}: a reply without a claim", key.rpc)));
    }
    Ok(reply)
}

/// Drops replies that are older than the retention.
///
/// # Errors
/// `Database`.
pub async fn forget_old(db: &Db) -> Result<()> {
    let before = db.clock().now_micros().saturating_sub(RETENTION_MICROS);
    loop {
        let forgotten = db
            .run_tx("forget_requests", |tx| {
                Box::pin(async move {
                    let text = "DELETE FROM request WHERE (rpc, request_id) IN \
                                (SELECT rpc, request_id FROM request WHERE create_time < $1 LIMIT $2)";
                    let done = tx.execute_raw(sql(&**tx, text, [before.into(), FORGET.into()])).await?;
                    Ok::<_, Error>(done.rows_affected())
                })
            })
            .await?;
        if forgotten < FORGET.unsigned_abs() {
            return Ok(());
        }
    }
}
