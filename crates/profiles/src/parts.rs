//! The full view's parts: what the peers say of a customer, asked in parallel, within what is left of the caller's patience.
use std::time::Duration;

use chassis::peers::{Peers, time_left};
use proto::{
    complaints::v1::{ComplaintState, ListComplaintsRequest, complaints_client::ComplaintsClient},
    profiles::v1::{ComplaintSummary, CustomerPart},
    scoring::v1::{GetScoreRequest, Score, scoring_client::ScoringClient},
};
use tonic::{Code, Request, Status};
use uuid::Uuid;

/// Complaints in the view: as many as a screen shows.
const MAX_COMPLAINTS: i32 = 20;
/// What stays of the caller's deadline for putting the answer together and sending it.
const MARGIN: Duration = Duration::from_millis(50);

/// What the peers said.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) score: Option<Score>,
    pub(crate) complaints: Vec<ComplaintSummary>,
    pub(crate) missing: Vec<CustomerPart>,
}

/// How long to wait for a peer: until shortly before the caller's deadline, or `default` where the caller set none. (The server itself sets a far
/// later one on every call.)
pub(crate) fn patience(caller_set_deadline: bool, default: Duration) -> Duration {
    match time_left() {
        Some(left) if caller_set_deadline => left.saturating_sub(MARGIN),
        _ => default,
    }
}

/// Asks both peers at once. A part that did not come in time is missing, and never an error.
pub(crate) async fn ask(peers: &Peers, customer_id: Uuid, patience: Duration) -> Parts {
    let (score, complaints) = tokio::join!(
        in_time("scoring", patience, score(peers, customer_id, patience)),
        in_time("complaints", patience, complaints(peers, customer_id, patience)),
    );
    let mut missing = Vec::new();
    if score.is_none() {
        missing.push(CustomerPart::Score);
    }
    if complaints.is_none() {
        missing.push(CustomerPart::Complaints);
    }
    Parts { score: score.flatten(), complaints: complaints.unwrap_or_default(), missing }
}

async fn in_time<T>(
    peer: &'static str,
    patience: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Option<T> {
    match tokio::time::timeout(patience, call).await {
        Ok(Ok(part)) => Some(part),
        Ok(Err(status)) => {
            tracing::warn!(peer, code = ?status.code(), "a part of the full view is missing");
            None
        }
        Err(_) => {
            tracing::warn!(peer, ?patience, "a part of the full view is missing: no answer in time");
            None
        }
    }
}

async fn score(peers: &Peers, customer_id: Uuid, patience: Duration) -> Result<Option<Score>, Status> {
    let mut client = ScoringClient::new(peers.channel("scoring").map_err(Status::from)?);
    let mut request = Request::new(GetScoreRequest {
        customer_id: customer_id.to_string(),
        as_of: None,
        with_evidence: true,
        with_assessment: true,
    });
    request.set_timeout(patience);
    match client.get_score(request).await {
        Ok(reply) => Ok(reply.into_inner().score),
        // Neither bought nor followed yet: an answer, only an empty one.
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

async fn complaints(peers: &Peers, customer_id: Uuid, patience: Duration) -> Result<Vec<ComplaintSummary>, Status> {
    let mut client = ComplaintsClient::new(peers.channel("complaints").map_err(Status::from)?);
    let mut request = Request::new(ListComplaintsRequest {
        states: ComplaintState::ALL_OPEN.map(i32::from).to_vec(),
        customer_id: customer_id.to_string(),
        page_size: MAX_COMPLAINTS,
        ..Default::default()
    });
    request.set_timeout(patience);
    let reply = client.list_complaints(request).await?.into_inner();
    let complaints = reply.complaints.into_iter().map(|complaint| ComplaintSummary {
        state: complaint.state().as_str_name().to_owned(),
        complaint_id: complaint.complaint_id,
        due_time: complaint.due_time,
        cause_id: complaint.cause_id,
    });
    Ok(complaints.collect())
}
