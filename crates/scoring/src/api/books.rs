//! Recording what is no purchase: costs of serving customers, and payments.
use std::{collections::HashMap, sync::Arc};

use chassis::{Error, Result, parse::Check};
use jiff::Timestamp;
use proto::scoring::v1 as pb;

use super::{Api, purchases::MAX_ASKED};
use crate::{
    follow,
    ledger::{self, Call, Recorded},
    payment::Payment,
    row::{MAX_ROWS, Refusal, Rules},
    service_cost::ServiceCost,
    store::rows::Stored,
};

/// The rows of a batch that are sound, each with its index, and those that are refused.
pub(super) struct Parsed<R> {
    pub(super) sound: Vec<(usize, R)>,
    pub(super) refused: Vec<Refusal>,
}

type Reply = (Option<pb::RowCounts>, Vec<pb::RowRejection>);

impl Api {
    pub(super) async fn record_costs(
        &self,
        request: &pb::RecordServiceCostsRequest,
    ) -> Result<pb::RecordServiceCostsResponse> {
        let parsed = self.parse("costs", request.costs.iter(), 0, ServiceCost::parse)?;
        let (counts, rejections) = self.record_rows("record_service_costs", "costs", parsed).await?;
        Ok(pb::RecordServiceCostsResponse { counts, rejections })
    }

    pub(super) async fn record_payments(
        &self,
        request: &pb::RecordPaymentsRequest,
    ) -> Result<pb::RecordPaymentsResponse> {
        let parsed = self.parse("payments", request.payments.iter(), 0, Payment::parse)?;
        let (counts, rejections) = self.record_rows("record_payments", "payments", parsed).await?;
        Ok(pb::RecordPaymentsResponse { counts, rejections })
    }

    /// Reads one batch; `first` is the number of its first row within the call.
    pub(super) fn parse<P, R>(
        &self,
        list: &str,
        rows: impl ExactSizeIterator<Item = P>,
        first: usize,
        parse: impl Fn(P, usize, &Rules, Timestamp) -> Result<R, Refusal>,
    ) -> Result<Parsed<R>> {
        let mut check = Check::new();
        check.count(list, rows.len(), 1..=MAX_ROWS);
        check.done()?;
        let now = self.context.clock.now();
        let mut parsed = Parsed { sound: Vec::with_capacity(rows.len()), refused: Vec::new() };
        for (index, row) in (first..).zip(rows) {
            match parse(row, index, &self.rules, now) {
                Ok(row) => parsed.sound.push((index, row)),
                Err(refusal) => parsed.refused.push(refusal),
            }
        }
        Ok(parsed)
    }

    async fn record_rows<R: Stored<N> + 'static, const N: usize>(
        &self,
        rpc: &'static str,
        list: &str,
        Parsed { sound, mut refused }: Parsed<R>,
    ) -> Result<Reply> {
        let mut counts = pb::RowCounts::default();
        if !sound.is_empty() {
            let mut call = Call { rows: Arc::new(sound), asked: HashMap::new(), span: tracing::Span::current() };
            let mut asked = 0;
            let (done, refusals) = loop {
                let this = &call;
                let record = self.db.run_tx(rpc, |tx| Box::pin(ledger::record_others(tx, &self.scorer, this)));
                match record.await? {
                    Recorded::Done { counts, refusals } => break (counts, refusals),
                    Recorded::Ask(_) if asked == MAX_ASKED => {
                        return Err(Error::Internal("profiles was asked for a batch again and again".to_owned()));
                    }
                    // Outside of the transaction: nobody waits for a peer with rows locked.
                    Recorded::Ask(ids) => call.asked.extend(follow::ask(self.profiles.clone(), &ids).await?),
                }
                asked += 1;
            };
            (counts.recorded, counts.replaced, counts.unchanged) = (done.recorded, done.replaced, done.unchanged);
            counts.moved = done.moved;
            refused.extend(refusals);
            refused.sort_by_key(|refusal| refusal.index);
        }
        counts.rejected = i64::try_from(refused.len()).unwrap_or(i64::MAX);
        Ok((Some(counts), refused.iter().map(|refusal| refusal.to_proto(list)).collect()))
    }
}
