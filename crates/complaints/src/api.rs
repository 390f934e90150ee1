//! Every RPC: parse → run_tx → reply.
use std::sync::Arc;

use chassis::{
    Context, Db, Error, Result, Tx,
    feed::{self, Entry, Event, Source},
    idempotency,
    parse::Check,
};
use prost::Message;
use proto::complaints::v1::{self as pb, complaints_server::Complaints};
use tonic::{Request, Response, Status};

use crate::{
    complaint::{Complaint, Filing, Present, Rules, Step},
    store,
};

mod parse;
mod reply;
use parse::{List, NewCause, Target};
use reply::{show, show_cause, show_step};

/// The topic of the feed. Its keys are customers, not complaints: `open_complaints` speaks of the customer, so it is the customer's changes that
/// must keep their order, also where a snapshot joins the changes after it.
const TOPIC: &str = "complaints";
/// Complaints in a page of the list where none is asked for.
const PAGE_SIZE: i32 = 50;

/// The service.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) db: Db,
    pub(crate) context: Context,
    pub(crate) rules: Arc<Rules>,
}

#[tonic::async_trait]
impl Complaints for Api {
    async fn file_complaint(
        &self,
        request: Request<pb::FileComplaintRequest>,
    ) -> Result<Response<pb::FileComplaintResponse>, Status> {
        let (key, filing) = parse::file(request.into_inner(), self.context.ids.next())?;
        let (key, filing, rules) = (&key, &filing, &*self.rules);
        let reply = self
            .db
            .run_tx("file_complaint", |tx| {
                Box::pin(async move {
                    if let Some(reply) = idempotency::replay(tx, key).await? {
                        return Ok(reply);
                    }
                    if !store::has_cause(&**tx, &filing.cause_id).await? {
                        return Err(Error::not_found("cause", &filing.cause_id));
                    }
                    let tier = store::lock_customer(tx, filing.customer_id).await?;
                    let present = Present { now: tx.clock().now(), tier, rules };
                    let (complaint, step) = Complaint::file(Filing::clone(filing), &present);
                    store::insert(tx, &complaint, &step).await?;
                    let complaint = publish(tx, &complaint, rules).await?;
                    idempotency::record(tx, key, pb::FileComplaintResponse { complaint }).await
                })
            })
            .await?;
        Ok(Response::new(reply))
    }

    async fn get_complaint(
        &self,
        request: Request<pb::GetComplaintRequest>,
    ) -> Result<Response<pb::GetComplaintResponse>, Status> {
        let mut check = Check::new();
        let id = check.uuid("complaint_id", &request.into_inner().complaint_id);
        check.done()?;
        let tx = self.db.read_tx().await?;
        let (complaint, steps) = store::get(&tx, id).await?;
        tx.commit().await.map_err(Error::from)?;
        Ok(Response::new(pb::GetComplaintResponse {
            complaint: Some(show(&complaint, self.context.clock.now(), &self.rules)),
            steps: steps.into_iter().map(show_step).collect(),
        }))
    }

    async fn list_complaints(
        &self,
        request: Request<pb::ListComplaintsRequest>,
    ) -> Result<Response<pb::ListComplaintsResponse>, Status> {
        let List { filter, page } = List::parse(request.into_inner())?;
        let complaints = store::list(self.db.read(), &filter, page.after, page.limit()).await?;
        let now = self.context.clock.now();
        let (complaints, next_page_token) =
            page.fill(complaints, store::list_key, |complaint| show(complaint, now, &self.rules))?;
        Ok(Response::new(pb::ListComplaintsResponse { complaints, next_page_token }))
    }

    async fn acknowledge_complaint(
        &self,
        request: Request<pb::AcknowledgeComplaintRequest>,
    ) -> Result<Response<pb::AcknowledgeComplaintResponse>, Status> {
        let (target, owner) = parse::acknowledge(request.into_inner())?;
        self.change(
            "acknowledge_complaint",
            &target,
            |complaint, present| complaint.acknowledge(&owner, present),
            |complaint| pb::AcknowledgeComplaintResponse { complaint },
        )
        .await
    }

    async fn assign_complaint(
        &self,
        request: Request<pb::AssignComplaintRequest>,
    ) -> Result<Response<pb::AssignComplaintResponse>, Status> {
        let (target, owner, reason) = parse::assign(request.into_inner())?;
        self.change(
            "assign_complaint",
            &target,
            |complaint, present| complaint.assign(&owner, &reason, present),
            |complaint| pb::AssignComplaintResponse { complaint },
        )
        .await
    }

    async fn escalate_complaint(
        &self,
        request: Request<pb::EscalateComplaintRequest>,
    ) -> Result<Response<pb::EscalateComplaintResponse>, Status> {
        let (target, owner, reason) = parse::escalate(request.into_inner())?;
        self.change(
            "escalate_complaint",
            &target,
            |complaint, present| complaint.escalate(&owner, &reason, present),
            |complaint| pb::EscalateComplaintResponse { complaint },
        )
        .await
    }

    async fn await_customer(
        &self,
        request: Request<pb::AwaitCustomerRequest>,
    ) -> Result<Response<pb::AwaitCustomerResponse>, Status> {
        let (target, reason) = parse::await_customer(request.into_inner())?;
        self.change(
            "await_customer",
            &target,
            |complaint, present| complaint.await_customer(&reason, present),
            |complaint| pb::AwaitCustomerResponse { complaint },
        )
        .await
    }

    async fn resume_complaint(
        &self,
        request: Request<pb::ResumeComplaintRequest>,
    ) -> Result<Response<pb::ResumeComplaintResponse>, Status> {
        let target = parse::resume(request.into_inner())?;
        self.change("resume_complaint", &target, Complaint::resume, |complaint| pb::ResumeComplaintResponse {
            complaint,
        })
        .await
    }

    async fn resolve_complaint(
        &self,
        request: Request<pb::ResolveComplaintRequest>,
    ) -> Result<Response<pb::ResolveComplaintResponse>, Status> {
        let (target, answer) = parse::resolve(request.into_inner())?;
        self.change(
            "resolve_complaint",
            &target,
            |complaint, present| complaint.resolve(&answer, present),
            |complaint| pb::ResolveComplaintResponse { complaint },
        )
        .await
    }

    async fn reopen_complaint(
        &self,
        request: Request<pb::ReopenComplaintRequest>,
    ) -> Result<Response<pb::ReopenComplaintResponse>, Status> {
        let (target, reason) = parse::reopen(request.into_inner())?;
        self.change(
            "reopen_complaint",
            &target,
            |complaint, present| complaint.reopen(&reason, present),
            |complaint| pb::ReopenComplaintResponse { complaint },
        )
        .await
    }

    async fn close_complaint(
        &self,
        request: Request<pb::CloseComplaintRequest>,
    ) -> Result<Response<pb::CloseComplaintResponse>, Status> {
        let (target, word) = parse::close(request.into_inner())?;
        self.change(
            "close_complaint",
            &target,
            |complaint, present| complaint.close(word, present),
            |complaint| pb::CloseComplaintResponse { complaint },
        )
        .await
    }

    async fn list_causes(&self, _: Request<pb::ListCausesRequest>) -> Result<Response<pb::ListCausesResponse>, Status> {
        let causes = store::causes(self.db.read()).await?;
        Ok(Response::new(pb::ListCausesResponse { causes: reply::in_tree_order(causes) }))
    }

    async fn create_cause(
        &self,
        request: Request<pb::CreateCauseRequest>,
    ) -> Result<Response<pb::CreateCauseResponse>, Status> {
        let NewCause { key, cause } = NewCause::parse(request.into_inner())?;
        let (key, cause) = (&key, &cause);
        let reply = self
            .db
            .run_tx("create_cause", |tx| {
                Box::pin(async move {
                    store::lock_causes(tx).await?;
                    if let Some(reply) = idempotency::replay(tx, key).await? {
                        return Ok(reply);
                    }
                    let causes = store::causes(&**tx).await?;
                    let has = |id: &str| causes.iter().any(|known| known.cause_id == id);
                    if has(&cause.cause_id) {
                        return Err(Error::AlreadyExists { what: "cause", id: cause.cause_id.clone() });
                    }
                    if !cause.parent_id.is_empty() && !has(&cause.parent_id) {
                        return Err(Error::not_found("parent cause", &cause.parent_id));
                    }
                    if causes.len() >= store::MAX_CAUSES {
                        return Err(Error::WrongState {
                            what: "tree of causes",
                            state: "full".to_owned(),
                            rule: format!("{} causes are the most; use one that there is", store::MAX_CAUSES),
                        });
                    }
                    store::insert_cause(tx, cause).await?;
                    let cause = Some(show_cause(store::Cause::clone(cause)));
                    idempotency::record(tx, key, pb::CreateCauseResponse { cause }).await
                })
            })
            .await?;
        Ok(Response::new(reply))
    }

    type WatchComplaintsStream = feed::Answers<feed::Complaints>;

    async fn watch_complaints(
        &self,
        request: Request<pb::WatchComplaintsRequest>,
    ) -> Result<Response<Self::WatchComplaintsStream>, Status> {
        let request = request.into_inner();
        let source = Source {
            db: self.db.clone(),
            topic: TOPIC,
            snapshot: |tx, after, limit| {
                Box::pin(async move {
                    let rows = store::snapshot(tx, after, limit).await?;
                    Ok(rows
                        .iter()
                        .map(|(complaint, open)| {
                            (complaint.customer_id, reply::change(reply::stored(complaint), *open))
                        })
                        .collect())
                })
            },
            shutdown: self.context.shutdown.clone(),
        };
        let (rules, clock) = (Arc::clone(&self.rules), self.context.clock.clone());
        // Items of a snapshot come as they are stored: what follows from the moment is added here.
        let finish = move |entry: &mut Entry<pb::ComplaintChange>| {
            if let Event::Change(pb::ComplaintChange { complaint: Some(complaint), .. }) = &mut entry.event {
                reply::as_of(complaint, clock.now(), &rules);
            }
        };
        let answers = feed::serve::<feed::Complaints>(source, &request.cursor, request.only_new, finish).await?;
        Ok(Response::new(answers))
    }
}

impl Api {
    /// What all changes of one complaint share. The complaint is locked, then the request claimed, always in this order: two calls never wait for
    /// each other in a circle.
    async fn change<R: Message + Default>(
        &self,
        name: &'static str,
        target: &Target,
        act: impl Fn(Complaint, &Present<'_>) -> Result<(Complaint, Step)> + Send + Sync,
        reply: fn(Option<pb::Complaint>) -> R,
    ) -> Result<Response<R>, Status> {
        let (act, rules) = (&act, &*self.rules);
        let reply = self
            .db
            .run_tx(name, |tx| {
                Box::pin(async move {
                    let (complaint, tier) = store::lock(tx, target.id).await?;
                    if let Some(reply) = idempotency::replay(tx, &target.key).await? {
                        return Ok(reply);
                    }
                    let present = Present { now: tx.clock().now(), tier, rules };
                    let (complaint, mut step) = act(complaint.at(&target.etag)?, &present)?;
                    if !target.actor.is_empty() {
                        step.actor_id.clone_from(&target.actor);
                    }
                    let complaint = save(tx, &complaint, &step, rules).await?;
                    idempotency::record(tx, &target.key, reply(complaint)).await
                })
            })
            .await?;
        Ok(Response::new(reply))
    }
}

/// Writes a changed complaint with its step, and publishes it. The customer's row must be locked.
pub(crate) async fn save(
    tx: &Tx<'_>,
    complaint: &Complaint,
    step: &Step,
    rules: &Rules,
) -> Result<Option<pb::Complaint>> {
    store::update(tx, complaint, step).await?;
    publish(tx, complaint, rules).await
}

/// Publishes a complaint as it is now in this transaction, without the customer's words; with them, as it is shown to the caller.
async fn publish(tx: &Tx<'_>, complaint: &Complaint, rules: &Rules) -> Result<Option<pb::Complaint>> {
    let open = store::count_open(tx, complaint.customer_id).await?;
    let shown = show(complaint, tx.clock().now(), rules);
    tx.publish(TOPIC, complaint.customer_id, &reply::change(shown.clone(), open));
    Ok(Some(shown))
}
