//! Every RPC: parse → run_tx → reply.
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use chassis::{
    Context, Db, Result, Tx,
    db::BoxFuture,
    feed::{self, Source},
    idempotency::{self, Key},
    page::{self, Page},
    parse::Check,
};
use proto::{
    profiles::v1::{self as pb, profiles_server::Profiles},
    scoring::v1::{CustomerCode, LifeCycleStage, Relationship, Tier},
};
use sea_orm::DatabaseTransaction;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    Config,
    customer::{Customer, Details, Identity, Kind, MAX_NAME, Patch, line, name_key},
    ensure::{self, Item},
    parts, store,
};

/// The feed of the records, keyed by customer.
pub(crate) const TOPIC: &str = "customers";
/// Customers read by one BatchGetCustomers, as in a page of a list.
const MAX_BATCH: usize = 1_000;
/// Rows of a page where the caller does not say.
const DEFAULT_PAGE: i32 = 50;
/// Where a request names who introduced a customer.
const INTRODUCED_BY: &str = "customer.introduced_by";
/// Values in one filter: every enum that is filtered by has fewer.
const MAX_FILTER_VALUES: usize = 16;

/// The service.
#[derive(Debug)]
pub(crate) struct Api {
    db: Db,
    context: Context,
    peer_timeout: Duration,
}

impl Api {
    pub(crate) fn new(db: Db, context: Context, config: &Config) -> Self {
        Self { db, context, peer_timeout: Duration::from_millis(config.peer_timeout_ms) }
    }

    fn now(&self) -> jiff::Timestamp {
        self.context.clock.now()
    }
}

#[tonic::async_trait]
impl Profiles for Api {
    async fn ensure_customers(
        &self,
        request: Request<pb::EnsureCustomersRequest>,
    ) -> Result<Response<pb::EnsureCustomersResponse>, Status> {
        let mut check = Check::new();
        let items = Item::parse_all(&mut check, &request.get_ref().items, self.now());
        check.done()?;
        // Mostly all are known, as in an import that is run again: then nobody waits for the writer.
        if let Some(customers) = find_all(&self.db, &items).await? {
            return Ok(Response::new(pb::EnsureCustomersResponse { customers }));
        }
        let (items, ids) = (&items, &self.context.ids);
        let identities = &ensure::identities(items);
        let customers = self
            .db
            .run_tx("ensure_customers", |tx| {
                Box::pin(async move {
                    store::lock_identities(tx).await?;
                    let known = store::find_owners(&**tx, identities).await?;
                    let plan = ensure::plan(items, known, ids, tx.clock().now())?;
                    refuse_unknown_introducers(tx, &plan.new, |id| ensure::introducer_path(items, id)).await?;
                    insert(tx, &plan.new).await?;
                    Ok::<_, chassis::Error>(plan.replies)
                })
            })
            .await?;
        Ok(Response::new(pb::EnsureCustomersResponse { customers }))
    }

    async fn create_customer(
        &self,
        request: Request<pb::CreateCustomerRequest>,
    ) -> Result<Response<pb::CreateCustomerResponse>, Status> {
        let request = request.into_inner();
        let mut check = Check::new();
        let key = Key::parse(&mut check, "CreateCustomer", &request.request_id, &request);
        let customer = request.customer.unwrap_or_default();
        let details = Details::parse(&mut check, "customer", &customer, self.now());
        check.done()?;
        let (key, details, ids) = (&key, &details, &self.context.ids);
        let reply = self
            .db
            .run_tx("create_customer", |tx| {
                Box::pin(async move {
                    if let Some(reply) = idempotency::replay(tx, key).await? {
                        return Ok(reply);
                    }
                    let identities = details.identities();
                    if !identities.is_empty() {
                        store::lock_identities(tx).await?;
                        refuse_taken(tx, &identities).await?;
                    }
                    let customer = Customer::new(ids.next(), details.clone(), tx.clock().now());
                    refuse_unknown_introducers(tx, std::slice::from_ref(&customer), |_| INTRODUCED_BY.to_owned())
                        .await?;
                    insert(tx, std::slice::from_ref(&customer)).await?;
                    let reply = pb::CreateCustomerResponse { customer: Some(customer.to_proto()) };
                    idempotency::record(tx, key, reply).await
                })
            })
            .await?;
        Ok(Response::new(reply))
    }

    async fn get_customer(
        &self,
        request: Request<pb::GetCustomerRequest>,
    ) -> Result<Response<pb::GetCustomerResponse>, Status> {
        let deadline = request.metadata().contains_key("grpc-timeout");
        let request = request.into_inner();
        let mut check = Check::new();
        let id = check.uuid("customer_id", &request.customer_id);
        let view: pb::CustomerView = check.known_or_default("view", request.view);
        check.done()?;
        let customer = store::get(self.db.read(), id).await?;
        let mut reply = pb::GetCustomerResponse { customer: Some(customer.to_proto()), ..Default::default() };
        if view == pb::CustomerView::Full {
            let patience = parts::patience(deadline, self.peer_timeout);
            let parts = parts::ask(&self.context.peers, id, patience).await;
            reply.score = parts.score;
            reply.complaints = parts.complaints;
            reply.missing_parts = parts.missing.into_iter().map(i32::from).collect();
        }
        Ok(Response::new(reply))
    }

    async fn resolve_identity(
        &self,
        request: Request<pb::ResolveIdentityRequest>,
    ) -> Result<Response<pb::ResolveIdentityResponse>, Status> {
        let mut check = Check::new();
        let identity = Identity::parse(&mut check, "identity", request.get_ref().identity.as_ref());
        check.done()?;
        let owners = store::find_owners(self.db.read(), std::slice::from_ref(&identity)).await?;
        // The identity itself is personal: the error does not repeat it.
        let id = owners.get(&identity).ok_or_else(|| chassis::Error::not_found("customer with this identity", ""))?;
        let customer = store::get(self.db.read(), *id).await?;
        Ok(Response::new(pb::ResolveIdentityResponse { customer: Some(customer.to_proto()) }))
    }

    async fn batch_get_customers(
        &self,
        request: Request<pb::BatchGetCustomersRequest>,
    ) -> Result<Response<pb::BatchGetCustomersResponse>, Status> {
        let texts = &request.get_ref().customer_ids;
        let mut check = Check::new();
        check.count("customer_ids", texts.len(), 1..=MAX_BATCH);
        let texts = texts.iter().take(MAX_BATCH).enumerate();
        let ids: Vec<Uuid> = texts.map(|(index, text)| check.uuid(&format!("customer_ids[{index}]"), text)).collect();
        check.done()?;
        let found = store::find_many(self.db.read(), &ids).await?;
        let found: HashMap<Uuid, Customer> = found.into_iter().map(|customer| (customer.id, customer)).collect();
        let mut reply = pb::BatchGetCustomersResponse::default();
        let mut missing = HashSet::new();
        for id in ids {
            match found.get(&id) {
                Some(customer) => reply.customers.push(customer.to_proto()),
                None if missing.insert(id) => reply.not_found.push(id.to_string()),
                None => {}
            }
        }
        page::fits("customer_ids", &reply)?;
        Ok(Response::new(reply))
    }

    async fn list_customers(
        &self,
        request: Request<pb::ListCustomersRequest>,
    ) -> Result<Response<pb::ListCustomersResponse>, Status> {
        let mut request = request.into_inner();
        let token = std::mem::take(&mut request.page_token);
        let size = std::mem::take(&mut request.page_size);
        let mut check = Check::new();
        let filter = parse_filter(&mut check, &request.filter.clone().unwrap_or_default());
        let sort = match check.known_or_default("order", request.order) {
            pb::CustomerOrder::Unspecified | pb::CustomerOrder::CreateTime => store::Sort::Oldest,
            pb::CustomerOrder::CreateTimeDesc => store::Sort::Newest,
            pb::CustomerOrder::Name => store::Sort::Name,
        };
        let page = Page::parse(&mut check, "ListCustomers", &request, size, DEFAULT_PAGE, &token)?;
        check.done()?;
        let customers = store::list(self.db.read(), &filter, sort, page.after.as_ref(), page.limit()).await?;
        let (customers, next_page_token) =
            page.fill(customers, |customer| store::Last::of(sort, customer), Customer::to_proto)?;
        Ok(Response::new(pb::ListCustomersResponse { customers, next_page_token }))
    }

    async fn update_customer(
        &self,
        request: Request<pb::UpdateCustomerRequest>,
    ) -> Result<Response<pb::UpdateCustomerResponse>, Status> {
        let request = request.into_inner();
        let mut check = Check::new();
        let key = Key::parse(&mut check, "UpdateCustomer", &request.request_id, &request);
        let customer = request.customer.unwrap_or_default();
        let id = check.uuid("customer.customer_id", &customer.customer_id);
        check.require(
            !customer.etag.is_empty(),
            "customer.etag",
            "is empty; the etag of the record as read is required",
        );
        let patch = Patch::parse(&mut check, &customer, request.update_mask.as_ref(), self.now());
        check.done()?;
        let (key, patch, etag) = (&key, &patch, customer.etag.as_str());
        let reply = self
            .db
            .run_tx("update_customer", |tx| {
                Box::pin(async move {
                    if let Some(reply) = idempotency::replay(tx, key).await? {
                        return Ok(reply);
                    }
                    let before = store::get_for_update(tx, id).await?;
                    let (held, introducer) = (before.details.identities(), before.details.introduced_by());
                    let customer = before.update(etag, patch, tx.clock().now())?;
                    if customer.details.introduced_by() != introducer {
                        let customer = std::slice::from_ref(&customer);
                        refuse_unknown_introducers(tx, customer, |_| INTRODUCED_BY.to_owned()).await?;
                    }
                    if patch.sets_identities() {
                        replace_identities(tx, &customer, held).await?;
                    }
                    store::update(tx, &customer).await?;
                    tx.publish(TOPIC, customer.id, &customer.to_proto());
                    let reply = pb::UpdateCustomerResponse { customer: Some(customer.to_proto()) };
                    idempotency::record(tx, key, reply).await
                })
            })
            .await?;
        Ok(Response::new(reply))
    }

    type WatchCustomersStream = feed::Answers<feed::Customers>;

    async fn watch_customers(
        &self,
        request: Request<pb::WatchCustomersRequest>,
    ) -> Result<Response<Self::WatchCustomersStream>, Status> {
        let request = request.into_inner();
        let source = Source { db: self.db.clone(), topic: TOPIC, snapshot, shutdown: self.context.shutdown.clone() };
        let answers = feed::serve::<feed::Customers>(source, &request.cursor, request.only_new, |_| ()).await?;
        Ok(Response::new(answers))
    }
}

fn snapshot(
    tx: &DatabaseTransaction,
    after: Option<Uuid>,
    limit: u64,
) -> BoxFuture<'_, Result<Vec<(Uuid, pb::Customer)>>> {
    Box::pin(async move {
        let customers = store::find_page(tx, after, limit).await?;
        Ok(customers.into_iter().map(|customer| (customer.id, customer.to_proto())).collect())
    })
}

/// The reply where every identity has its customer already.
async fn find_all(db: &Db, items: &[Item]) -> Result<Option<Vec<pb::EnsuredCustomer>>> {
    let identities: Vec<Identity> = items.iter().map(|item| item.identity.clone()).collect();
    let owners = store::find_owners(db.read(), &identities).await?;
    let reply = |owner: &Uuid| pb::EnsuredCustomer { customer_id: owner.to_string(), created: false };
    Ok(identities.iter().map(|identity| owners.get(identity).map(reply)).collect())
}

async fn insert(tx: &Tx<'_>, customers: &[Customer]) -> Result<()> {
    store::insert(tx, customers).await?;
    for customer in customers {
        tx.publish(TOPIC, customer.id, &customer.to_proto());
    }
    Ok(())
}

/// Who introduced somebody is a customer, and another one. `path` tells where the request names an introducer.
async fn refuse_unknown_introducers(
    tx: &Tx<'_>,
    customers: &[Customer],
    path: impl Fn(Uuid) -> String + Send,
) -> Result<()> {
    let introduced = || customers.iter().filter_map(|customer| Some((customer.id, customer.details.introduced_by()?)));
    if let Some((_, introducer)) = introduced().find(|(id, introducer)| id == introducer) {
        return Err(chassis::Error::invalid(
            path(introducer),
            "is the customer themselves; another customer is allowed",
        ));
    }
    let mut wanted: Vec<Uuid> = introduced().map(|(_, introducer)| introducer).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let there = store::find_ids(tx, &wanted).await?;
    match wanted.into_iter().find(|id| !there.contains(id)) {
        Some(missing) => Err(chassis::Error::invalid(path(missing), "is not the id of a customer")),
        None => Ok(()),
    }
}

async fn refuse_taken(tx: &Tx<'_>, identities: &[Identity]) -> Result<()> {
    match store::find_owners(&**tx, identities).await?.into_values().next() {
        Some(owner) => Err(ensure::taken(owner)),
        None => Ok(()),
    }
}

/// Makes the identities those of the record. One that another customer has is not moved: that would be a merge.
async fn replace_identities(tx: &Tx<'_>, customer: &Customer, held: Vec<Identity>) -> Result<()> {
    let wanted = customer.details.identities();
    let (before, after): (HashSet<_>, HashSet<_>) = (held.iter().collect(), wanted.iter().collect());
    let removed: Vec<Identity> = before.difference(&after).map(|identity| (*identity).clone()).collect();
    let added: Vec<Identity> = after.difference(&before).map(|identity| (*identity).clone()).collect();
    if !added.is_empty() {
        store::lock_identities(tx).await?;
        refuse_taken(tx, &added).await?;
    }
    store::move_identities(tx, customer.id, &removed, added).await
}

fn parse_filter(check: &mut Check, filter: &pb::CustomerFilter) -> store::Filter {
    let kind = match check.known_or_default("filter.kind", filter.kind) {
        pb::CustomerKind::Unspecified => None,
        pb::CustomerKind::Person => Some(Kind::Person),
        pb::CustomerKind::Company => Some(Kind::Company),
    };
    store::Filter {
        kind,
        codes: parse_states::<CustomerCode>(check, "filter.codes", &filter.codes),
        tiers: parse_states::<Tier>(check, "filter.tiers", &filter.tiers),
        stages: parse_states::<LifeCycleStage>(check, "filter.stages", &filter.stages),
        relationships: parse_states::<Relationship>(check, "filter.relationships", &filter.relationships),
        name_prefix: name_key(&line(check, "filter.name_prefix", &filter.name_prefix, 0..=MAX_NAME)),
        system: (!filter.system.is_empty()).then(|| check.token("filter.system", &filter.system, 1..=64)),
        with_open_complaints: filter.with_open_complaints,
    }
}

/// Unspecified is a state too: that of customers whom scoring has not spoken of, or not ranked.
fn parse_states<E: TryFrom<i32> + Default>(check: &mut Check, field: &str, values: &[i32]) -> Vec<i32> {
    check.count(field, values.len(), 0..=MAX_FILTER_VALUES);
    for (index, value) in values.iter().take(MAX_FILTER_VALUES).enumerate() {
        check.known_or_default::<E>(&format!("{field}[{index}]"), *value);
    }
    values.to_vec()
}
