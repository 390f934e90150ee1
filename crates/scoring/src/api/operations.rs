//! Asking for a long-running operation, and waiting for it.
use std::time::Duration;

use chassis::{Error, Result, idempotency, parse::Check, peers};
use proto::scoring::v1 as pb;
use uuid::Uuid;

use super::Api;
use crate::{calendar, operation::Operation, store};

/// Longest wait of one call.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// How soon a waiter notices what happens at another replica.
const POLL: Duration = Duration::from_millis(500);
/// Left of the caller's deadline for the answer itself.
const ANSWER: Duration = Duration::from_millis(50);

impl Api {
    /// Puts an operation in line; the same one for the same request.
    pub(super) async fn ask_for(
        &self,
        kind: pb::OperationKind,
        rpc: &'static str,
        request_id: &str,
        request: &impl prost::Message,
        as_of: Option<&pb::Date>,
        trial: bool,
    ) -> Result<pb::Operation> {
        let now = self.context.clock.now();
        let mut check = Check::new();
        let key = &idempotency::Key::parse(&mut check, rpc, request_id, request);
        let as_of = calendar::parse(&mut check, "as_of", as_of, self.scorer.day(now));
        check.done()?;
        let request = request.encode_to_vec();
        let operation = &Operation { request, ..Operation::queued(self.context.ids.next(), kind, as_of, trial, now) };
        let first: pb::Operation = self
            .db
            .run_tx("ask_for_operation", |tx| {
                Box::pin(async move {
                    if let Some(first) = idempotency::replay(tx, key).await? {
                        return Ok(first);
                    }
                    store::operation::insert(tx, operation).await?;
                    idempotency::record(tx, key, operation.to_proto()).await
                })
            })
            .await?;
        if first.operation_id == operation.id.to_string() {
            self.news.send_modify(|news| *news = news.wrapping_add(1));
            return Ok(first);
        }
        // A replay: the same operation, as it is by now.
        let id = Uuid::parse_str(&first.operation_id).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(self.operation(id).await?.to_proto())
    }

    /// Puts a comparison with what came after in line.
    pub(super) async fn ask_to_hold_out(&self, request: &pb::HoldOutRequest) -> Result<pb::Operation> {
        let today = self.scorer.day(self.context.clock.now());
        let mut check = Check::new();
        let as_of = calendar::parse(&mut check, "as_of", request.as_of.as_ref(), today);
        match request.until.as_ref().map(calendar::find) {
            None => check.fault("until", "is required: the last day that the models are fitted on"),
            Some(None) => check.fault("until", "is not a day of the calendar from 1900 on"),
            Some(Some(until)) if until >= as_of => {
                check.fault("until", "leaves no time to hold the models against: a day before as_of is allowed");
            }
            Some(Some(_)) => {}
        }
        check.done()?;
        let kind = pb::OperationKind::HoldOut;
        self.ask_for(kind, "HoldOut", &request.request_id, request, request.as_of.as_ref(), true).await
    }

    pub(super) async fn operation(&self, id: Uuid) -> Result<Operation> {
        store::operation::find(self.db.read(), id).await?.ok_or_else(|| Error::not_found("operation", id))
    }

    /// Waits until an operation has ended or the time is over.
    pub(super) async fn wait(&self, request: pb::WaitOperationRequest) -> Result<pb::Operation> {
        let mut check = Check::new();
        let id = check.uuid("operation_id", &request.operation_id);
        let mut patience = MAX_WAIT;
        if request.timeout.is_some() {
            let asked = check.duration("timeout", request.timeout.as_ref(), 0..=60);
            patience = Duration::try_from(asked).unwrap_or(MAX_WAIT);
        }
        check.done()?;
        if let Some(left) = peers::time_left() {
            patience = patience.min(left.saturating_sub(ANSWER));
        }
        let over = tokio::time::sleep(patience);
        tokio::pin!(over);
        let mut news = self.news.subscribe();
        loop {
            news.mark_unchanged();
            let operation = self.operation(id).await?;
            if operation.is_done() {
                return Ok(operation.to_proto());
            }
            tokio::select! {
                () = &mut over => return Ok(operation.to_proto()),
                () = self.context.shutdown.cancelled() => return Ok(operation.to_proto()),
                _ = news.changed() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
}
