//! The sweep: finds who crossed a threshold by mere silence and announces them.
//!
//! A standing follows from the customer, the models and the day, so everybody need be looked at once a day, and after a change of models or
//! cut-offs; purchases and rankings announce for themselves.
use std::sync::Arc;

use chassis::{Db, Result};
use proto::scoring::v1 as pb;

use crate::{in_force::Scorer, standing, store};

/// Goes through everybody unless that was done for this day and these models. With two replicas both may do it; nothing is announced twice.
///
/// # Errors
/// `Database`.
pub async fn run(db: &Db, scorer: &Arc<Scorer>) -> Result<()> {
    let version = store::in_force::version(db.read()).await?;
    let today = scorer.day(db.clock().now());
    if store::in_force::swept(db.read()).await? == (version, today) {
        return Ok(());
    }
    store::writers::gone(db).await?;
    let changed = standing::restate_all(db, scorer, pb::ChangeCause::Silence, |_| {}).await?;
    db.run_tx("end_sweep", |tx| Box::pin(store::in_force::set_swept(tx, version, today))).await?;
    tracing::info!(changed, "swept");
    Ok(())
}
