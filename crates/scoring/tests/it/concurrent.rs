//! Many at once.
use std::time::Duration;

use chassis::{
    clock::to_proto,
    db_tests,
    testing::{Backend, eventually, noon},
};
use proto::scoring::v1 as pb;
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, TransactionTrait};
use uuid::Uuid;

use crate::{
    segments,
    stand::{Client, Stand, id, minor, sale},
};

db_tests!(
    concurrent_writers_on_the_same_customers_lose_nothing,
    the_same_rows_from_many_callers_count_once,
    one_purchase_per_call_is_recorded_by_many_callers_at_once,
    a_score_as_of_a_moment_is_all_of_one_moment,
    who_is_first_recorded_while_a_segment_comes_is_in_it,
    who_is_first_recorded_while_a_ranking_comes_has_a_tier,
);

async fn record(mut client: Client, purchases: Vec<pb::Purchase>) -> pb::PurchaseCounts {
    let reply = client.record_purchases(pb::RecordPurchasesRequest { purchases }).await.unwrap().into_inner();
    assert_eq!(reply.rejections, []);
    reply.counts.unwrap()
}

async fn concurrent_writers_on_the_same_customers_lose_nothing(backend: Backend) {
    let stand = Stand::new(backend).await.shared().await;
    stand.profiles.know((1..=5).map(id));
    let (other, other_client) = stand.replica().await;
    // Two replicas, small and large batches, customers in different orders, nobody known at first.
    let writers = (0..16_i64).map(|writer| {
        let client = if writer % 2 == 0 { stand.client.clone() } else { other_client.clone() };
        tokio::spawn(async move {
            for round in 0..5_i64 {
                let rows = if writer % 4 < 2 { 5 } else { 25 };
                let row = |n: i64| {
                    let customer = 1 + (n * (1 + writer)) % 5;
                    sale(format!("{writer}-{round}-{n}"), id(customer as u128), 1 + (n + writer + round) % 30, 10)
                };
                record(client.clone(), (0..rows).map(row).collect()).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let mut sales = 0;
    for customer in 1..=5 {
        let kept = stand.score(id(customer)).await;
        sales += minor(kept.summary.as_ref().unwrap().sales.as_ref());
        let request = pb::GetScoreRequest {
            customer_id: id(customer).to_string(),
            as_of: kept.as_of,
            with_evidence: false,
            ..Default::default()
        };
        let added_up = stand.client.clone().get_score(request).await.unwrap().into_inner().score.unwrap();
        assert_eq!(kept, added_up);
    }
    assert_eq!(sales, 10 * 5 * 8 * (5 + 25));
    other.stop().await.unwrap();
}

async fn the_same_rows_from_many_callers_count_once(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know((1..=4).map(id));
    let rows: Vec<_> = (0..40).map(|n| sale(n, id(1 + n % 4), (n % 10) as i64, 10)).collect();
    let callers: Vec<_> = (0..12)
        .map(|caller| {
            let mut rows = rows.clone();
            rows.rotate_left(caller * 3);
            tokio::spawn(record(stand.client.clone(), rows))
        })
        .collect();
    let mut sum = pb::PurchaseCounts::default();
    for caller in callers {
        let counts = caller.await.unwrap();
        sum.recorded += counts.recorded;
        sum.unchanged += counts.unchanged;
        assert_eq!(counts.replaced, 0);
    }
    assert_eq!((sum.recorded, sum.unchanged), (40, 40 * 11));
    assert_eq!(minor(stand.score(id(1)).await.summary.unwrap().sales.as_ref()), 100);
}

async fn one_purchase_per_call_is_recorded_by_many_callers_at_once(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know((1..=20).map(id));
    let callers: Vec<_> = (0..200_i64)
        .map(|n| tokio::spawn(record(stand.client.clone(), vec![sale(n, id(1 + (n % 20) as u128), n % 7, 1)])))
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap().recorded, 1);
    }
    let request =
        pb::BatchGetScoresRequest { customer_ids: (1..=20).map(|n| id(n).to_string()).collect(), ..Default::default() };
    let scores = stand.client.clone().batch_get_scores(request).await.unwrap().into_inner().scores;
    let sales: i64 = scores.iter().map(|score| minor(score.summary.as_ref().unwrap().sales.as_ref())).sum();
    assert_eq!(sales, 200);
}

async fn a_score_as_of_a_moment_is_all_of_one_moment(backend: Backend) {
    let stand = Stand::new(backend).await;
    let customers: Vec<_> = (1..=40).map(id).collect();
    stand.profiles.know(customers.iter().copied());
    stand.record(customers.iter().map(|customer| sale(customer, *customer, 9, 1)).collect()).await;
    let mut client = stand.client.clone();
    let request = pb::BatchGetScoresRequest {
        customer_ids: customers.iter().map(ToString::to_string).collect(),
        as_of: Some(to_proto(noon())),
        with_evidence: false,
        ..Default::default()
    };
    // The second purchase of each is announced with it, so the revision tells which purchases are to be seen.
    let recording = customers.iter().map(|customer| {
        let again = sale(format!("{customer} again"), *customer, 5, 1);
        tokio::spawn(record(stand.client.clone(), vec![again]))
    });
    let mut recording: Vec<_> = recording.collect();
    while !recording.is_empty() {
        recording.retain(|call| !call.is_finished());
        for score in client.batch_get_scores(request.clone()).await.unwrap().into_inner().scores {
            assert_eq!(score.standing.unwrap().revision, score.summary.unwrap().occasions);
        }
    }
}

/// A transaction that writes a customer, and holds up whoever records that customer for the first time after they judged them.
struct HoldUp {
    connection: DatabaseConnection,
    transaction: DatabaseTransaction,
}

impl HoldUp {
    /// Of a new customer; another one must be there.
    async fn new(stand: &Stand, customer: Uuid) -> Self {
        let connection = sea_orm::Database::connect(stand.db.url()).await.unwrap();
        let transaction = connection.begin().await.unwrap();
        let statement = format!(
            "CREATE TEMPORARY TABLE one ON COMMIT DROP AS SELECT * FROM customer LIMIT 1; \
             UPDATE one SET customer_id = '{customer}'; INSERT INTO customer SELECT * FROM one"
        );
        transaction.execute_unprepared(&statement).await.unwrap();
        Self { connection, transaction }
    }

    /// Until somebody is held up.
    async fn holds(&self) {
        let text = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let statement = sea_orm::Statement::from_string(sea_orm::DatabaseBackend::Postgres, text);
        let held = async || self.connection.query_one_raw(statement.clone()).await.unwrap().is_some();
        eventually("the recording waits", held).await;
    }

    async fn end(self) {
        self.transaction.rollback().await.unwrap();
        self.connection.close().await.unwrap();
    }
}

/// Long enough for what does not wait for those who are writing.
const SOON: Duration = Duration::from_secs(2);

async fn who_is_first_recorded_while_a_segment_comes_is_in_it(backend: Backend) {
    // SQLite has one writer at a time.
    if backend == Backend::Sqlite {
        return;
    }
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1), id(2)]);
    stand.record(vec![sale(1, id(1), 3, 1_000)]).await;
    let hold_up = HoldUp::new(&stand, id(2)).await;
    let recording = tokio::spawn(record(stand.client.clone(), vec![sale(2, id(2), 3, 1_000)]));
    hold_up.holds().await;
    segments::try_create(&stand.client, segments::segment("bought", "occasions > 0")).await.unwrap();
    let ready = segments::ready(&stand, "bought");
    let _ = tokio::time::timeout(SOON, ready).await;
    hold_up.end().await;
    assert_eq!(recording.await.unwrap().recorded, 1);
    segments::ready(&stand, "bought").await;
    assert_eq!(segments::members(&stand.client, "bought").await, [id(1), id(2)].into());
}

async fn who_is_first_recorded_while_a_ranking_comes_has_a_tier(backend: Backend) {
    if backend == Backend::Sqlite {
        return;
    }
    let (stand, _) = crate::scores::ranked(backend).await;
    // None of the sample.
    let new = id(1_000_000);
    stand.profiles.know([new]);
    let hold_up = HoldUp::new(&stand, new).await;
    let time = Some(to_proto(stand.clock.now()));
    let purchase = pb::Purchase { purchase_time: time, ..sale("new", new, 0, 1_000) };
    let recording = tokio::spawn(record(stand.client.clone(), vec![purchase]));
    hold_up.holds().await;
    let request = pb::RankCustomersRequest { request_id: "rank".into(), ..Default::default() };
    let operation = stand.client.clone().rank_customers(request).await.unwrap().into_inner();
    let _ = tokio::time::timeout(SOON, stand.wait(&operation)).await;
    hold_up.end().await;
    assert_eq!(recording.await.unwrap().recorded, 1);
    assert_eq!(stand.wait(&operation).await.state(), pb::OperationState::Succeeded);
    // Announced without a tier, and then with theirs.
    let standing = stand.score(new).await.standing.unwrap();
    assert_eq!((standing.tier() != pb::Tier::Unspecified, standing.revision), (true, 2));
}
