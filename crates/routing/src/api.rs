//! Every RPC. `Decide` stands here; contacts, channels and queues in the files beside.
use chassis::{Context, Db, Error, Result, feed, parse::Check, telemetry};
use proto::{
    Prepared,
    routing::v1::{self as pb, decide_request::Who, routing_server::Routing},
};
use tonic::{Request, Response, Status};

use crate::{
    Config,
    decide::{Caller, Case, decide},
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
    fn decide_now(&self, request: &pb::DecideRequest) -> Result<Prepared<pb::DecideResponse>> {
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
        let known = who.and_then(|(id, shared)| Some((id, shared, self.view.known(id, telemetry::link)?)));
        let caller = known.map_or_else(Caller::default, |(_, shared, known)| known.caller(shared));
        let case = Case { caller, arrival, purpose };
        let shared = current
            .answers
            .to(&case, || decide(&current.setup, &current.moment, &self.config.weights, self.config.lift, &case))?;
        let customer_id = known.map(|(id, ..)| id.to_string()).unwrap_or_default();
        let announced = known.and_then(|(.., known)| known.announced);
        let fields = pb::DecideResponse {
            decision_id: self.context.ids.next().to_string(),
            standing: announced.map(|announced| announced.to_proto(customer_id.clone())),
            customer_id,
            ..pb::DecideResponse::default()
        };
        Ok(Prepared { fields, shared })
    }
}

#[tonic::async_trait]
impl Routing for Api {
    async fn decide(
        &self,
        request: Request<pb::DecideRequest>,
    ) -> Result<Response<Prepared<pb::DecideResponse>>, Status> {
        Ok(Response::new(self.decide_now(request.get_ref())?))
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

    type WatchContactsStream = feed::Answers<feed::Contacts>;

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
