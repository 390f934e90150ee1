//! Every RPC. `Decide` stands here; contacts, channels and queues in the files beside.
use chassis::{
    Context, Db, Error, Result,
    clock::to_proto,
    parse::{Check, duration_to_proto},
    telemetry,
};
use futures::stream::BoxStream;
use proto::routing::v1::{self as pb, decide_request::Who, routing_server::Routing};
use tonic::{Request, Response, Status};

use crate::{
    Config,
    decide::{Caller, Case, Decision, decide},
    point::Key,
    view::View,
};

mod contacts;
mod setup;

#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) db: Db,
    pub(crate) context: Context,
    pub(crate) config: Config,
    pub(crate) view: View,
    pub(crate) key: Key,
}

impl Api {
    /// From memory alone: nothing is awaited, no lock is taken.
    fn decide_now(&self, request: pb::DecideRequest) -> Result<pb::DecideResponse> {
        let now = self.context.clock.now();
        let current = self.view.current(now);
        let mut check = Check::new();
        let who = match &request.who {
            Some(Who::CustomerId(id)) => Some((check.uuid("customer_id", id), false)),
            Some(Who::ContactPoint(point)) => self.view.find(self.key.parse(&mut check, "contact_point", point)),
            None => {
                check.fault("customer_id", "is not set; customer_id or contact_point is required");
                None
            }
        };
        let arrival = match request.arrival_channel_id.as_str() {
            "" => None,
            id => {
                let arrival = current.setup.find(id);
                check.require(arrival.is_some(), "arrival_channel_id", "is not the id of a channel");
                arrival
            }
        };
        let purpose = check.known_or_default("purpose", request.purpose);
        check.done()?;

        // The link leads to the work that brought the standing here. It continues the purchase's trace, or where it took in several
        // changes at once, is linked to it in turn.
        let known =
            who.and_then(|(id, shared)| Some((id, Caller { shared, ..self.view.caller(id, telemetry::link)? })));
        let case = Case { caller: known.map_or_else(Caller::default, |(_, caller)| caller), arrival, purpose };
        let decision = decide(&current.setup, &current.moment, &self.config.weights, self.config.lift, &case)?;
        let customer_id = known.map(|(id, _)| id.to_string()).unwrap_or_default();
        Ok(to_reply(decision, self.context.ids.next().to_string(), customer_id, case.caller))
    }
}

fn to_reply(decision: Decision<'_>, decision_id: String, customer_id: String, caller: Caller) -> pb::DecideResponse {
    let reason = |reason: crate::decide::Reason<'_>| pb::Reason {
        decides: reason.decides.to_owned(),
        rule: reason.rule.to_owned(),
        text: reason.text.into_owned(),
    };
    pb::DecideResponse {
        decision_id,
        standing: caller.standing.map(|standing| standing.to_proto(customer_id.clone())),
        customer_id,
        prospect: !caller.known,
        channel_id: decision.channel.id.clone(),
        queue_id: decision.queue.id.clone(),
        priority: decision.priority,
        target_answer_time: Some(duration_to_proto(decision.answer)),
        target_handling_time: Some(duration_to_proto(decision.handling)),
        open: decision.opening.open,
        opens_time: decision.opening.opens.map(to_proto),
        selling_paused: decision.selling_paused,
        prompt: decision
            .prompt
            .into_iter()
            .map(|line| pb::PromptLine { kind: line.kind.into(), text: line.text.to_owned() })
            .collect(),
        reasons: decision.reasons.into_iter().map(reason).collect(),
    }
}

#[tonic::async_trait]
impl Routing for Api {
    async fn decide(&self, request: Request<pb::DecideRequest>) -> Result<Response<pb::DecideResponse>, Status> {
        Ok(Response::new(self.decide_now(request.into_inner())?))
    }

    async fn record_contact(
        &self,
        request: Request<pb::RecordContactRequest>,
    ) -> Result<Response<pb::RecordContactResponse>, Status> {
        Ok(Response::new(self.record(request.into_inner()).await?))
    }

    async fn get_contact(
        &self,
        request: Request<pb::GetContactRequest>,
    ) -> Result<Response<pb::GetContactResponse>, Status> {
        Ok(Response::new(self.get(request.into_inner()).await?))
    }

    async fn list_contacts(
        &self,
        request: Request<pb::ListContactsRequest>,
    ) -> Result<Response<pb::ListContactsResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    type WatchContactsStream = BoxStream<'static, Result<pb::WatchContactsResponse, Status>>;

    async fn watch_contacts(
        &self,
        request: Request<pb::WatchContactsRequest>,
    ) -> Result<Response<Self::WatchContactsStream>, Status> {
        Ok(Response::new(self.watch(request.into_inner()).await?))
    }

    async fn create_channel(
        &self,
        request: Request<pb::CreateChannelRequest>,
    ) -> Result<Response<pb::CreateChannelResponse>, Status> {
        Ok(Response::new(self.add_channel(request.into_inner()).await?))
    }

    async fn get_channel(
        &self,
        request: Request<pb::GetChannelRequest>,
    ) -> Result<Response<pb::GetChannelResponse>, Status> {
        Ok(Response::new(self.one_channel(request.into_inner()).await?))
    }

    async fn list_channels(
        &self,
        _: Request<pb::ListChannelsRequest>,
    ) -> Result<Response<pb::ListChannelsResponse>, Status> {
        Ok(Response::new(self.all_channels().await?))
    }

    async fn update_channel(
        &self,
        request: Request<pb::UpdateChannelRequest>,
    ) -> Result<Response<pb::UpdateChannelResponse>, Status> {
        Ok(Response::new(self.change_channel(request.into_inner()).await?))
    }

    async fn create_queue(
        &self,
        request: Request<pb::CreateQueueRequest>,
    ) -> Result<Response<pb::CreateQueueResponse>, Status> {
        Ok(Response::new(self.add_queue(request.into_inner()).await?))
    }

    async fn get_queue(&self, request: Request<pb::GetQueueRequest>) -> Result<Response<pb::GetQueueResponse>, Status> {
        Ok(Response::new(self.one_queue(request.into_inner()).await?))
    }

    async fn list_queues(&self, _: Request<pb::ListQueuesRequest>) -> Result<Response<pb::ListQueuesResponse>, Status> {
        Ok(Response::new(self.all_queues().await?))
    }

    async fn update_queue(
        &self,
        request: Request<pb::UpdateQueueRequest>,
    ) -> Result<Response<pb::UpdateQueueResponse>, Status> {
        Ok(Response::new(self.change_queue(request.into_inner()).await?))
    }
}

/// Fails where the etag of a request is not that of the revision it changes.
fn check_etag(what: &'static str, etag: &str, revision: i64) -> Result<()> {
    if etag == crate::channel::etag(revision) { Ok(()) } else { Err(Error::Etag { what }) }
}
