//! What `Decide` reads: every customer's standing, contact points and open complaints, and all channels and queues, in memory.
//!
//! Every replica keeps its view by watching its *own* database's feed. Whatever writes a projection, a channel or a queue publishes the change in
//! the same transaction; so a view is never behind its database by more than it takes to read the change, on the replica that
//! follows the peers and on any other.
//!
//! Readers take no lock. There is one writer, the task that reads the feed.
use std::{collections::HashSet, pin::Pin, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, Guard};
use chassis::{
    Context, Db, Error, Result,
    clock::at_micros,
    feed::{self, Entry, Event, Source},
    parse::Check,
    telemetry,
};
use foldhash::fast::RandomState;
use futures::{Stream, StreamExt};
use jiff::{Timestamp, tz::TimeZone};
use papaya::HashMap;
use proto::{common::v1::FeedMark, routing::v1 as pb, scoring::v1 as scoring};
use uuid::Uuid;

use crate::{
    answer::Answers,
    channel::Channel,
    decide::{Caller, Standing},
    point::{self, Point},
    queue::Queue,
    setup::{Moment, Setup},
    store,
};

/// Pause before the feed of our own database is opened again after it broke.
const PAUSE: Duration = Duration::from_millis(100);

/// A change of the view, as it goes through the database's feed. Internal: no other service reads it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Change {
    /// What changed.
    #[prost(oneof = "Part", tags = "1, 2")]
    pub part: Option<Part>,
}

/// What changed.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Part {
    /// Channels or queues: all of them as they are now.
    #[prost(message, tag = "1")]
    Setup(SetupMessage),
    /// A customer.
    #[prost(message, tag = "2")]
    Customer(CustomerMessage),
}

/// All channels and queues.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetupMessage {
    /// All channels.
    #[prost(message, repeated, tag = "1")]
    pub channels: Vec<pb::Channel>,
    /// All queues.
    #[prost(message, repeated, tag = "2")]
    pub queues: Vec<pb::Queue>,
}

/// What is known of a customer; what is absent stays as it is, unless `whole`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CustomerMessage {
    /// The customer.
    #[prost(bytes = "vec", tag = "1")]
    pub customer_id: Vec<u8>,
    /// Where they stand.
    #[prost(message, optional, tag = "2")]
    pub standing: Option<scoring::Standing>,
    /// Hashes of all contact points.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub points: Option<Vec<u8>>,
    /// Complaints that are not settled.
    #[prost(uint32, optional, tag = "4")]
    pub open_complaints: Option<u32>,
    /// An item of a snapshot: what is absent is not there.
    #[prost(bool, tag = "5")]
    pub whole: bool,
}

/// Where a customer stands, as scoring announced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Of the announcement.
    pub revision: i64,
    /// Where they stand.
    pub standing: Standing,
    /// Since when, in microseconds; 0 where not told.
    pub since: i64,
}

impl From<&scoring::Standing> for Announced {
    fn from(from: &scoring::Standing) -> Self {
        let since = from
            .since
            .as_ref()
            .map_or(0, |time| time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos) / 1_000));
        let standing = Standing {
            relationship: from.relationship(),
            stage: from.stage(),
            tier: from.tier(),
            code: from.code(),
            estimated: from.estimated,
        };
        Self { revision: from.revision, standing, since }
    }
}

impl Announced {
    /// As scoring announced it.
    pub fn to_proto(self, customer_id: String) -> scoring::Standing {
        let Standing { relationship, stage, tier, code, estimated } = self.standing;
        scoring::Standing {
            customer_id,
            revision: self.revision,
            relationship: relationship.into(),
            stage: stage.into(),
            tier: tier.into(),
            code: code.into(),
            estimated,
            since: (self.since != 0).then(|| chassis::clock::to_proto(at_micros(self.since))),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Customer {
    announced: Option<Announced>,
    /// The `traceparent` of the change that brought the standing. It is kept in no table: what a snapshot tells has none.
    cause: Option<Arc<str>>,
    open_complaints: u32,
    points: Box<[Point]>,
}

/// Whose contact point it is, oldest record first. Nearly always one customer's, and then nothing is allocated.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owners {
    One(Uuid),
    Several(Box<[Uuid]>),
}

impl Owners {
    fn as_slice(&self) -> &[Uuid] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(several) => several,
        }
    }

    fn of(owners: Vec<Uuid>) -> Option<Self> {
        match *owners {
            [] => None,
            [one] => Some(Self::One(one)),
            _ => Some(Self::Several(owners.into())),
        }
    }
}

/// What is known of a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Absent where scoring has not spoken of them yet.
    pub announced: Option<Announced>,
    /// Complaints that are not settled.
    pub open_complaints: u32,
}

impl Known {
    /// What a decision may know of them; `shared` where the contact point is that of others, too.
    pub fn caller(&self, shared: bool) -> Caller {
        let standing = self.announced.map(|announced| announced.standing);
        Caller { known: true, shared, standing, complaint_open: self.open_complaints > 0 }
    }
}

/// Channels and queues, and which of them are open.
#[derive(Debug)]
pub struct Current {
    /// Channels and queues.
    pub setup: Arc<Setup>,
    /// Which are open.
    pub moment: Moment,
    /// What was answered since.
    pub answers: Answers,
}

impl Current {
    fn new(setup: Arc<Setup>, now: Timestamp) -> Self {
        let moment = setup.moment(now);
        Self { setup, moment, answers: Answers::default() }
    }
}

/// The view. Cheap to clone.
#[derive(Clone, Debug)]
pub struct View(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    customers: HashMap<Uuid, Customer, RandomState>,
    points: HashMap<Point, Owners, RandomState>,
    current: ArcSwap<Current>,
    zone: TimeZone,
}

impl View {
    /// Reads everything, then goes on reading in the background until the service drains.
    ///
    /// # Errors
    /// `Database`.
    pub(crate) async fn start(context: &Context, db: &Db, zone: TimeZone) -> Result<Self> {
        let view = Self::empty(zone, context.clock.now());
        let source = Source {
            db: db.clone(),
            topic: store::VIEW,
            snapshot: store::view_snapshot,
            shutdown: context.shutdown.clone(),
        };
        let reading = Reading::of(view.clone());
        let mut keeper = Keeper { reading, context: context.clone(), source };
        let mut changes = keeper.open().await?;
        while keeper.reading.seen.is_some() {
            let entry = changes.next().await.ok_or(Error::NotServing("this replica"))??;
            keeper.reading.apply(entry, context.clock.now());
        }
        context.spawn("view", keeper.run(changes));
        Ok(view)
    }

    fn empty(zone: TimeZone, now: Timestamp) -> Self {
        let setup = Arc::new(Setup::new(Vec::new(), Vec::new(), zone.clone()));
        let current = ArcSwap::from_pointee(Current::new(setup, now));
        Self(Arc::new(Inner { customers: HashMap::default(), points: HashMap::default(), current, zone }))
    }

    /// Channels and queues as they are at `now`.
    pub fn current(&self, now: Timestamp) -> Guard<Arc<Current>> {
        let current = self.0.current.load();
        if current.moment.holds(now) {
            return current;
        }
        // A channel has opened or closed since. Whoever was faster may have put another setup there, which must not be lost.
        let next = Arc::new(Current::new(Arc::clone(&current.setup), now));
        self.0.current.compare_and_swap(&*current, Arc::clone(&next));
        Guard::from_inner(next)
    }

    /// Whose contact point it is: the oldest record's, and whether there are others.
    pub fn find(&self, point: Point) -> Option<(Uuid, bool)> {
        let points = self.0.points.pin();
        let owners = points.get(&point)?.as_slice();
        Some((*owners.first()?, owners.len() > 1))
    }

    /// What is known of a customer. `cause` is told the `traceparent` of the change that brought the standing, if there is one; lent rather than
    /// given, so that nobody counts who holds it.
    pub fn known(&self, customer_id: Uuid, cause: impl FnOnce(&str)) -> Option<Known> {
        let customers = self.0.customers.pin();
        let customer = customers.get(&customer_id)?;
        if let Some(traceparent) = &customer.cause {
            cause(traceparent);
        }
        Some(Known { announced: customer.announced, open_complaints: customer.open_complaints })
    }

    fn set_setup(&self, message: &SetupMessage, now: Timestamp) {
        // What stands in our own database was checked when it came in.
        let mut check = Check::new();
        let currency = |channel: &pb::Channel| {
            channel.cost_per_contact.as_ref().map(|cost| cost.currency_code.clone()).unwrap_or_default()
        };
        let channels = message.channels.iter().map(|from| Channel::parse(&mut check, from, &currency(from))).collect();
        let queues = message.queues.iter().map(|from| Queue::parse(&mut check, from)).collect();
        if let Err(error) = check.done() {
            tracing::error!(%error, "a stored channel or queue is malformed");
        }
        let setup = Arc::new(Setup::new(channels, queues, self.0.zone.clone()));
        self.0.current.store(Arc::new(Current::new(setup, now)));
    }

    fn set_customer(&self, id: Uuid, message: CustomerMessage, cause: Option<Arc<str>>) {
        let customers = self.0.customers.pin();
        let before = customers.get(&id).cloned().unwrap_or_default();
        let mut customer = if message.whole { Customer::default() } else { before.clone() };
        if let Some(announced) = message.standing.as_ref().map(Announced::from) {
            // A snapshot that is read again tells no causes, but it is still the same standing.
            let still = before.cause.clone().filter(|_| before.announced == Some(announced));
            customer.cause = cause.or(still);
            customer.announced = Some(announced);
        }
        if let Some(points) = message.points {
            customer.points = point::from_bytes(&points).into();
        }
        if let Some(open) = message.open_complaints {
            customer.open_complaints = open;
        }
        let after = customer.points.clone();
        // Before its points lead to it.
        customers.insert(id, customer);
        self.move_points(id, &before.points, &after);
    }

    fn forget_customer(&self, id: Uuid) {
        let customers = self.0.customers.pin();
        if let Some(customer) = customers.get(&id) {
            self.move_points(id, &customer.points, &[]);
        }
        customers.remove(&id);
    }

    fn move_points(&self, id: Uuid, before: &[Point], after: &[Point]) {
        let points = self.0.points.pin();
        let owners = |point: &Point| points.get(point).map_or(Vec::new(), |owners| owners.as_slice().to_vec());
        for point in after.iter().filter(|point| !before.contains(point)) {
            let mut owners = owners(point);
            if let Err(at) = owners.binary_search(&id) {
                owners.insert(at, id);
            }
            if let Some(owners) = Owners::of(owners) {
                points.insert(*point, owners);
            }
        }
        for point in before.iter().filter(|point| !after.contains(point)) {
            let mut owners = owners(point);
            owners.retain(|owner| *owner != id);
            match Owners::of(owners) {
                Some(owners) => points.insert(*point, owners),
                None => points.remove(point),
            };
        }
    }
}

type Changes = Pin<Box<dyn Stream<Item = Result<Entry<Change>>> + Send>>;

/// The one writer of a view.
struct Keeper {
    reading: Reading,
    context: Context,
    source: Source<Change>,
}

impl Keeper {
    async fn open(&mut self) -> Result<Changes> {
        let cursor = self.reading.begin();
        Ok(Box::pin(feed::watch(self.source.clone(), cursor, false).await?))
    }

    async fn run(mut self, mut changes: Changes) {
        loop {
            let error = match changes.next().await {
                Some(Ok(entry)) => {
                    let now = self.context.clock.now();
                    if let (Event::Change(_), Some(time)) = (&entry.event, entry.position.commit_time) {
                        let lag = now.as_second().saturating_sub(time.seconds) as f64
                            + f64::from(now.subsec_nanosecond().saturating_sub(time.nanos)) / 1e9;
                        telemetry::record_feed_lag("view", lag.max(0.0), 1);
                    }
                    self.reading.apply(entry, now);
                    continue;
                }
                Some(Err(error)) => error,
                None => Error::NotServing("this replica"),
            };
            changes = match self.reopen(error).await {
                Some(changes) => changes,
                None => return,
            };
        }
    }

    /// Until it works again, decisions are made from what was last known. None when the service drains.
    async fn reopen(&mut self, mut error: Error) -> Option<Changes> {
        loop {
            if self.context.shutdown.is_cancelled() {
                return None;
            }
            tracing::warn!(?error, "the view's feed broke; opening it again");
            if matches!(error, Error::CursorTooOld | Error::CursorUnknown) {
                self.reading.cursor.clear();
            }
            tokio::select! {
                () = self.context.shutdown.cancelled() => return None,
                () = tokio::time::sleep(PAUSE) => {}
            }
            match self.open().await {
                Ok(changes) => return Some(changes),
                Err(next) => error = next,
            }
        }
    }
}

/// How far a view has read.
struct Reading {
    view: View,
    cursor: String,
    /// While a snapshot is being read: the customers in it. All others are gone after it.
    seen: Option<HashSet<Uuid>>,
    /// What caused the change read last.
    cause: Option<Arc<str>>,
}

impl Reading {
    fn of(view: View) -> Self {
        Self { view, cursor: String::new(), seen: None, cause: None }
    }

    /// Shared with the change before where it has the same cause: a single call may move thousands of customers.
    fn cause(&mut self, traceparent: &str) -> Option<Arc<str>> {
        if self.cause.as_deref().unwrap_or_default() != traceparent {
            self.cause = (!traceparent.is_empty()).then(|| traceparent.into());
        }
        self.cause.clone()
    }

    /// Where to go on; empty where a snapshot is to be read.
    fn begin(&mut self) -> &str {
        self.seen = self.cursor.is_empty().then(HashSet::new);
        &self.cursor
    }

    fn apply(&mut self, entry: Entry<Change>, now: Timestamp) {
        if !entry.position.cursor.is_empty() {
            self.cursor = entry.position.cursor;
        }
        match entry.event {
            Event::Change(Change { part: Some(Part::Setup(setup)) }) => self.view.set_setup(&setup, now),
            Event::Change(Change { part: Some(Part::Customer(customer)) }) => {
                if let Ok(id) = Uuid::from_slice(&customer.customer_id) {
                    if let Some(seen) = &mut self.seen {
                        seen.insert(id);
                    }
                    let cause = self.cause(&entry.position.traceparent);
                    self.view.set_customer(id, customer, cause);
                }
            }
            Event::Change(Change { part: None }) => {}
            Event::Mark(FeedMark::SnapshotComplete) => {
                if let Some(seen) = self.seen.take() {
                    let known: Vec<_> = self.view.0.customers.pin().keys().copied().collect();
                    known.into_iter().filter(|id| !seen.contains(id)).for_each(|id| self.view.forget_customer(id));
                }
            }
            Event::Mark(FeedMark::Unspecified | FeedMark::Heartbeat) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use chassis::testing::noon;
    use proto::common::v1::FeedPosition;

    use super::*;

    fn view() -> View {
        View::empty(TimeZone::UTC, noon())
    }

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn with_points(points: &[Point]) -> CustomerMessage {
        CustomerMessage { points: Some(point::to_bytes(points)), ..Default::default() }
    }

    fn set(view: &View, id: Uuid, message: CustomerMessage) {
        view.set_customer(id, message, None);
    }

    fn known(view: &View, id: Uuid) -> Option<Known> {
        view.known(id, |_| {})
    }

    #[test]
    fn a_point_leads_to_its_customer_until_the_record_drops_it() {
        let view = view();
        set(&view, id(1), with_points(&[10, 11]));
        assert_eq!(view.find(10), Some((id(1), false)));
        set(&view, id(1), with_points(&[11, 12]));
        assert_eq!((view.find(10), view.find(11), view.find(12)), (None, Some((id(1), false)), Some((id(1), false))));
        view.forget_customer(id(1));
        assert_eq!((view.find(11), known(&view, id(1))), (None, None));
    }

    #[test]
    fn a_shared_point_leads_to_the_oldest_record_and_says_so() {
        let view = view();
        set(&view, id(2), with_points(&[10]));
        set(&view, id(1), with_points(&[10]));
        assert_eq!(view.find(10), Some((id(1), true)));
        set(&view, id(1), with_points(&[]));
        assert_eq!(view.find(10), Some((id(2), false)));
    }

    #[test]
    fn what_a_change_does_not_speak_of_stays() {
        let view = view();
        let standing = scoring::Standing { tier: scoring::Tier::Major.into(), ..Default::default() };
        set(&view, id(1), with_points(&[10]));
        set(&view, id(1), CustomerMessage { standing: Some(standing), ..Default::default() });
        set(&view, id(1), CustomerMessage { open_complaints: Some(2), ..Default::default() });
        let found = known(&view, id(1)).unwrap();
        assert_eq!((found.announced.unwrap().standing.tier, found.open_complaints), (scoring::Tier::Major, 2));
        assert!(found.caller(false).complaint_open);
        assert_eq!(view.find(10), Some((id(1), false)));
        set(&view, id(1), CustomerMessage { whole: true, ..Default::default() });
        let found = known(&view, id(1)).unwrap();
        assert_eq!(found, Known { announced: None, open_complaints: 0 });
        assert_eq!(found.caller(false), Caller { known: true, ..Default::default() });
        assert_eq!(view.find(10), None);
    }

    #[test]
    fn a_snapshot_that_is_read_again_leaves_only_what_is_in_it() {
        let mut reading = Reading::of(view());
        let read = |reading: &mut Reading, cursor: &str, event| {
            let position = FeedPosition { cursor: cursor.into(), ..Default::default() };
            reading.apply(Entry { position, event }, noon());
        };
        let customer = |n: u128, whole, points: &[Point]| {
            let customer_id = id(n).as_bytes().to_vec();
            let message = CustomerMessage { customer_id, whole, ..with_points(points) };
            Event::Change(Change { part: Some(Part::Customer(message)) })
        };
        assert_eq!(reading.begin(), "");
        read(&mut reading, "", customer(1, true, &[10]));
        read(&mut reading, "", customer(2, true, &[20]));
        read(&mut reading, "c1", Event::Mark(FeedMark::SnapshotComplete));
        read(&mut reading, "c2", customer(2, false, &[21]));
        // The feed breaks: it goes on where it was, and nothing is lost.
        assert_eq!(reading.begin(), "c2");
        read(&mut reading, "c3", customer(3, false, &[30]));
        assert_eq!([10, 20, 21, 30].map(|point| reading.view.find(point).is_some()), [true, false, true, true]);
        // The cursor was refused, and the database is an older copy by now.
        reading.cursor.clear();
        assert_eq!(reading.begin(), "");
        read(&mut reading, "", customer(2, true, &[20]));
        assert!(reading.view.find(10).is_some(), "until it is complete, decisions go by what was known");
        read(&mut reading, "d1", Event::Mark(FeedMark::SnapshotComplete));
        assert_eq!([10, 20, 21, 30].map(|point| reading.view.find(point).is_some()), [false, true, false, false]);
        assert_eq!(known(&reading.view, id(1)), None);
    }

    #[test]
    fn a_standing_keeps_what_brought_it_until_another_comes() {
        let mut reading = Reading::of(view());
        let mut read = |n: u128, whole, traceparent: &str, revision| {
            let standing = (revision > 0).then(|| scoring::Standing { revision, ..Default::default() });
            let message =
                CustomerMessage { customer_id: id(n).as_bytes().to_vec(), standing, whole, ..with_points(&[]) };
            let position = FeedPosition { traceparent: traceparent.into(), ..Default::default() };
            let event = Event::Change(Change { part: Some(Part::Customer(message)) });
            reading.apply(Entry { position, event }, noon());
            let customers = reading.view.0.customers.pin();
            [1, 2].map(|n| customers.get(&id(n)).and_then(|customer| customer.cause.clone()))
        };
        let text = |cause: &Option<Arc<str>>| cause.as_deref().unwrap_or_default().to_owned();
        assert_eq!(read(1, true, "", 1), [None, None], "a snapshot tells no causes");
        read(1, false, "a", 2);
        let [one, two] = read(2, false, "a", 1).map(Option::unwrap);
        assert!(Arc::ptr_eq(&one, &two) && *one == *"a", "changes of one call share it");
        assert_eq!(text(&read(1, false, "b", 0)[0]), "a", "what says nothing of the standing did not bring it");
        assert_eq!(text(&read(1, true, "", 2)[0]), "a", "the same standing, read again");
        assert_eq!(text(&read(1, false, "c", 3)[0]), "c");
        assert_eq!(read(1, false, "", 4)[0], None, "the cause of the standing before is not this one's");
        let mut told = Vec::new();
        reading.view.known(id(1), |cause| told.push(cause.to_owned())).unwrap();
        reading.view.known(id(2), |cause| told.push(cause.to_owned())).unwrap();
        assert_eq!(told, ["a"]);
    }
}
