//! Two replicas, killed with SIGKILL at random moments while purchases come in, days pass and rankings run: every change is published exactly
//! once, and the segments hold whom they say.
//!
//! `CLIENTELE_TEST_KILLS` sets how often (default 10 on each database).
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use chassis::{
    clock::to_proto,
    db::sql,
    db_tests,
    testing::{Backend, eventually},
};
use jiff::SignedDuration;
use proto::scoring::v1 as pb;
use sea_orm::{ConnectionTrait, DatabaseConnection};
use tokio::task::JoinSet;

use crate::{
    heard::{
        Ear, Feed, Scores, Segments, answered, assert_each_entry_once, assert_each_standing_once, heard_to, last,
        listen, members, scores, standings,
    },
    replica::{KNOWN, Random, Replicas},
    segments::create,
    stand::{Stand, id, minor, sale},
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
