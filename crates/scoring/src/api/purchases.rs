//! Recording, in one call or as a stream.
use std::{collections::HashMap, sync::Arc};

use chassis::{Error, Result};
use proto::scoring::v1 as pb;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};
use tracing::Instrument;

use super::{Api, books::Parsed};
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
/// Batches of a stream that are read ahead of those being written.
const AHEAD: usize = 2;
/// Rows of a stream that are written together at most: twice as many bring nothing, and whoever else writes waits longer.
const TOGETHER: usize = 2 * MAX_ROWS;
/// How often profiles is asked for one batch: once, as customers are never forgotten; once more in case.
pub(super) const MAX_ASKED: usize = 2;

impl Api {
    /// Records one batch.
    pub(super) async fn record(&self, rows: Vec<pb::Purchase>) -> Result<(pb::PurchaseCounts, Vec<Refusal>)> {
        self.write_batch(self.parse("purchases", rows.into_iter(), 0, Purchase::parse)?).await
    }

    async fn write_batch(&self, batch: Parsed<Purchase>) -> Result<(pb::PurchaseCounts, Vec<Refusal>)> {
        let Parsed { sound, mut refused } = batch;
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

    /// Records batch after batch in their order. While some are written the next ones are read, and those that wait then are written together: a
    /// customer of several rows is then judged once.
    pub(super) async fn record_stream(
        &self,
        batches: Streaming<pb::StreamPurchasesRequest>,
    ) -> Result<pb::StreamPurchasesResponse, Status> {
        let (ahead, waiting) = mpsc::channel(AHEAD);
        // In a task of its own, on another core. What was read before an error is written all the same; what cannot be written ends the reading.
        let reading = tokio::spawn(self.clone().read_batches(batches, ahead).in_current_span());
        let reading = AbortOnDropHandle::new(reading);
        let response = self.write_batches(waiting).await?;
        let read = reading.await.map_err(|error| Error::Internal(format!("reading a stream broke off: {error}")))?;
        read.map(|()| response)
    }

    async fn read_batches(
        self,
        mut batches: Streaming<pb::StreamPurchasesRequest>,
        ahead: mpsc::Sender<Parsed<Purchase>>,
    ) -> Result<(), Status> {
        let mut first = 0_usize;
        while let Some(batch) = batches.message().await? {
            let rows = batch.purchases.len();
            let batch = self.parse("purchases", batch.purchases.into_iter(), first, Purchase::parse)?;
            first = first.saturating_add(rows);
            if ahead.send(batch).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn write_batches(
        &self,
        mut waiting: mpsc::Receiver<Parsed<Purchase>>,
    ) -> Result<pb::StreamPurchasesResponse, Status> {
        let mut counts = pb::PurchaseCounts::default();
        let mut rejections = Vec::new();
        while let Some(mut batch) = waiting.recv().await {
            while batch.sound.len() + MAX_ROWS <= TOGETHER {
                // A chance for whatever has arrived to be read first.
                tokio::task::yield_now().await;
                let Ok(next) = waiting.try_recv() else { break };
                batch.sound.extend(next.sound);
                batch.refused.extend(next.refused);
            }
            let (recorded, refusals) = self.write_batch(batch).await?;
            counts.add(&recorded);
            let room = MAX_LISTED.saturating_sub(rejections.len());
            rejections.extend(refusals.iter().take(room).map(rejection));
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
