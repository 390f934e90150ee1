//! Replicas that are killed while they fill a segment: whoever is there afterwards goes on where they stopped.
use std::collections::BTreeSet;

use chassis::{
    db::sql,
    db_tests,
    testing::{Backend, eventually, fault},
};
use proto::scoring::v1 as pb;
use sea_orm::{ConnectionTrait, DatabaseConnection};
use tokio::task::JoinSet;
use tonic::Code;
use uuid::Uuid;

use crate::{
    heard::{Segments, answered, assert_each_entry_once, heard_to, last, listen, members},
    replica::{Random, Replicas},
    segments::segment,
    stand::{Stand, id, sale},
};

db_tests!(a_segment_is_filled_changed_and_emptied_whoever_is_killed_on_the_way);

/// A thousand are gone through in one transaction.
const CUSTOMERS: u128 = 12_000;
/// Each costs a start.
const MAX_KILLS: u32 = 4;

/// How far filling is: the last customer gone through, while it is on its way; absent once it is not.
async fn under_way(db: &DatabaseConnection) -> Option<Option<Uuid>> {
    let text = "SELECT fill_after FROM segment WHERE state <> $1";
    let row = db.query_one_raw(sql(db, text, [2.into()])).await.unwrap()?;
    Some(row.try_get_by_index(0).unwrap())
}

/// Kills both replicas at once, some times, whenever a page or more were gone through; until nothing is under way. How often it was so.
async fn kill_until_done(replicas: &Replicas, random: &mut Random, db: &DatabaseConnection) -> u32 {
    let (mut kills, mut before) = (0, None);
    while kills < MAX_KILLS {
        eventually("filling goes on, or is done", || async {
            under_way(db).await.is_none_or(|now| now.is_some() && now > before)
        })
        .await;
        tokio::time::sleep(random.moment(10)).await;
        let Some(now) = under_way(db).await else { break };
        (kills, before) = (kills + 1, now);
        let first = usize::from(random.chance(50));
        for number in [first, 1 - first] {
            replicas.kill(number);
        }
        for number in [first, 1 - first] {
            replicas.spawn(number);
        }
    }
    for number in [0, 1] {
        replicas.serves(number).await;
    }
    eventually("nothing is left to fill", || async { under_way(db).await.is_none() }).await;
    kills
}

async fn a_segment_is_filled_changed_and_emptied_whoever_is_killed_on_the_way(backend: Backend) {
    let mut random = Random::seeded();
    let stand = Stand::new(backend).await;
    stand.profiles.know((1..=CUSTOMERS).map(id));
    let rows: Vec<_> = (1..=CUSTOMERS).map(|number| sale(number, id(number), 5, number as i64)).collect();
    let batches: Vec<_> =
        rows.chunks(2_000).map(|batch| pb::StreamPurchasesRequest { purchases: batch.to_vec() }).collect();
    let reply = stand.client.clone().stream_purchases(futures::stream::iter(batches)).await.unwrap().into_inner();
    assert_eq!(reply.counts.unwrap().recorded, CUSTOMERS as i64);
    let Stand { db: temp, server, clock, .. } = stand;
    server.stop().await.unwrap();
    let replicas = Replicas::new(&temp, clock.now());
    for number in [0, 1] {
        replicas.start(number).await;
    }
    let db = sea_orm::Database::connect(temp.url()).await.unwrap();
    let mut watchers = JoinSet::new();
    let ear = listen::<Segments>(&mut watchers, &replicas, &mut random).await;
    // Those of a purchase of more cents than so many.
    let above = |cents: u128| (cents + 1..=CUSTOMERS).map(|number| id(number).to_string()).collect::<BTreeSet<_>>();
    let heard_all = async || {
        let (ear, db) = (&ear, &db);
        eventually("the watcher heard all", || async move { heard_to(ear) == last(db, "segments").await }).await;
    };
    let mut kills = Vec::new();

    let made = segment("dear", "realised_value > 30.0");
    let request = pb::CreateSegmentRequest { request_id: "create".into(), segment: Some(made.clone()) };
    answered(&replicas, &mut random, |mut client| {
        let request = request.clone();
        Box::pin(async move { client.create_segment(request).await })
    })
    .await;
    kills.push(kill_until_done(&replicas, &mut random, &db).await);
    for number in [0, 1] {
        let client = replicas.client(number).unwrap();
        let get = pb::GetSegmentRequest { segment_id: "dear".into(), with_values: false };
        let reply = client.clone().get_segment(get).await.unwrap().into_inner();
        assert_eq!(reply.segment.unwrap().state(), pb::SegmentState::Ready);
        assert_eq!(reply.statistics.unwrap().customers, CUSTOMERS as i64 - 3_000);
        assert!(members(&client, "dear").await == above(3_000));
    }
    heard_all().await;
    assert_each_entry_once(&ear.lock().unwrap());

    // Changed, so that some leave.
    let changed = pb::Segment { expression: "realised_value > 75.0".into(), etag: "1".into(), ..made };
    let request = pb::UpdateSegmentRequest {
        request_id: "update".into(),
        segment: Some(changed),
        update_mask: Some(prost_types::FieldMask { paths: vec!["expression".into()] }),
    };
    let changed = answered(&replicas, &mut random, |mut client| {
        let request = request.clone();
        Box::pin(async move { Ok(client.update_segment(request).await?.into_inner().segment.unwrap()) })
    })
    .await;
    kills.push(kill_until_done(&replicas, &mut random, &db).await);
    assert!(members(&replicas.client(1).unwrap(), "dear").await == above(7_500));
    heard_all().await;
    assert_eq!(assert_each_entry_once(&ear.lock().unwrap()).len(), CUSTOMERS as usize - 7_500);

    // Deleted, so that all leave.
    let request =
        pb::DeleteSegmentRequest { request_id: "delete".into(), segment_id: "dear".into(), etag: changed.etag };
    answered(&replicas, &mut random, |mut client| {
        let request = request.clone();
        Box::pin(async move { client.delete_segment(request).await })
    })
    .await;
    kills.push(kill_until_done(&replicas, &mut random, &db).await);
    let get = pb::GetSegmentRequest { segment_id: "dear".into(), with_values: false };
    let gone = replicas.client(0).unwrap().get_segment(get).await.unwrap_err();
    assert_eq!(fault(&gone).0, Code::NotFound);
    heard_all().await;
    watchers.shutdown().await;
    let heard = ear.lock().unwrap();
    assert!(assert_each_entry_once(&heard).is_empty());
    assert_eq!(heard.changes.len(), 9_000 + 4_500 + 4_500);
    assert!(kills.iter().all(|kills| *kills > 0), "nothing was under way when somebody was killed: {kills:?}");
    println!("{backend:?}: killed {kills:?} times while filling, changing and emptying");
}
