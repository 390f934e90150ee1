//! Recording, in one call or as a stream.
use std::{collections::HashMap, sync::Arc};

use chassis::{Error, Result, parse::Check};
use proto::scoring::v1 as pb;
use tonic::{Status, Streaming};

use super::Api;
use crate::{
    follow,
    ledger::{self, Call, Recorded},
    purchase::Purchase,
    row::{MAX_ROWS, Refusal},
};

/// Up to so many rows, a call shares its commit with others: above, it is worth one of its own, and those that wait behind it stay few.
const SMALL: usize = 8;
/// Refused rows that the answer to a stream lists: a caller mends a few at a time.
const MAX_LISTED: usize = 1_000;
/// How often profiles is asked for one batch: once, as customers are never forgotten; once more in case.
pub(super) const MAX_ASKED: usize = 2;

impl Api {
    /// Records one batch; `first` is the number of its first row within the call.
    pub(super) async fn record(
        &self,
        rows: Vec<pb::Purchase>,
        first: i64,
    ) -> Result<(pb::PurchaseCounts, Vec<Refusal>)> {
        let mut check = Check::new();
        check.count("purchases", rows.len(), 1..=MAX_ROWS);
        check.done()?;
        let now = self.context.clock.now();
        let offset = usize::try_from(first).unwrap_or(usize::MAX);
        let mut sound = Vec::with_capacity(rows.len());
        let mut refused = Vec::new();
        for (row, index) in rows.into_iter().zip(offset..) {
            match Purchase::parse(row, index, &self.rules, now) {
                Ok(purchase) => sound.push((index, purchase)),
                Err(refusal) => refused.push(refusal),
            }
        }
        let parsed = i64::try_from(refused.len()).unwrap_or(i64::MAX);
        let mut counts = pb::PurchaseCounts { rejected: parsed, ..Default::default() };
        if !sound.is_empty() {
            let (recorded, refusals) = self.write(sound).await?;
            counts.add(&recorded);
            refused.extend(refusals);
            refused.sort_by_key(|refusal| refusal.index);
        }
        Ok((counts, refused))
    }

    async fn write(&self, rows: Vec<(usize, Purchase)>) -> Result<(pb::PurchaseCounts, Vec<Refusal>)> {
        let mut call = Call { rows: Arc::new(rows), asked: HashMap::new(), span: tracing::Span::current() };
        for _ in 0..=MAX_ASKED {
            let recorded = if call.rows.len() <= SMALL {
                self.batcher.submit(call.clone()).await?
            } else {
                let calls = std::slice::from_ref(&call);
                let mut results =
                    self.db.run_tx("record_purchases", |tx| Box::pin(ledger::record(tx, &self.scorer, calls))).await?;
                results.pop().ok_or_else(|| Error::Internal("a batch without a result".to_owned()))?
            };
            match recorded {
                Recorded::Done { counts, refusals } => return Ok((counts, refusals)),
                // Outside of the transaction: nobody waits for a peer with rows locked.
                Recorded::Ask(ids) => call.asked.extend(follow::ask(self.profiles.clone(), &ids).await?),
            }
        }
        Err(Error::Internal("profiles was asked for a batch again and again".to_owned()))
    }

    /// Records batch after batch, each by itself.
    pub(super) async fn record_stream(
        &self,
        mut batches: Streaming<pb::StreamPurchasesRequest>,
    ) -> Result<pb::StreamPurchasesResponse, Status> {
        let mut counts = pb::PurchaseCounts::default();
        let mut rejections = Vec::new();
        let mut first = 0_i64;
        while let Some(batch) = batches.message().await? {
            let rows = i64::try_from(batch.purchases.len()).unwrap_or(i64::MAX);
            let (recorded, refusals) = self.record(batch.purchases, first).await?;
            counts.add(&recorded);
            let room = MAX_LISTED.saturating_sub(rejections.len());
            rejections.extend(refusals.iter().take(room).map(rejection));
            first = first.saturating_add(rows);
        }
        Ok(pb::StreamPurchasesResponse { counts: Some(counts), rejections })
    }
}

/// A refused row as protobuf has it.
pub(super) fn rejection(refusal: &Refusal) -> pb::PurchaseRejection {
    let pb::RowRejection { index, reason, message } = refusal.to_proto("purchases");
    pb::PurchaseRejection { index, reason, message }
}

trait Add {
    fn add(&mut self, other: &Self);
}

impl Add for pb::PurchaseCounts {
    fn add(&mut self, other: &Self) {
        self.recorded += other.recorded;
        self.replaced += other.replaced;
        self.unchanged += other.unchanged;
        self.rejected += other.rejected;
        self.moved += other.moved;
    }
}
