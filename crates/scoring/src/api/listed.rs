//! The scores of everybody, page by page.
use chassis::{Result, clock::at_micros, clock::to_proto, page::Page, parse::Check};
use proto::scoring::v1 as pb;
use uuid::Uuid;

use super::{Api, scores::Show};
use crate::store;

/// Where a page ends: the customer, and the moment that the first page took, so that all pages are of one.
type Place = (Uuid, i64);

impl Api {
    /// One page of all scores by customer id.
    pub(super) async fn all_scores(&self, mut request: pb::ListScoresRequest) -> Result<pb::ListScoresResponse> {
        let (size, token) = (std::mem::take(&mut request.page_size), std::mem::take(&mut request.page_token));
        let mut check = Check::new();
        let asked = self.as_of(&mut check, request.as_of.as_ref());
        let page = Page::<Place>::parse(&mut check, "ListScores", &request, size, 100, &token)?;
        check.done()?;
        let (after, moment) = page.after.map_or((None, None), |(after, moment)| (Some(after), Some(at_micros(moment))));
        // Settled before reading: what is recorded while it is read does not belong to this moment.
        let moment = moment.or(asked).unwrap_or_else(|| self.context.clock.now());
        let ids = store::customer::ids(self.db.read(), after, page.limit()).await?;
        // Also the first page, which knows more than the ones after it can: what clocks that differ brought lies ahead of the moment.
        let scores = self.scores(&ids, Some(moment), Show::default()).await?;
        let rows: Vec<(Uuid, pb::Score)> = ids.into_iter().zip(scores).filter_map(|(id, s)| Some((id, s?))).collect();
        let key = |row: &(Uuid, pb::Score)| (row.0, moment.as_microsecond());
        let (scores, next_page_token) = page.fill(rows, key, |(_, score)| score.clone())?;
        Ok(pb::ListScoresResponse { scores, next_page_token, as_of: Some(to_proto(moment)) })
    }
}
