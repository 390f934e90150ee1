//! Scripted peers: a log that can be followed, and answers that a test chooses.
use std::{
    pin::Pin,
    sync::{Arc, Mutex},
};

use chassis::{Context, Service, server::Rpcs};
use futures::{Stream, StreamExt, stream};
use proto::{
    Prepared,
    common::v1::{FeedMark, FeedPosition},
    complaints::v1 as cpb,
    scoring::v1 as spb,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming, server::NamedService};

/// A feed of everything that was pushed; a cursor is a count of the life it was given out in. Without a cursor the log so far comes as the snapshot.
#[derive(Debug)]
pub(crate) struct Log<M>(Arc<watch::Sender<(u32, Vec<M>)>>);

impl<M> Clone for Log<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> Default for Log<M> {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new((0, Vec::new()))))
    }
}

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl<M: Clone + Send + Sync + 'static> Log<M> {
    pub(crate) fn push(&self, message: M) {
        self.0.send_modify(|(_, log)| log.push(message));
    }

    /// Restores the peer from a copy, in which it knew only so much. No cursor of before is good any more.
    pub(crate) fn restore(&self, messages: Vec<M>) {
        self.0.send_modify(|(life, log)| (*life, *log) = (*life + 1, messages));
    }

    fn watch<R: Send + 'static>(
        &self,
        cursor: &str,
        context: &Context,
        reply: fn(FeedPosition, Option<M>) -> R,
    ) -> Result<Boxed<R>, Status> {
        let (life, log) = self.0.borrow().clone();
        let at = move |sequence: usize, cursor: bool| FeedPosition {
            cursor: if cursor { format!("{life}.{sequence}") } else { String::new() },
            sequence: sequence as i64,
            ..Default::default()
        };
        let (snapshot, next) = if cursor.is_empty() {
            let next = log.len();
            let mut items: Vec<_> = log.into_iter().map(|message| reply(at(next, false), Some(message))).collect();
            items.push(reply(at(next, true), None));
            (items, next)
        } else {
            let (of, next) = cursor.split_once('.').unwrap();
            if of != life.to_string() {
                return Err(chassis::Error::CursorUnknown.into());
            }
            (Vec::new(), next.parse().unwrap())
        };
        let live = stream::unfold((self.0.subscribe(), next), move |(mut log, next)| async move {
            let now = log.wait_for(|(now, log)| *now != life || log.len() > next).await.ok()?;
            let message = (now.0 == life).then(|| now.1[next].clone())?;
            drop(now);
            Some((reply(at(next + 1, true), Some(message)), (log, next + 1)))
        });
        let end = context.shutdown.clone().cancelled_owned();
        Ok(stream::iter(snapshot).chain(live).take_until(end).map(Ok).boxed())
    }
}

/// How a peer answers when it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Mood {
    #[default]
    Answers,
    KnowsNothing,
    Fails,
    Hangs,
}

impl Mood {
    async fn reply<R>(self, reply: R) -> Result<Response<R>, Status> {
        match self {
            Self::Answers => Ok(Response::new(reply)),
            Self::KnowsNothing => Err(Status::not_found("customer not found")),
            Self::Fails => Err(Status::unavailable("down")),
            Self::Hangs => std::future::pending().await,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct FakeScoring {
    pub(crate) log: Log<spb::ScoreChange>,
    pub(crate) mood: Arc<Mutex<Mood>>,
    context: Option<Context>,
}

impl FakeScoring {
    pub(crate) fn service(mut self, context: &Context) -> Service {
        self.context = Some(context.clone());
        Service {
            name: "scoring",
            grpc_name: <spb::scoring_server::ScoringServer<Self> as NamedService>::NAME,
            start: Box::pin(async move { Ok(Rpcs::new(spb::scoring_server::ScoringServer::new(self))) }),
        }
    }

    /// A standing with a revision; what else it says follows from the tier.
    pub(crate) fn say(&self, customer_id: &str, revision: i64, tier: spb::Tier) {
        self.log.push(Self::change(customer_id, revision, tier));
    }

    pub(crate) fn change(customer_id: &str, revision: i64, tier: spb::Tier) -> spb::ScoreChange {
        let standing = spb::Standing {
            customer_id: customer_id.to_owned(),
            revision,
            relationship: spb::Relationship::Repeat.into(),
            stage: spb::LifeCycleStage::Maturity.into(),
            tier: tier.into(),
            code: spb::CustomerCode::B.into(),
            estimated: false,
            since: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5_000 }),
        };
        spb::ScoreChange { standing: Some(standing), previous: None, cause: 1 }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct FakeComplaints {
    pub(crate) log: Log<cpb::ComplaintChange>,
    pub(crate) mood: Arc<Mutex<Mood>>,
    pub(crate) asked: Arc<Mutex<Vec<cpb::ListComplaintsRequest>>>,
    context: Option<Context>,
}

impl FakeComplaints {
    pub(crate) fn service(mut self, context: &Context) -> Service {
        self.context = Some(context.clone());
        Service {
            name: "complaints",
            grpc_name: <cpb::complaints_server::ComplaintsServer<Self> as NamedService>::NAME,
            start: Box::pin(async move { Ok(Rpcs::new(cpb::complaints_server::ComplaintsServer::new(self))) }),
        }
    }

    pub(crate) fn say(&self, complaint_id: u128, customer_id: &str, revision: i64, state: cpb::ComplaintState) {
        self.log.push(Self::change(complaint_id, customer_id, revision, state));
    }

    pub(crate) fn change(
        complaint_id: u128,
        customer_id: &str,
        revision: i64,
        state: cpb::ComplaintState,
    ) -> cpb::ComplaintChange {
        let complaint = cpb::Complaint {
            complaint_id: uuid::Uuid::from_u128(complaint_id).to_string(),
            customer_id: customer_id.to_owned(),
            revision,
            state: state.into(),
            ..Default::default()
        };
        // The figure is wrong on purpose: the service counts for itself.
        cpb::ComplaintChange { complaint: Some(complaint), open_complaints: 99 }
    }
}

macro_rules! not_played {
    ($($name:ident: $request:ty => $response:ty),* $(,)?) => {
        // As the attribute on the trait's block writes it, which does not see into macros.
        $(fn $name<'s, 'a>(
            &'s self,
            _: Request<$request>,
        ) -> Pin<Box<dyn Future<Output = Result<Response<$response>, Status>> + Send + 'a>>
        where
            's: 'a,
            Self: 'a,
        {
            Box::pin(async { Err(Status::unimplemented("not played")) })
        })*
    };
}

#[tonic::async_trait]
impl spb::scoring_server::Scoring for FakeScoring {
    type WatchScoresStream = Boxed<Prepared<spb::WatchScoresResponse>>;
    type WatchSegmentStream = Boxed<spb::WatchSegmentResponse>;

    async fn watch_scores(
        &self,
        request: Request<spb::WatchScoresRequest>,
    ) -> Result<Response<Self::WatchScoresStream>, Status> {
        use spb::watch_scores_response::Event;
        let stream =
            self.log.watch(&request.get_ref().cursor, self.context.as_ref().unwrap(), |position, change| {
                let event = change.map_or(Event::Mark(FeedMark::SnapshotComplete.into()), Event::Change);
                spb::WatchScoresResponse { position: Some(position), event: Some(event) }.into()
            })?;
        Ok(Response::new(stream))
    }

    async fn get_score(
        &self,
        request: Request<spb::GetScoreRequest>,
    ) -> Result<Response<spb::GetScoreResponse>, Status> {
        let mood = *self.mood.lock().unwrap();
        let standing = spb::Standing { customer_id: request.into_inner().customer_id, ..Default::default() };
        let score = spb::Score { standing: Some(standing), p_alive: 0.5, ..Default::default() };
        mood.reply(spb::GetScoreResponse { score: Some(score) }).await
    }

    not_played! {
        record_purchases: spb::RecordPurchasesRequest => spb::RecordPurchasesResponse,
        stream_purchases: Streaming<spb::StreamPurchasesRequest> => spb::StreamPurchasesResponse,
        list_purchases: spb::ListPurchasesRequest => spb::ListPurchasesResponse,
        record_service_costs: spb::RecordServiceCostsRequest => spb::RecordServiceCostsResponse,
        record_payments: spb::RecordPaymentsRequest => spb::RecordPaymentsResponse,
        fit_models: spb::FitModelsRequest => spb::Operation,
        hold_out: spb::HoldOutRequest => spb::Operation,
        rank_customers: spb::RankCustomersRequest => spb::Operation,
        get_operation: spb::GetOperationRequest => spb::Operation,
        list_operations: spb::ListOperationsRequest => spb::ListOperationsResponse,
        wait_operation: spb::WaitOperationRequest => spb::Operation,
        list_models: spb::ListModelsRequest => spb::ListModelsResponse,
        batch_get_scores: spb::BatchGetScoresRequest => spb::BatchGetScoresResponse,
        get_pyramid: spb::GetPyramidRequest => spb::GetPyramidResponse,
        get_standing_counts: spb::GetStandingCountsRequest => spb::GetStandingCountsResponse,
        list_scores: spb::ListScoresRequest => spb::ListScoresResponse,
        get_transitions: spb::GetTransitionsRequest => spb::GetTransitionsResponse,
        create_segment: spb::CreateSegmentRequest => spb::CreateSegmentResponse,
        get_segment: spb::GetSegmentRequest => spb::GetSegmentResponse,
        list_segments: spb::ListSegmentsRequest => spb::ListSegmentsResponse,
        update_segment: spb::UpdateSegmentRequest => spb::UpdateSegmentResponse,
        delete_segment: spb::DeleteSegmentRequest => spb::DeleteSegmentResponse,
        preview_segment: spb::PreviewSegmentRequest => spb::PreviewSegmentResponse,
        list_segment_members: spb::ListSegmentMembersRequest => spb::ListSegmentMembersResponse,
        watch_segment: spb::WatchSegmentRequest => Self::WatchSegmentStream,
        cluster_customers: spb::ClusterCustomersRequest => spb::Operation,
    }
}

#[tonic::async_trait]
impl cpb::complaints_server::Complaints for FakeComplaints {
    type WatchComplaintsStream = Boxed<Prepared<cpb::WatchComplaintsResponse>>;

    async fn watch_complaints(
        &self,
        request: Request<cpb::WatchComplaintsRequest>,
    ) -> Result<Response<Self::WatchComplaintsStream>, Status> {
        use cpb::watch_complaints_response::Event;
        let stream =
            self.log.watch(&request.get_ref().cursor, self.context.as_ref().unwrap(), |position, change| {
                let event = change.map_or(Event::Mark(FeedMark::SnapshotComplete.into()), Event::Change);
                cpb::WatchComplaintsResponse { position: Some(position), event: Some(event) }.into()
            })?;
        Ok(Response::new(stream))
    }

    async fn list_complaints(
        &self,
        request: Request<cpb::ListComplaintsRequest>,
    ) -> Result<Response<cpb::ListComplaintsResponse>, Status> {
        let mood = *self.mood.lock().unwrap();
        self.asked.lock().unwrap().push(request.into_inner());
        let complaint = cpb::Complaint {
            complaint_id: uuid::Uuid::from_u128(7).to_string(),
            cause_id: "delivery".into(),
            state: cpb::ComplaintState::Waiting.into(),
            due_time: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
            description: "words of the customer".into(),
            ..Default::default()
        };
        let reply = cpb::ListComplaintsResponse { complaints: vec![complaint], next_page_token: String::new() };
        mood.reply(reply).await
    }

    not_played! {
        file_complaint: cpb::FileComplaintRequest => cpb::FileComplaintResponse,
        get_complaint: cpb::GetComplaintRequest => cpb::GetComplaintResponse,
        acknowledge_complaint: cpb::AcknowledgeComplaintRequest => cpb::AcknowledgeComplaintResponse,
        assign_complaint: cpb::AssignComplaintRequest => cpb::AssignComplaintResponse,
        escalate_complaint: cpb::EscalateComplaintRequest => cpb::EscalateComplaintResponse,
        await_customer: cpb::AwaitCustomerRequest => cpb::AwaitCustomerResponse,
        resume_complaint: cpb::ResumeComplaintRequest => cpb::ResumeComplaintResponse,
        resolve_complaint: cpb::ResolveComplaintRequest => cpb::ResolveComplaintResponse,
        reopen_complaint: cpb::ReopenComplaintRequest => cpb::ReopenComplaintResponse,
        close_complaint: cpb::CloseComplaintRequest => cpb::CloseComplaintResponse,
        list_causes: cpb::ListCausesRequest => cpb::ListCausesResponse,
        create_cause: cpb::CreateCauseRequest => cpb::CreateCauseResponse,
    }
}
