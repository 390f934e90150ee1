//! Segments: what they are, who is in them.
use std::{sync::Arc, time::Duration};

use chassis::{
    Error, Result, Tx,
    clock::to_proto,
    db::BoxFuture,
    feed::{self, Entry, Event, Source},
    idempotency,
    page::Page,
    parse::Check,
    peers,
};
use futures::{StreamExt, stream::BoxStream};
use proto::scoring::v1 as pb;
use sea_orm::DatabaseTransaction;
use tonic::Status;
use uuid::Uuid;

use super::Api;
use crate::{
    cluster, estimate,
    score::Models,
    segment::{Expression, Fields, MAX_ID, MAX_SEGMENTS, Segment, State, TOPIC, expression},
    standing::PAGE,
    store,
};

/// Longest name and description for people, in characters.
const MAX_NAME: usize = 100;
const MAX_DESCRIPTION: usize = 1_000;
/// Members that a preview shows: enough to see whether they are who was meant.
const SHOWN: usize = 10;
/// Longest preview, and what is left of the caller's deadline for the answer itself.
const MAX_PREVIEW: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_millis(100);

/// What a caller says of a segment, checked.
struct Given {
    display_name: String,
    description: String,
    expression: String,
}

/// The paths that an update may name.
const PATHS: [&str; 3] = ["display_name", "description", "expression"];

impl Given {
    /// Checks the fields of these paths; the others are not looked at.
    fn parse(check: &mut Check, segment: &pb::Segment, paths: &[&str]) -> Result<Self> {
        let mut given = Self { display_name: String::new(), description: String::new(), expression: String::new() };
        if paths.contains(&"display_name") {
            given.display_name = check.text("segment.display_name", &segment.display_name, 1..=MAX_NAME);
        }
        if paths.contains(&"description") {
            given.description = check.text("segment.description", &segment.description, 0..=MAX_DESCRIPTION);
        }
        if paths.contains(&"expression") {
            given.expression = parse_expression(check, "segment.expression", &segment.expression)?.0;
        }
        Ok(given)
    }
}

/// An expression, and what it means where nothing is wrong with it.
///
/// # Errors
/// As [`Expression::parse`].
fn parse_expression(check: &mut Check, field: &str, text: &str) -> Result<(String, Option<Expression>)> {
    // Not trimmed: places are those of the text as it came.
    let chars = if text.len() > expression::MAX_CHARS * 4 { usize::MAX } else { text.chars().count() };
    if !(1..=expression::MAX_CHARS).contains(&chars) {
        check.fault(field, format!("must be 1 to {} characters long", expression::MAX_CHARS));
        return Ok((String::new(), None));
    }
    Ok(match Expression::parse(text)? {
        Ok(expression) => (text.to_owned(), Some(expression)),
        Err(fault) => {
            check.fault(field, fault.to_string());
            (String::new(), None)
        }
    })
}

/// A segment that is there and not being deleted.
async fn there<C: sea_orm::ConnectionTrait>(connection: &C, id: &str) -> Result<Segment> {
    let found = store::segment::find(connection, id).await?.filter(|segment| segment.state != State::Leaving);
    found.ok_or_else(|| Error::not_found("segment", id))
}

fn check_etag(etag: &str, segment: &Segment) -> Result<()> {
    if etag == segment.etag() { Ok(()) } else { Err(Error::Etag { what: "segment" }) }
}

impl Api {
    pub(super) async fn new_segment(&self, request: pb::CreateSegmentRequest) -> Result<pb::CreateSegmentResponse> {
        let mut check = Check::new();
        let key = &idempotency::Key::parse(&mut check, "CreateSegment", &request.request_id, &request);
        let from = request.segment.as_ref();
        check.require(from.is_some(), "segment", "is not set");
        let from = from.cloned().unwrap_or_default();
        let id = &check.slug("segment.segment_id", &from.segment_id, MAX_ID);
        let given = &Given::parse(&mut check, &from, &PATHS)?;
        check.done()?;
        let reply = self
            .db
            .run_tx("create_segment", |tx| {
                Box::pin(async move {
                    if let Some(reply) = idempotency::replay(tx, key).await? {
                        return Ok(reply);
                    }
                    store::segment::lock_set(tx).await?;
                    let now = tx.clock().now();
                    room_for(tx, id).await?;
                    let segment = Segment {
                        id: id.clone(),
                        revision: 1,
                        display_name: given.display_name.clone(),
                        description: given.description.clone(),
                        expression: given.expression.clone(),
                        state: State::Filling,
                        create_time: now,
                        update_time: now,
                    };
                    store::segment::insert(tx, &segment).await?;
                    let reply = pb::CreateSegmentResponse { segment: Some(segment.to_proto()) };
                    idempotency::record(tx, key, reply).await
                })
            })
            .await?;
        self.wake_filling();
        Ok(reply)
    }

    pub(super) async fn show_segment(&self, request: &pb::GetSegmentRequest) -> Result<pb::GetSegmentResponse> {
        let mut check = Check::new();
        let id = check.slug("segment_id", &request.segment_id, MAX_ID);
        check.done()?;
        let tx = self.db.read_tx().await?;
        let segment = there(&tx, &id).await?;
        let standings = store::segment::standing_counts(&tx, &id).await?;
        tx.commit().await?;
        let customers = standings.iter().map(|count| count.customers).sum();
        let values = if request.with_values { Some(self.values_of(&id).await?) } else { None };
        let statistics = pb::SegmentStatistics { customers, standings, values };
        Ok(pb::GetSegmentResponse { segment: Some(segment.to_proto()), statistics: Some(statistics) })
    }

    /// What the members are worth, page by page.
    async fn values_of(&self, id: &str) -> Result<pb::SegmentValues> {
        let in_force = self.scorer.in_force(self.db.read()).await?;
        let today = self.scorer.day(self.context.clock.now());
        let (mut after, mut realised, mut expected) = (None, 0_i128, 0_i128);
        loop {
            let members = store::segment::members(self.db.read(), id, after, PAGE).await?;
            let ids: Vec<Uuid> = members.iter().map(|(customer, _)| *customer).collect();
            let customers = store::customer::find(self.db.read(), &ids).await?;
            let (scorer, in_force) = (Arc::clone(&self.scorer), Arc::clone(&in_force));
            let sums = move || {
                customers.values().fold((0_i128, 0_i128), |(realised, expected), customer| {
                    let bought = customer.summary.occasions > 0;
                    let models = in_force.models.as_ref().filter(|_| bought);
                    let values = crate::score::values(&customer.summary, &scorer.books, models, today);
                    (realised + i128::from(values.realised_minor), expected + i128::from(values.expected_minor))
                })
            };
            let sums = tokio::task::spawn_blocking(sums).await;
            let sums = sums.map_err(|error| Error::Internal(format!("adding values up broke off: {error}")))?;
            (realised, expected) = (realised + sums.0, expected + sums.1);
            after = ids.last().copied();
            if (ids.len() as u64) < PAGE {
                break;
            }
        }
        let foretold = in_force.models.as_ref().is_some_and(Models::value_the_future);
        // Sums that exceed 64 bits stop at the limit.
        let money =
            |minor: i128| self.money(i64::try_from(minor).unwrap_or(if minor < 0 { i64::MIN } else { i64::MAX }));
        Ok(pb::SegmentValues {
            realised_value: money(realised),
            expected_value: foretold.then(|| money(expected)).flatten(),
            lifetime_value: foretold.then(|| money(realised + expected)).flatten(),
        })
    }

    pub(super) async fn all_segments(&self) -> Result<pb::ListSegmentsResponse> {
        let segments = store::segment::list(self.db.read()).await?;
        Ok(pb::ListSegmentsResponse { segments: segments.iter().map(Segment::to_proto).collect() })
    }

    pub(super) async fn change_segment(&self, request: pb::UpdateSegmentRequest) -> Result<pb::UpdateSegmentResponse> {
        let mut check = Check::new();
        let key = &idempotency::Key::parse(&mut check, "UpdateSegment", &request.request_id, &request);
        check.require(request.segment.is_some(), "segment", "is not set");
        let from = &request.segment.clone().unwrap_or_default();
        let id = &check.slug("segment.segment_id", &from.segment_id, MAX_ID);
        check.require(!from.etag.is_empty(), "segment.etag", "is empty; the current one is required");
        let asked = request.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
        let paths: Vec<&str> = PATHS.into_iter().filter(|path| asked.iter().any(|asked| asked == path)).collect();
        let foreign = asked.iter().any(|asked| !PATHS.contains(&asked.as_str()));
        if asked.is_empty() || foreign {
            check.fault("update_mask", format!("must name one or more of {}", PATHS.join(", ")));
        }
        let (given, paths) = (&Given::parse(&mut check, from, &paths)?, &paths);
        check.done()?;
        let reply = self
            .db
            .run_tx("update_segment", |tx| {
                Box::pin(async move {
                    if let Some(reply) = idempotency::replay(tx, key).await? {
                        return Ok(reply);
                    }
                    store::segment::lock_set(tx).await?;
                    let mut segment = there(&**tx, id).await?;
                    check_etag(&from.etag, &segment)?;
                    if paths.contains(&"display_name") {
                        segment.display_name.clone_from(&given.display_name);
                    }
                    if paths.contains(&"description") {
                        segment.description.clone_from(&given.description);
                    }
                    let refill = paths.contains(&"expression") && segment.expression != given.expression;
                    if refill {
                        segment.expression.clone_from(&given.expression);
                        segment.state = State::Filling;
                    }
                    segment.revision += 1;
                    segment.update_time = tx.clock().now();
                    store::segment::update(tx, &segment, refill).await?;
                    let reply = pb::UpdateSegmentResponse { segment: Some(segment.to_proto()) };
                    idempotency::record(tx, key, reply).await
                })
            })
            .await?;
        self.wake_filling();
        Ok(reply)
    }

    pub(super) async fn drop_segment(&self, request: pb::DeleteSegmentRequest) -> Result<pb::DeleteSegmentResponse> {
        let mut check = Check::new();
        let key = &idempotency::Key::parse(&mut check, "DeleteSegment", &request.request_id, &request);
        let id = &check.slug("segment_id", &request.segment_id, MAX_ID);
        check.require(!request.etag.is_empty(), "etag", "is empty; the current one is required");
        check.done()?;
        let etag = request.etag.as_str();
        let reply = self
            .db
            .run_tx("delete_segment", |tx| {
                Box::pin(async move {
                    if let Some(reply) = idempotency::replay(tx, key).await? {
                        return Ok(reply);
                    }
                    store::segment::lock_set(tx).await?;
                    let mut segment = there(&**tx, id).await?;
                    check_etag(etag, &segment)?;
                    segment.state = State::Leaving;
                    segment.revision += 1;
                    segment.update_time = tx.clock().now();
                    store::segment::update(tx, &segment, true).await?;
                    idempotency::record(tx, key, pb::DeleteSegmentResponse {}).await
                })
            })
            .await?;
        self.wake_filling();
        Ok(reply)
    }

    fn wake_filling(&self) {
        self.to_fill.send_modify(|news| *news = news.wrapping_add(1));
    }

    pub(super) async fn preview(&self, request: &pb::PreviewSegmentRequest) -> Result<pb::PreviewSegmentResponse> {
        let mut check = Check::new();
        let (_, expression) = parse_expression(&mut check, "expression", &request.expression)?;
        check.done()?;
        let expression =
            Arc::new(expression.ok_or_else(|| Error::Internal("an expression without a fault".to_owned()))?);
        let with_attributes = expression.fields().iter().any(|field| field.is_attribute());
        let patience = peers::time_left().map_or(MAX_PREVIEW, |left| left.saturating_sub(ANSWER).min(MAX_PREVIEW));
        let begin = chassis::clock::stopwatch();
        let in_force = self.scorer.in_force(self.db.read()).await?;
        let now = self.context.clock.now();
        let mut reply = pb::PreviewSegmentResponse::default();
        let mut after = None;
        while !reply.complete && (reply.examined == 0 || begin.elapsed() < patience) {
            let mut page = store::customer::page(self.db.read(), after, PAGE).await?;
            estimate::refresh(self.db.read(), &in_force, page.iter_mut()).await?;
            after = page.last().map(|customer| customer.id);
            reply.complete = (page.len() as u64) < PAGE;
            reply.examined += i64::try_from(page.len()).unwrap_or(i64::MAX);
            let ids: Vec<Uuid> = page.iter().map(|customer| customer.id).collect();
            let attributes = if with_attributes {
                store::attribute::find(self.db.read(), &ids).await?
            } else {
                std::collections::HashMap::new()
            };
            let (scorer, in_force, expression) =
                (Arc::clone(&self.scorer), Arc::clone(&in_force), Arc::clone(&expression));
            let matching = move || {
                let today = scorer.day(now);
                let mut page = page;
                page.retain(|customer| {
                    let score = customer.score(&scorer, &in_force, now);
                    let attributes = attributes.get(&customer.id);
                    expression.matches(&Fields::of(&scorer, &in_force, customer, &score, today, attributes))
                });
                page
            };
            let matching = tokio::task::spawn_blocking(matching).await;
            let matching = matching.map_err(|error| Error::Internal(format!("a preview broke off: {error}")))?;
            reply.customers += i64::try_from(matching.len()).unwrap_or(i64::MAX);
            let room = SHOWN.saturating_sub(reply.members.len());
            reply.members.extend(matching.iter().take(room).map(|customer| pb::SegmentMember {
                customer_id: customer.id.to_string(),
                since: None,
                standing: customer.announced.as_ref().map(|announced| announced.to_proto(customer.id)),
            }));
        }
        Ok(reply)
    }

    pub(super) async fn segment_members(
        &self,
        mut request: pb::ListSegmentMembersRequest,
    ) -> Result<pb::ListSegmentMembersResponse> {
        let (size, token) = (std::mem::take(&mut request.page_size), std::mem::take(&mut request.page_token));
        let mut check = Check::new();
        let id = check.slug("segment_id", &request.segment_id, MAX_ID);
        let page = Page::<Uuid>::parse(&mut check, "ListSegmentMembers", &request, size, 100, &token)?;
        check.done()?;
        let tx = self.db.read_tx().await?;
        there(&tx, &id).await?;
        let rows = store::segment::members(&tx, &id, page.after, page.limit()).await?;
        let ids: Vec<Uuid> = rows.iter().map(|(customer, _)| *customer).collect();
        let customers = store::customer::find(&tx, &ids).await?;
        tx.commit().await?;
        let member = |(customer, since_us): &(Uuid, i64)| pb::SegmentMember {
            customer_id: customer.to_string(),
            since: Some(to_proto(chassis::clock::at_micros(*since_us))),
            standing: customers
                .get(customer)
                .and_then(|found| found.announced.as_ref())
                .map(|announced| announced.to_proto(*customer)),
        };
        let (members, next_page_token) = page.fill(rows, |row| row.0, member)?;
        Ok(pb::ListSegmentMembersResponse { members, next_page_token })
    }

    pub(super) async fn follow_segment(
        &self,
        request: pb::WatchSegmentRequest,
    ) -> Result<BoxStream<'static, Result<pb::WatchSegmentResponse, Status>>> {
        let mut only = None;
        if !request.segment_id.is_empty() {
            let mut check = Check::new();
            let id = check.slug("segment_id", &request.segment_id, MAX_ID);
            check.done()?;
            there(self.db.read(), &id).await?;
            only = Some(id);
        }
        let source = Source { db: self.db.clone(), topic: TOPIC, snapshot, shutdown: self.context.shutdown.clone() };
        let entries = feed::watch(source, &request.cursor, request.only_new).await?;
        let messages = entries.filter_map(move |entry| {
            let message = entry.map(|entry| message(entry, only.as_deref())).map_err(Status::from).transpose();
            async move { message }
        });
        Ok(messages.boxed())
    }

    pub(super) async fn ask_for_clusters(&self, request: pb::ClusterCustomersRequest) -> Result<pb::Operation> {
        let mut check = Check::new();
        let most = i32::try_from(cluster::MAX_CLUSTERS).unwrap_or(i32::MAX);
        if request.clusters != 0 {
            check.range("clusters", request.clusters, 2..=most);
        }
        check.done()?;
        let kind = pb::OperationKind::Cluster;
        self.ask_for(kind, "ClusterCustomers", &request.request_id, &request, None, false).await
    }
}

/// Fails where one of this id is there already, or too many are.
async fn room_for(tx: &Tx<'_>, id: &str) -> Result<()> {
    match store::segment::find(&**tx, id).await?.map(|segment| segment.state) {
        Some(State::Leaving) => {
            let rule = "its members are still leaving it; try again in a moment".to_owned();
            return Err(Error::WrongState { what: "segment", state: "being deleted".to_owned(), rule });
        }
        Some(_) => return Err(Error::AlreadyExists { what: "segment", id: id.to_owned() }),
        None => {}
    }
    if store::segment::count(tx).await? >= MAX_SEGMENTS as i64 {
        let rule = format!("{MAX_SEGMENTS} segments are allowed; delete one first");
        return Err(Error::WrongState { what: "the set of segments", state: "full".to_owned(), rule });
    }
    Ok(())
}

/// A message of the feed, with what it says of the one segment that is watched; nothing where that is nothing.
fn message(entry: Entry<pb::SegmentChange>, only: Option<&str>) -> Option<pb::WatchSegmentResponse> {
    use pb::watch_segment_response::Event as Wire;
    let event = match entry.event {
        Event::Mark(mark) => Wire::Mark(mark.into()),
        Event::Change(mut change) => {
            if let Some(only) = only {
                change.entered.retain(|id| id == only);
                change.left.retain(|id| id == only);
            }
            if change.entered.is_empty() && change.left.is_empty() {
                return None;
            }
            Wire::Change(change)
        }
    };
    Some(pb::WatchSegmentResponse { position: Some(entry.position), event: Some(event) })
}

/// Customers who are in any segment, with all of theirs.
fn snapshot(
    tx: &DatabaseTransaction,
    after: Option<Uuid>,
    limit: u64,
) -> BoxFuture<'_, Result<Vec<(Uuid, pb::SegmentChange)>>> {
    Box::pin(store::segment::snapshot(tx, after, limit))
}
