//! Standings as they are followed.
use std::collections::BTreeMap;

use chassis::{
    db_tests,
    testing::{Backend, eventually},
};
use futures::StreamExt;
use jiff::SignedDuration;
use proto::scoring::v1::{self as pb, watch_scores_response::Event};

use crate::{
    cdnow,
    heard::{Scores, hear},
    stand::{Client, Stand, back, cost, id, invoice, sale},
};

db_tests!(
    a_watch_begins_with_a_snapshot_and_goes_on_with_changes,
    a_watch_resumes_after_its_cursor,
    a_purchase_that_changes_nothing_announces_nothing,
    costs_and_payments_are_announced_as_what_they_are,
    payments_leave_who_is_known_as_they_are,
    silence_is_announced_once_with_two_replicas,
    the_feed_adds_up_to_the_announced_standings,
);

/// Reads changes until the snapshot is complete, or so many.
async fn read(client: &Client, cursor: &str, only_new: bool, changes: Option<usize>) -> Vec<(pb::ScoreChange, String)> {
    let request = pb::WatchScoresRequest { cursor: cursor.into(), only_new };
    hear::<Scores>(client.clone().watch_scores(request).await.unwrap().into_inner(), changes).await
}

async fn a_watch_begins_with_a_snapshot_and_goes_on_with_changes(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1), id(2)]);
    stand.record(vec![sale(1, id(2), 9, 1), sale(2, id(1), 9, 1)]).await;
    let snapshot = read(&stand.client, "", false, None).await;
    let (mark, items) = snapshot.split_last().unwrap();
    let ids: Vec<_> = items.iter().map(|(item, _)| item.standing.clone().unwrap().customer_id).collect();
    assert_eq!(ids, [id(1).to_string(), id(2).to_string()]);
    assert!(items.iter().all(|(item, cursor)| item.previous.is_none() && item.cause == 0 && cursor.is_empty()));

    stand.record(vec![sale(3, id(2), 5, 1)]).await;
    let change = &read(&stand.client, &mark.1, false, Some(1)).await[0].0;
    let (now, before) = (change.standing.clone().unwrap(), change.previous.clone().unwrap());
    assert_eq!((now.relationship(), now.revision), (pb::Relationship::Repeat, 2));
    assert_eq!((before.relationship(), before.revision), (pb::Relationship::FirstTime, 1));
    assert_eq!(change.cause(), pb::ChangeCause::Purchase);
    assert_eq!(Some(now), stand.score(id(2)).await.standing);
}

async fn a_watch_resumes_after_its_cursor(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know((1..=30).map(id));
    let cursor = read(&stand.client, "", false, None).await.pop().unwrap().1;
    for n in 1..=30 {
        stand.record(vec![sale(n, id(n), 9, 1)]).await;
    }
    let first = read(&stand.client, &cursor, false, Some(10)).await;
    let stand = stand.restarted().await;
    let rest = read(&stand.client, &first[9].1, false, Some(20)).await;
    let ids = first.iter().chain(&rest).map(|(change, _)| change.standing.clone().unwrap().customer_id);
    assert_eq!(ids.collect::<Vec<_>>(), (1..=30).map(|n| id(n).to_string()).collect::<Vec<_>>());
}

async fn a_purchase_that_changes_nothing_announces_nothing(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1), id(2)]);
    let cursor = read(&stand.client, "", false, None).await.pop().unwrap().1;
    stand.record(vec![sale(1, id(1), 9, 1)]).await;
    stand.record(vec![sale(1, id(1), 9, 1), sale(2, id(1), 9, 1), back(3, id(1), 8, 1)]).await;
    stand.record(vec![sale(4, id(2), 9, 1)]).await;
    let changes = read(&stand.client, &cursor, false, Some(2)).await;
    let ids: Vec<_> = changes.iter().map(|(change, _)| change.standing.clone().unwrap().customer_id).collect();
    assert_eq!(ids, [id(1).to_string(), id(2).to_string()]);
}

pub(crate) async fn cdnow_ranked(backend: Backend) -> Stand {
    let stand = Stand::at(backend, "1998-07-01T09:00:00Z".parse().unwrap(), |_| {}).await;
    let rows = cdnow::purchases();
    stand.profiles.know(cdnow::customers(&rows));
    cdnow::load(&stand, &rows).await;
    stand.fit("fit").await;
    stand.rank("rank").await;
    stand
}

async fn costs_and_payments_are_announced_as_what_they_are(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1), id(2)]);
    let cursor = read(&stand.client, "", false, None).await.pop().unwrap().1;
    let costs = vec![cost("a", id(1), 3, 100)];
    stand.client.clone().record_service_costs(pb::RecordServiceCostsRequest { costs }).await.unwrap();
    let payments = vec![invoice("a", id(2), 3, 100)];
    stand.client.clone().record_payments(pb::RecordPaymentsRequest { payments }).await.unwrap();
    let causes = read(&stand.client, &cursor, false, Some(2)).await.into_iter().map(|(change, _)| change.cause());
    assert_eq!(causes.collect::<Vec<_>>(), [pb::ChangeCause::ServiceCost, pb::ChangeCause::Payment]);
}

async fn payments_leave_who_is_known_as_they_are(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    stand.record(vec![sale(1, id(1), 9, 1_000)]).await;
    // Announced otherwise than they stand: whoever judges them announces them anew.
    stand.alter("UPDATE customer SET tier = 4").await;
    let announced = async || read(&stand.client, "", false, None).await.remove(0).0.standing.unwrap();
    let before = announced().await;
    let payments = vec![invoice("a", id(1), 3, 100)];
    stand.client.clone().record_payments(pb::RecordPaymentsRequest { payments }).await.unwrap();
    assert_eq!((announced().await, before.tier()), (before, pb::Tier::Small));
    stand.record(vec![sale(2, id(1), 8, 1_000)]).await;
    assert_eq!((announced().await.tier(), announced().await.revision), (pb::Tier::Unspecified, 2));
}

async fn silence_is_announced_once_with_two_replicas(backend: Backend) {
    let stand = cdnow_ranked(backend).await.shared().await;
    let (other, _client) = stand.replica().await;
    let lost = async || {
        let counts = stand.client.clone().get_standing_counts(pb::GetStandingCountsRequest {}).await.unwrap();
        let counts = counts.into_inner().counts;
        let lost = |count: &&pb::StandingCount| count.relationship() == pb::Relationship::Lost;
        counts.iter().filter(lost).map(|count| count.customers).sum::<i64>()
    };
    let before = lost().await;
    let cursor = read(&stand.client, "", false, None).await.pop().unwrap().1;
    // Ten years pass without a purchase: whoever comes back now is a surprise.
    let mut step = SignedDuration::from_hours(24 * 3_650);
    eventually("everybody is lost", || {
        stand.clock.advance(step);
        // Then each replica sweeps in its turn.
        step = SignedDuration::from_secs(60);
        async { lost().await == 2_357 }
    })
    .await;
    let changed = usize::try_from(2_357 - before).unwrap();
    let changes = read(&stand.client, &cursor, false, Some(changed)).await;
    assert!(changes.iter().all(|(change, _)| change.cause() == pb::ChangeCause::Silence));
    let mut seen: BTreeMap<String, i64> = BTreeMap::new();
    for (change, _) in &changes {
        let standing = change.standing.clone().unwrap();
        let before = seen.insert(standing.customer_id, standing.revision);
        assert!(before.is_none_or(|before| before < standing.revision));
    }
    other.stop().await.unwrap();
}

async fn the_feed_adds_up_to_the_announced_standings(backend: Backend) {
    let stand = Stand::at(backend, "1998-07-01T09:00:00Z".parse().unwrap(), |_| {}).await;
    let rows = cdnow::purchases();
    stand.profiles.know(cdnow::customers(&rows));
    stand.profiles.feed();
    // A watcher from before the first purchase sees all that a snapshot shows at the end.
    let client = stand.client.clone();
    let watcher = tokio::spawn(async move {
        let request = pb::WatchScoresRequest::default();
        let mut stream = client.clone().watch_scores(request).await.unwrap().into_inner();
        let mut state: BTreeMap<String, pb::Standing> = BTreeMap::new();
        while let Some(Ok(message)) = stream.next().await {
            if let Some(Event::Change(change)) = message.event {
                let standing = change.standing.unwrap();
                if let Some(before) = state.get(&standing.customer_id) {
                    assert!(before.revision < standing.revision, "{before:?} {standing:?}");
                }
                state.insert(standing.customer_id.clone(), standing);
            }
            let ranked = state.values().filter(|standing| standing.tier() != pb::Tier::Unspecified).count();
            if ranked == 2_357 {
                break;
            }
        }
        state
    });
    cdnow::load(&stand, &rows).await;
    stand.fit("fit").await;
    stand.rank("rank").await;
    let followed = watcher.await.unwrap();
    let snapshot = read(&stand.client, "", false, None).await;
    let announced: BTreeMap<String, pb::Standing> = snapshot
        .into_iter()
        .filter_map(|(change, _)| change.standing)
        .map(|standing| (standing.customer_id.clone(), standing))
        .collect();
    assert_eq!(followed, announced);
}
