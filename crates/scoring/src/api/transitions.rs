//! Moves between states.
use chassis::{Result, parse::Check};
use proto::scoring::v1 as pb;

use super::Api;
use crate::{calendar, store, transition::Period};

impl Api {
    /// What happened from the start of one day of the business to the start of another.
    pub(super) async fn transitions(&self, request: &pb::GetTransitionsRequest) -> Result<pb::GetTransitionsResponse> {
        let now = self.context.clock.now();
        let today = self.scorer.day(now);
        let mut check = Check::new();
        let from = request.from.as_ref().map(|from| calendar::parse(&mut check, "from", Some(from), today));
        let to = request.to.as_ref().map(|to| calendar::parse(&mut check, "to", Some(to), calendar::LAST_DAY));
        check.done()?;
        // The day after the last one: where that is today, tomorrow.
        let out_of_place = to.is_some_and(|to| to < from.unwrap_or(to) || to > today.saturating_add(1));
        check.require(
            !out_of_place,
            "to",
            "must be `from` (an empty period) or a later day, and tomorrow at the latest",
        );
        check.done()?;

        // In one transaction: a customer who moved in between would stand in two places.
        let tx = self.db.read_tx().await?;
        let first_record = store::transition::first(&tx).await?;
        let calendar = &self.scorer.calendar;
        let start = from.map_or_else(|| first_record.unwrap_or(now), |day| calendar.start(day));
        // What is committed while this is read may be of this very moment: now belongs to a period that is still open.
        let end = to.map_or(now + jiff::SignedDuration::from_micros(1), |day| calendar.start(day));
        let range = start..end.max(start);
        let customers = store::transition::ends(&tx, &range).await?;
        let moves = store::transition::moves(&tx, &range).await?;
        tx.commit().await?;
        Ok(Period { range, first_record, customers, moves }.to_proto())
    }
}
