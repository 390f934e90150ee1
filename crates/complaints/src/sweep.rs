//! What the clock does by itself: escalates cases before the breach, and marks the breach.
//!
//! Any number of replicas may sweep at once: each case is decided under the lock of its row, and what has been done is in the row.
use chassis::{Db, Result, db::BoxFuture};

use crate::{
    api,
    complaint::{Present, Rules},
    store,
};

/// Cases found at a time: bounds memory after a long standstill, when many are due at once.
const PAGE: u64 = 500;

/// Looks once for the cases whose time has come and deals with each in a transaction of its own; the number of cases that it changed. A case
/// that cannot be dealt with does not keep the others waiting.
///
/// # Errors
/// The first error, after all cases were tried.
pub async fn run(db: &Db, rules: &Rules) -> Result<u64> {
    let now = db.clock().now();
    let mut changed = 0;
    let mut failed = Ok(());
    let mut after = None;
    loop {
        let page = store::to_sweep(db.read(), now, after, PAGE).await?;
        for (_, id) in &page {
            let id = *id;
            let swept = db
                .run_tx("sweep_complaint", |tx| -> BoxFuture<'_, Result<bool>> {
                    Box::pin(async move {
                        let (complaint, tier) = store::lock(tx, id).await?;
                        // Another replica, or a person, may have been faster.
                        let present = Present { now: tx.clock().now(), tier, rules };
                        let Some((complaint, step)) = complaint.sweep(&present) else { return Ok(false) };
                        api::save(tx, &complaint, &step, rules).await?;
                        Ok(true)
                    })
                })
                .await;
            match swept {
                Ok(swept) => changed += u64::from(swept),
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        match page.last() {
            Some(last) if page.len() as u64 == PAGE => after = Some(*last),
            _ => break,
        }
    }
    failed.map(|()| changed)
}
