//! Every RPC: parse, run, reply. The streams and the long-running ones have files of their own.
use std::sync::Arc;

use chassis::{
    Context, Db, Error, Result,
    db::{Batcher, BoxFuture},
    feed::{self, Source},
    page::{self, Page},
    parse::Check,
    peers::Channel,
};
use futures::stream::BoxStream;
use proto::{
    common::v1::{ErrorReason, Money},
    scoring::v1::{self as pb, scoring_server::Scoring},
};
use sea_orm::DatabaseTransaction;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::{
    calendar,
    fitted::Fitted,
    in_force::Scorer,
    ledger::{Call, Recorded},
    operation::{News, Operation},
    present::Present,
    purchase::Purchase,
    row::Rules,
    segment,
    standing::TOPIC,
    store,
};

mod books;
mod listed;
mod operations;
mod purchases;
mod scores;
mod segments;
mod transitions;

use scores::Show;

/// Scores of one call.
const MAX_SCORES: usize = 1_000;

/// The RPCs.
#[derive(Clone, Debug)]
pub struct Api {
    /// The service's database.
    pub db: Db,
    /// Clock, ids, end.
    pub context: Context,
    /// What scores are computed with.
    pub scorer: Arc<Scorer>,
    /// What rows are held against.
    pub rules: Arc<Rules>,
    /// The writer of small calls.
    pub batcher: Batcher<Call, Recorded>,
    /// Finds who is asked for alone.
    pub present: Present,
    /// The way to profiles.
    pub profiles: Channel,
    /// Wakes the worker, and who waits for an operation.
    pub news: News,
    /// Wakes whoever fills segments.
    pub to_fill: segment::News,
}

impl Api {
    fn money(&self, minor_units: i64) -> Option<Money> {
        Some(Money { currency_code: self.rules.currency.clone(), minor_units })
    }
}

#[tonic::async_trait]
impl Scoring for Api {
    async fn record_purchases(
        &self,
        request: Request<pb::RecordPurchasesRequest>,
    ) -> Result<Response<pb::RecordPurchasesResponse>, Status> {
        let (counts, refusals) = self.record(request.into_inner().purchases).await?;
        let rejections = refusals.iter().map(purchases::rejection).collect();
        Ok(Response::new(pb::RecordPurchasesResponse { counts: Some(counts), rejections }))
    }

    async fn record_service_costs(
        &self,
        request: Request<pb::RecordServiceCostsRequest>,
    ) -> Result<Response<pb::RecordServiceCostsResponse>, Status> {
        Ok(Response::new(self.record_costs(&request.into_inner()).await?))
    }

    async fn record_payments(
        &self,
        request: Request<pb::RecordPaymentsRequest>,
    ) -> Result<Response<pb::RecordPaymentsResponse>, Status> {
        Ok(Response::new(self.record_payments(&request.into_inner()).await?))
    }

    async fn stream_purchases(
        &self,
        request: Request<Streaming<pb::StreamPurchasesRequest>>,
    ) -> Result<Response<pb::StreamPurchasesResponse>, Status> {
        Ok(Response::new(self.record_stream(request.into_inner()).await?))
    }

    async fn list_purchases(
        &self,
        request: Request<pb::ListPurchasesRequest>,
    ) -> Result<Response<pb::ListPurchasesResponse>, Status> {
        let mut request = request.into_inner();
        let (size, token) = (std::mem::take(&mut request.page_size), std::mem::take(&mut request.page_token));
        let mut check = Check::new();
        let customer = check.uuid("customer_id", &request.customer_id);
        let page = Page::<store::purchase::Place>::parse(&mut check, "ListPurchases", &request, size, 100, &token)?;
        check.done()?;
        let rows = store::purchase::list(self.db.read(), customer, page.after.as_ref(), page.limit()).await?;
        // After reading them: what the books are kept in does not change any more once there are rows.
        self.scorer.in_force(self.db.read()).await?;
        let key = |row: &Purchase| (row.time_us, row.source.clone(), row.purchase_id.clone());
        let (purchases, next_page_token) = page.fill(rows, key, |row| row.to_proto(&self.rules))?;
        Ok(Response::new(pb::ListPurchasesResponse { purchases, next_page_token }))
    }

    async fn fit_models(&self, request: Request<pb::FitModelsRequest>) -> Result<Response<pb::Operation>, Status> {
        let request = request.into_inner();
        let (kind, trial) = (pb::OperationKind::Fit, request.trial);
        let operation =
            self.ask_for(kind, "FitModels", &request.request_id, &request, request.as_of.as_ref(), trial).await?;
        Ok(Response::new(operation))
    }

    async fn hold_out(&self, request: Request<pb::HoldOutRequest>) -> Result<Response<pb::Operation>, Status> {
        Ok(Response::new(self.ask_to_hold_out(&request.into_inner()).await?))
    }

    async fn rank_customers(
        &self,
        request: Request<pb::RankCustomersRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        let request = request.into_inner();
        let kind = pb::OperationKind::Rank;
        let operation =
            self.ask_for(kind, "RankCustomers", &request.request_id, &request, request.as_of.as_ref(), false).await?;
        Ok(Response::new(operation))
    }

    async fn get_operation(
        &self,
        request: Request<pb::GetOperationRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        let mut check = Check::new();
        let id = check.uuid("operation_id", &request.get_ref().operation_id);
        check.done()?;
        Ok(Response::new(self.operation(id).await?.to_proto()))
    }

    async fn list_operations(
        &self,
        request: Request<pb::ListOperationsRequest>,
    ) -> Result<Response<pb::ListOperationsResponse>, Status> {
        let mut request = request.into_inner();
        let (size, token) = (std::mem::take(&mut request.page_size), std::mem::take(&mut request.page_token));
        let mut check = Check::new();
        let page = Page::<Uuid>::parse(&mut check, "ListOperations", &request, size, 50, &token)?;
        check.done()?;
        let rows = store::operation::list(self.db.read(), page.after, page.limit()).await?;
        let (operations, next_page_token) = page.fill(rows, |row| row.id, Operation::to_proto)?;
        Ok(Response::new(pb::ListOperationsResponse { operations, next_page_token }))
    }

    async fn wait_operation(
        &self,
        request: Request<pb::WaitOperationRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        Ok(Response::new(self.wait(request.into_inner()).await?))
    }

    async fn list_models(
        &self,
        request: Request<pb::ListModelsRequest>,
    ) -> Result<Response<pb::ListModelsResponse>, Status> {
        let mut request = request.into_inner();
        let (size, token) = (std::mem::take(&mut request.page_size), std::mem::take(&mut request.page_token));
        let mut check = Check::new();
        let page = Page::<Uuid>::parse(&mut check, "ListModels", &request, size, 50, &token)?;
        check.done()?;
        let rows = store::in_force::list_models(self.db.read(), page.after, page.limit()).await?;
        let in_force = store::in_force::models_in_force(self.db.read()).await?;
        let message = |row: &Fitted| row.to_proto(in_force.contains(&Some(row.id)));
        let (models, next_page_token) = page.fill(rows, |row| row.id, message)?;
        Ok(Response::new(pb::ListModelsResponse { models, next_page_token }))
    }

    async fn get_score(&self, request: Request<pb::GetScoreRequest>) -> Result<Response<pb::GetScoreResponse>, Status> {
        let request = request.into_inner();
        let mut check = Check::new();
        let id = check.uuid("customer_id", &request.customer_id);
        let as_of = self.as_of(&mut check, request.as_of.as_ref());
        check.done()?;
        let show = Show { evidence: request.with_evidence, assessment: request.with_assessment };
        let score = self.one_score(id, as_of, show).await?;
        let score = score.ok_or_else(|| Error::not_found("customer", id))?;
        Ok(Response::new(pb::GetScoreResponse { score: Some(score) }))
    }

    async fn list_scores(
        &self,
        request: Request<pb::ListScoresRequest>,
    ) -> Result<Response<pb::ListScoresResponse>, Status> {
        Ok(Response::new(self.all_scores(request.into_inner()).await?))
    }

    async fn batch_get_scores(
        &self,
        request: Request<pb::BatchGetScoresRequest>,
    ) -> Result<Response<pb::BatchGetScoresResponse>, Status> {
        let request = request.into_inner();
        let mut check = Check::new();
        check.count("customer_ids", request.customer_ids.len(), 1..=MAX_SCORES);
        check.done()?;
        let ids = request.customer_ids.iter().zip(0..);
        let ids: Vec<Uuid> = ids.map(|(id, index)| check.uuid(&format!("customer_ids[{index}]"), id)).collect();
        let as_of = self.as_of(&mut check, request.as_of.as_ref());
        check.done()?;
        let show = Show { evidence: request.with_evidence, assessment: request.with_assessment };
        let mut reply = pb::BatchGetScoresResponse::default();
        for (id, score) in ids.iter().zip(self.scores(&ids, as_of, show).await?) {
            match score {
                Some(score) => reply.scores.push(score),
                None => reply.not_found.push(id.to_string()),
            }
        }
        page::fits("customer_ids", &reply)?;
        Ok(Response::new(reply))
    }

    async fn get_pyramid(
        &self,
        request: Request<pb::GetPyramidRequest>,
    ) -> Result<Response<pb::GetPyramidResponse>, Status> {
        let mut check = Check::new();
        let basis: pb::PyramidBasis = check.known_or_default("basis", request.get_ref().basis);
        check.done()?;
        let last = store::in_force::find_ranking(self.db.read()).await?.ok_or_else(|| Error::Precondition {
            reason: ErrorReason::NoRanking,
            message: "no ranking was made yet: call RankCustomers first".to_owned(),
        })?;
        if basis != pb::PyramidBasis::Realised && last.ranking.is_realised_alone() {
            let message = "the last ranking was made without models of buying and spending and knows what was realised \
                           alone: ask for that, or call FitModels and RankCustomers first";
            return Err(Error::Precondition { reason: ErrorReason::NoModel, message: message.to_owned() }.into());
        }
        // As in ListPurchases.
        self.scorer.in_force(self.db.read()).await?;
        let (basis, tiers) = match basis {
            pb::PyramidBasis::Realised => (basis, &last.ranking.realised),
            pb::PyramidBasis::Lifetime | pb::PyramidBasis::Unspecified => {
                (pb::PyramidBasis::Lifetime, &last.ranking.lifetime)
            }
        };
        Ok(Response::new(pb::GetPyramidResponse {
            basis: basis.into(),
            tiers: self.tiers(tiers),
            as_of: Some(calendar::to_proto(last.as_of)),
            rank_time: Some(chassis::clock::to_proto(last.rank_time)),
            customers: last.customers,
        }))
    }

    async fn get_standing_counts(
        &self,
        _: Request<pb::GetStandingCountsRequest>,
    ) -> Result<Response<pb::GetStandingCountsResponse>, Status> {
        let counts = store::customer::standing_counts(self.db.read()).await?;
        Ok(Response::new(pb::GetStandingCountsResponse { counts }))
    }

    type WatchScoresStream = feed::Answers<feed::Scores>;

    async fn watch_scores(
        &self,
        request: Request<pb::WatchScoresRequest>,
    ) -> Result<Response<Self::WatchScoresStream>, Status> {
        let request = request.into_inner();
        let source = Source { db: self.db.clone(), topic: TOPIC, snapshot, shutdown: self.context.shutdown.clone() };
        let answers = feed::serve::<feed::Scores>(source, &request.cursor, request.only_new, |_| ()).await?;
        Ok(Response::new(answers))
    }

    async fn get_transitions(
        &self,
        request: Request<pb::GetTransitionsRequest>,
    ) -> Result<Response<pb::GetTransitionsResponse>, Status> {
        Ok(Response::new(self.transitions(&request.into_inner()).await?))
    }

    async fn create_segment(
        &self,
        request: Request<pb::CreateSegmentRequest>,
    ) -> Result<Response<pb::CreateSegmentResponse>, Status> {
        Ok(Response::new(self.new_segment(request.into_inner()).await?))
    }

    async fn get_segment(
        &self,
        request: Request<pb::GetSegmentRequest>,
    ) -> Result<Response<pb::GetSegmentResponse>, Status> {
        Ok(Response::new(self.show_segment(&request.into_inner()).await?))
    }

    async fn list_segments(
        &self,
        _: Request<pb::ListSegmentsRequest>,
    ) -> Result<Response<pb::ListSegmentsResponse>, Status> {
        Ok(Response::new(self.all_segments().await?))
    }

    async fn update_segment(
        &self,
        request: Request<pb::UpdateSegmentRequest>,
    ) -> Result<Response<pb::UpdateSegmentResponse>, Status> {
        Ok(Response::new(self.change_segment(request.into_inner()).await?))
    }

    async fn delete_segment(
        &self,
        request: Request<pb::DeleteSegmentRequest>,
    ) -> Result<Response<pb::DeleteSegmentResponse>, Status> {
        Ok(Response::new(self.drop_segment(request.into_inner()).await?))
    }

    async fn preview_segment(
        &self,
        request: Request<pb::PreviewSegmentRequest>,
    ) -> Result<Response<pb::PreviewSegmentResponse>, Status> {
        Ok(Response::new(self.preview(&request.into_inner()).await?))
    }

    async fn list_segment_members(
        &self,
        request: Request<pb::ListSegmentMembersRequest>,
    ) -> Result<Response<pb::ListSegmentMembersResponse>, Status> {
        Ok(Response::new(self.segment_members(request.into_inner()).await?))
    }

    type WatchSegmentStream = BoxStream<'static, Result<pb::WatchSegmentResponse, Status>>;

    async fn watch_segment(
        &self,
        request: Request<pb::WatchSegmentRequest>,
    ) -> Result<Response<Self::WatchSegmentStream>, Status> {
        Ok(Response::new(self.follow_segment(request.into_inner()).await?))
    }

    async fn cluster_customers(
        &self,
        request: Request<pb::ClusterCustomersRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        Ok(Response::new(self.ask_for_clusters(request.into_inner()).await?))
    }
}

/// Announced standings by customer.
fn snapshot(
    tx: &DatabaseTransaction,
    after: Option<Uuid>,
    limit: u64,
) -> BoxFuture<'_, Result<Vec<(Uuid, pb::ScoreChange)>>> {
    Box::pin(async move {
        let page = store::customer::page(tx, after, limit).await?;
        let item = |customer: &crate::standing::Customer| {
            let standing = customer.announced.as_ref().map(|announced| announced.to_proto(customer.id));
            (customer.id, pb::ScoreChange { standing, previous: None, cause: pb::ChangeCause::Unspecified.into() })
        };
        Ok(page.iter().map(item).collect())
    })
}
