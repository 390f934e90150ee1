//! Many at once.
use chassis::{
    clock::to_proto,
    db_tests,
    testing::{Backend, noon},
};
use proto::scoring::v1 as pb;

use crate::stand::{Client, Stand, id, minor, sale};

db_tests!(
    concurrent_writers_on_the_same_customers_lose_nothing,
    the_same_rows_from_many_callers_count_once,
    one_purchase_per_call_is_recorded_by_many_callers_at_once,
    a_score_as_of_a_moment_is_all_of_one_moment,
);

async fn record(mut client: Client, purchases: Vec<pb::Purchase>) -> pb::PurchaseCounts {
    let reply = client.record_purchases(pb::RecordPurchasesRequest { purchases }).await.unwrap().into_inner();
    assert_eq!(reply.rejections, []);
    reply.counts.unwrap()
}

async fn concurrent_writers_on_the_same_customers_lose_nothing(backend: Backend) {
    let stand = Stand::new(backend).await;
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
