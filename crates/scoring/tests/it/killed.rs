//! Two replicas, killed with SIGKILL at random moments while purchases come in, days pass and rankings run: every change is published exactly
//! once, and the segments hold whom they say.
//!
//! `CLIENTELE_TEST_KILLS` sets how often (default 10 on each database).
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use chassis::{
    clock::to_proto,
    db::sql,
    db_tests,
    testing::{Backend, eventually, fault},
};
use futures::future::BoxFuture;
use jiff::SignedDuration;
use proto::{
    common::v1::FeedPosition,
    scoring::v1::{self as pb, watch_scores_response, watch_segment_response},
};
use sea_orm::{ConnectionTrait, DatabaseConnection};
use tokio::task::JoinSet;
use tonic::{Status, Streaming};

use crate::{
    replica::{KNOWN, Random, Replicas},
    segments::create,
    stand::{Client, Stand, id, minor, sale},
    watch::cdnow_ranked,
};

db_tests!(whoever_is_killed_whenever_each_change_is_published_exactly_once);

/// Customers of the CDNOW sample, by number.
const CUSTOMERS: u64 = 2_357;
/// Those of them whom purchases move again and again, and those whom several writers are always at.
const BUSY: u64 = 150;
const HOT: u64 = 4;
/// Segments that time moves, that purchases move, and that rankings move.
const SEGMENTS: [(&str, &str); 3] = [
    ("silent", "days_since_last > 45"),
    ("keen", "expected_occasions >= 0.8"),
    ("missed", "tier in ['IMPORTANT', 'MAJOR'] && stage in ['DECLINE', 'DEPARTURE']"),
];
/// How long one call may take before it is made again, perhaps at the other replica.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the same says of a score, written once more.
fn belongs(segment: &str, score: &pb::Score) -> bool {
    let standing = score.standing.as_ref().unwrap();
    match segment {
        "silent" => {
            let date = |date: &pb::Date| jiff::civil::date(date.year as i16, date.month as i8, date.day as i8);
            let last = score.summary.as_ref().unwrap().last_day.as_ref().map(date);
            let today =
                chassis::clock::at_micros(score.as_of.unwrap().seconds * 1_000_000).to_zoned(jiff::tz::TimeZone::UTC);
            last.is_some_and(|last| today.date().since(last).unwrap().get_days() > 45)
        }
        "keen" => score.expected_occasions >= 0.8,
        _ => {
            matches!(standing.tier(), pb::Tier::Important | pb::Tier::Major)
                && matches!(standing.stage(), pb::LifeCycleStage::Decline | pb::LifeCycleStage::Departure)
        }
    }
}

/// All that a watcher heard, in order.
#[derive(Default)]
struct Heard<C> {
    cursor: String,
    snapshot: Vec<C>,
    /// With their numbers in the feed.
    changes: Vec<(i64, C)>,
    /// How often the stream broke off or was left, and was resumed.
    resumed: usize,
}

type Ear<C> = Arc<Mutex<Heard<C>>>;

/// One of the two feeds.
trait Feed: Send + 'static {
    type Message: Send;
    type Change: Default + Send;
    const TOPIC: &str;
    fn open(client: Client, cursor: String) -> BoxFuture<'static, Result<Streaming<Self::Message>, Status>>;
    /// The change of a message; none of a mark.
    fn read(message: Self::Message) -> (FeedPosition, Option<Self::Change>);
}

struct Scores;

impl Feed for Scores {
    type Message = pb::WatchScoresResponse;
    type Change = pb::ScoreChange;
    const TOPIC: &str = "scores";

    fn open(mut client: Client, cursor: String) -> BoxFuture<'static, Result<Streaming<Self::Message>, Status>> {
        let request = pb::WatchScoresRequest { cursor, only_new: false };
        Box::pin(async move { Ok(client.watch_scores(request).await?.into_inner()) })
    }

    fn read(message: Self::Message) -> (FeedPosition, Option<Self::Change>) {
        use watch_scores_response::Event;
        let Some(Event::Change(change)) = message.event else { return (message.position.unwrap(), None) };
        (message.position.unwrap(), Some(change))
    }
}

struct Segments;

impl Feed for Segments {
    type Message = pb::WatchSegmentResponse;
    type Change = pb::SegmentChange;
    const TOPIC: &str = "segments";

    fn open(mut client: Client, cursor: String) -> BoxFuture<'static, Result<Streaming<Self::Message>, Status>> {
        let request = pb::WatchSegmentRequest { cursor, ..Default::default() };
        Box::pin(async move { Ok(client.watch_segment(request).await?.into_inner()) })
    }

    fn read(message: Self::Message) -> (FeedPosition, Option<Self::Change>) {
        use watch_segment_response::Event;
        let Some(Event::Change(change)) = message.event else { return (message.position.unwrap(), None) };
        (message.position.unwrap(), Some(change))
    }
}

/// Watches a feed for good, now here, now there, from the cursor of the last message.
async fn follow<F: Feed>(replicas: Replicas, mut random: Random, ear: Ear<F::Change>) {
    loop {
        let cursor = ear.lock().unwrap().cursor.clone();
        // The snapshot is read in one piece.
        let patience = if cursor.is_empty() { PATIENCE } else { random.moment(1_500) };
        let client = replicas.either(&mut random).await;
        let watching = async {
            let Ok(mut stream) = F::open(client, cursor).await else { return };
            while let Ok(Some(message)) = stream.message().await {
                let (position, change) = F::read(message);
                let mut heard = ear.lock().unwrap();
                match change {
                    Some(change) if heard.cursor.is_empty() => heard.snapshot.push(change),
                    Some(change) => heard.changes.push((position.sequence, change)),
                    None => {}
                }
                if !position.cursor.is_empty() {
                    heard.cursor = position.cursor;
                }
            }
        };
        let _ = tokio::time::timeout(patience, watching).await;
        ear.lock().unwrap().resumed += 1;
    }
}

/// Starts watching a feed; returns once its snapshot is complete.
async fn listen<F: Feed>(tasks: &mut JoinSet<()>, replicas: &Replicas, random: &mut Random) -> Ear<F::Change> {
    let ear = Ear::default();
    tasks.spawn(follow::<F>(replicas.clone(), random.branch(), Arc::clone(&ear)));
    eventually("the snapshot is complete", || async { !ear.lock().unwrap().cursor.is_empty() }).await;
    ear
}

/// Calls until it is answered, now here, now there: what a client behind a balancer does. A fault inside is never an answer.
async fn answered<T>(
    replicas: &Replicas,
    random: &mut Random,
    call: impl Fn(Client) -> BoxFuture<'static, Result<T, Status>>,
) -> T {
    loop {
        let client = replicas.either(random).await;
        match tokio::time::timeout(PATIENCE, call(client)).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(status)) => assert_ne!(fault(&status).1, "INTERNAL", "{status:?}"),
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What was acknowledged.
#[derive(Default)]
struct Books {
    purchases: AtomicI64,
    minor_units: AtomicI64,
    quiet: AtomicBool,
}

/// Records purchases, a few to a call, until told to be quiet.
async fn buy(replicas: Replicas, mut random: Random, books: Arc<Books>, writer: u64) {
    for call in 0.. {
        if books.quiet.load(Ordering::Relaxed) {
            return;
        }
        let mut purchases = Vec::new();
        for row in 0..=random.below(3) {
            let customer = match random.below(10) {
                0 => 3_000 + random.below(KNOWN as u64 - 3_000),
                1..=3 => 1 + random.below(CUSTOMERS),
                4..=6 => 1 + random.below(BUSY),
                _ => 1 + random.below(HOT),
            };
            let cents = 1 + i64::try_from(random.below(20_000)).unwrap();
            // One replica may not have seen yet that the clock was moved, by three days at most: to it they would lie in the future.
            let time = to_proto(replicas.now() - SignedDuration::from_hours(24 * 3 + 1));
            let sale = sale(format!("{writer}-{call}-{row}"), id(customer.into()), 0, cents);
            purchases.push(pb::Purchase { purchase_time: Some(time), ..sale });
        }
        let request = pb::RecordPurchasesRequest { purchases };
        let reply = answered(&replicas, &mut random, |mut client| {
            let request = request.clone();
            Box::pin(async move { Ok(client.record_purchases(request).await?.into_inner()) })
        })
        .await;
        // Once, however often they were sent.
        let counts = reply.counts.unwrap();
        let sent = i64::try_from(request.purchases.len()).unwrap();
        assert_eq!((counts.recorded + counts.unchanged, reply.rejections), (sent, vec![]));
        let total: i64 = request.purchases.iter().map(|purchase| minor(purchase.amount.as_ref())).sum();
        books.minor_units.fetch_add(total, Ordering::Relaxed);
        books.purchases.fetch_add(sent, Ordering::Relaxed);
        tokio::time::sleep(random.moment(15)).await;
    }
}

/// Lets days pass until told to be quiet, never so many that a change is dropped from the feed before the watchers heard it.
async fn age(
    replicas: Replicas,
    mut random: Random,
    books: Arc<Books>,
    outbox: DatabaseConnection,
    ears: (Ear<pb::ScoreChange>, Ear<pb::SegmentChange>),
) {
    while !books.quiet.load(Ordering::Relaxed) {
        let published = [last(&outbox, Scores::TOPIC).await, last(&outbox, Segments::TOPIC).await];
        replicas.advance(SignedDuration::from_hours(24 * i64::try_from(1 + random.below(3)).unwrap()));
        tokio::time::sleep(Duration::from_millis(100) + random.moment(300)).await;
        eventually("the watchers have caught up", || async {
            heard_to(&ears.0) >= published[0] && heard_to(&ears.1) >= published[1]
        })
        .await;
    }
}

/// The number of the last change heard.
fn heard_to<C>(ear: &Ear<C>) -> i64 {
    ear.lock().unwrap().changes.last().map_or(0, |change| change.0)
}

/// The number of the last change published, of those that are still kept.
async fn last(outbox: &DatabaseConnection, topic: &str) -> i64 {
    let text = "SELECT CAST(COALESCE(MAX(seq), 0) AS BIGINT) FROM outbox WHERE topic = $1";
    let row = outbox.query_one_raw(sql(outbox, text, [topic.into()])).await.unwrap().unwrap();
    row.try_get_by_index(0).unwrap()
}

/// Waits until somebody has gone through everybody for this day.
async fn swept(replicas: &Replicas, db: &DatabaseConnection) {
    let today = replicas.now().as_second().div_euclid(24 * 3600);
    let text = "SELECT CAST(COUNT(*) AS BIGINT) FROM in_force WHERE swept_version = version AND swept_day = $1";
    eventually("the day was swept", || async {
        // Each looks in its turn.
        replicas.advance(SignedDuration::from_secs(61));
        let row = db.query_one_raw(sql(db, text, [today.into()])).await.unwrap().unwrap();
        row.try_get_by_index::<i64>(0).unwrap() == 1
    })
    .await;
}

/// Asks for a ranking; it runs by whichever replica has its lease.
async fn rank(replicas: &Replicas, random: &mut Random, request_id: String) -> pb::Operation {
    let request = pb::RankCustomersRequest { request_id, as_of: None };
    answered(replicas, random, |mut client| {
        let request = request.clone();
        Box::pin(async move { Ok(client.rank_customers(request).await?.into_inner()) })
    })
    .await
}

/// Everybody's score, as one replica says.
async fn scores(client: &Client) -> BTreeMap<String, pb::Score> {
    let mut scores = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListScoresRequest { page_size: 1_000, page_token, ..Default::default() };
        let page = client.clone().list_scores(request).await.unwrap().into_inner();
        let by_id = |score: pb::Score| (score.standing.as_ref().unwrap().customer_id.clone(), score);
        scores.extend(page.scores.into_iter().map(by_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return scores;
        }
    }
}

async fn members(client: &Client, segment: &str) -> BTreeSet<String> {
    let mut members = BTreeSet::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListSegmentMembersRequest { segment_id: segment.into(), page_size: 1_000, page_token };
        let page = client.clone().list_segment_members(request).await.unwrap().into_inner();
        members.extend(page.members.into_iter().map(|member| member.customer_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return members;
        }
    }
}

/// Where everybody stands by what was heard.
fn standings(heard: &Heard<pb::ScoreChange>) -> BTreeMap<String, pb::Standing> {
    let changes = heard.snapshot.iter().chain(heard.changes.iter().map(|(_, change)| change));
    let standing = |change: &pb::ScoreChange| change.standing.clone().unwrap();
    changes.map(standing).map(|standing| (standing.customer_id.clone(), standing)).collect()
}

/// Each change once, in the order of the revisions, none left out.
fn assert_each_standing_once(heard: &Heard<pb::ScoreChange>) {
    let snapshot = Heard { snapshot: heard.snapshot.clone(), ..Heard::default() };
    let (mut known, mut before) = (standings(&snapshot), 0);
    for (number, change) in &heard.changes {
        assert!(*number > before, "{number} after {before}");
        before = *number;
        let standing = change.standing.clone().unwrap();
        let previous = known.insert(standing.customer_id.clone(), standing.clone());
        assert_eq!(change.previous, previous, "{change:?}");
        assert_eq!(standing.revision, previous.map_or(0, |previous| previous.revision) + 1, "{change:?}");
    }
}

/// Nobody enters where they are or leaves where they are not; who is in which segment at the end.
fn assert_each_entry_once(heard: &Heard<pb::SegmentChange>) -> BTreeSet<(String, String)> {
    let mut inside = BTreeSet::new();
    for change in &heard.snapshot {
        inside.extend(change.entered.iter().map(|segment| (segment.clone(), change.customer_id.clone())));
    }
    let mut before = 0;
    for (number, change) in &heard.changes {
        assert!(*number > before, "{number} after {before}");
        before = *number;
        for segment in &change.entered {
            assert!(inside.insert((segment.clone(), change.customer_id.clone())), "enters again: {change:?}");
        }
        for segment in &change.left {
            assert!(inside.remove(&(segment.clone(), change.customer_id.clone())), "leaves again: {change:?}");
        }
        assert!(!change.entered.is_empty() || !change.left.is_empty(), "{change:?}");
    }
    inside
}

async fn whoever_is_killed_whenever_each_change_is_published_exactly_once(backend: Backend) {
    #[allow(clippy::disallowed_methods, reason = "a variable of the test suite")]
    let kills: u64 = std::env::var("CLIENTELE_TEST_KILLS").map_or(10, |kills| kills.parse().unwrap());
    let mut random = Random::seeded();
    let stand = cdnow_ranked(backend).await;
    for (name, expression) in SEGMENTS {
        create(&stand, name, expression).await;
    }
    let sales = |scores: &BTreeMap<String, pb::Score>| -> i64 {
        scores.values().map(|score| minor(score.summary.as_ref().unwrap().sales.as_ref())).sum()
    };
    let sold_before = sales(&scores(&stand.client).await);
    let Stand { db, server, clock, .. } = stand;
    server.stop().await.unwrap();

    let replicas = Replicas::new(&db, clock.now());
    for number in [0, 1] {
        replicas.start(number).await;
    }
    let outbox = sea_orm::Database::connect(db.url()).await.unwrap();
    let (mut watchers, mut workers, books) = (JoinSet::new(), JoinSet::new(), Arc::new(Books::default()));
    let on_scores = listen::<Scores>(&mut watchers, &replicas, &mut random).await;
    let on_segments = listen::<Segments>(&mut watchers, &replicas, &mut random).await;
    for writer in 0..8 {
        workers.spawn(buy(replicas.clone(), random.branch(), Arc::clone(&books), writer));
    }
    let ears = (Arc::clone(&on_scores), Arc::clone(&on_segments));
    workers.spawn(age(replicas.clone(), random.branch(), Arc::clone(&books), outbox.clone(), ears));

    let mut rankings = Vec::new();
    for kill in 0..kills {
        // Wherever everybody stands then: amid purchases, a sweep, a ranking, a start.
        let enough = books.purchases.load(Ordering::Relaxed) + 1;
        eventually("more was bought", || async { books.purchases.load(Ordering::Relaxed) >= enough }).await;
        if kill % 4 == 1 {
            rankings.push(rank(&replicas, &mut random, format!("rank-{kill}")).await);
        }
        tokio::time::sleep(random.moment(400)).await;
        let both = random.chance(20);
        let first = usize::from(random.chance(50));
        replicas.kill(first);
        if both {
            replicas.kill(1 - first);
        }
        tokio::time::sleep(random.moment(200)).await;
        replicas.start(first).await;
        if both {
            replicas.start(1 - first).await;
        }
    }
    books.quiet.store(true, Ordering::Relaxed);
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    for ranking in rankings {
        let request = pb::GetOperationRequest { operation_id: ranking.operation_id };
        eventually("the ranking is done", || async {
            replicas.advance(SignedDuration::from_secs(61));
            let mut client = replicas.client(0).unwrap();
            let operation = client.get_operation(request.clone()).await.unwrap().into_inner();
            assert_ne!(operation.state(), pb::OperationState::Failed, "{operation:?}");
            operation.state() == pb::OperationState::Succeeded
        })
        .await;
    }

    // What is left of this day first: a sweep that began before the clock is moved could end after one that began later.
    swept(&replicas, &outbox).await;
    replicas.advance(SignedDuration::from_hours(24));
    swept(&replicas, &outbox).await;
    eventually("the watchers heard all", || async {
        let published = (last(&outbox, Scores::TOPIC).await, last(&outbox, Segments::TOPIC).await);
        (heard_to(&on_scores), heard_to(&on_segments)) == published
    })
    .await;

    watchers.shutdown().await;
    let heard = std::mem::take(&mut *on_scores.lock().unwrap());
    let moved = std::mem::take(&mut *on_segments.lock().unwrap());
    assert_each_standing_once(&heard);
    let (told, inside) = (standings(&heard), assert_each_entry_once(&moved));
    for number in [0, 1] {
        let client = &replicas.client(number).unwrap();
        let there = scores(client).await;
        let standing: BTreeMap<_, _> =
            there.iter().map(|(id, score)| (id.clone(), score.standing.clone().unwrap())).collect();
        assert!(told == standing, "the feed does not add up to where they stand");
        assert_eq!(sales(&there), sold_before + books.minor_units.load(Ordering::Relaxed));
        for (name, _) in SEGMENTS {
            let by_feed: BTreeSet<_> =
                inside.iter().filter(|entry| entry.0 == name).map(|entry| entry.1.clone()).collect();
            let by_score: BTreeSet<_> =
                there.iter().filter(|(_, score)| belongs(name, score)).map(|(id, _)| id.clone()).collect();
            assert!(by_feed == members(client, name).await, "{name}: the feed does not add up to the members");
            assert!(by_feed == by_score, "{name}: the members are not those of whom it is true");
            assert!(!by_feed.is_empty(), "{name}");
        }
    }

    // That it was put to the test at all.
    let causes: BTreeSet<_> = heard.changes.iter().map(|(_, change)| change.cause()).collect();
    for cause in [pb::ChangeCause::Purchase, pb::ChangeCause::Silence, pb::ChangeCause::Ranking] {
        assert!(causes.contains(&cause), "{causes:?}");
    }
    println!(
        "{backend:?}: {kills} kills, {} purchases, {} standings, {} entries and exits, watchers resumed {} and {} times, until {}",
        books.purchases.load(Ordering::Relaxed),
        heard.changes.len(),
        moved.changes.len(),
        heard.resumed,
        moved.resumed,
        replicas.now()
    );
}
