//! Scores of now: from memory where the database is this process's alone, and never older than what was acknowledged.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chassis::testing::{Backend, eventually};
use jiff::SignedDuration;
use proto::scoring::v1 as pb;
use uuid::Uuid;

use crate::stand::{Client, Stand, back, cost, id, minor, sale};

chassis::db_tests!(
    only_who_is_alone_with_the_database_answers_from_memory,
    a_score_knows_of_every_purchase_acknowledged_before_the_question,
    models_and_cut_offs_are_in_the_next_answer,
    whatever_is_written_memory_says_the_same_as_the_database,
);

async fn only_who_is_alone_with_the_database_answers_from_memory(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    stand.record(vec![sale(1, id(1), 5, 100)]).await;
    let sales = async |stand: &Stand| minor(stand.score(id(1)).await.summary.unwrap().sales.as_ref());
    assert_eq!(sales(&stand).await, 100);
    // What nobody who is alone has to reckon with.
    stand.alter("UPDATE customer SET sales_minor = 700").await;
    assert_eq!(sales(&stand).await, if backend == Backend::Sqlite { 100 } else { 700 });
    let stand = stand.shared().await;
    assert_eq!(sales(&stand).await, 700);
    stand.alter("UPDATE customer SET sales_minor = 800").await;
    assert_eq!(sales(&stand).await, 800);
}

async fn sold(client: &mut Client, customer: u128) -> i64 {
    let request = pb::GetScoreRequest { customer_id: id(customer).to_string(), ..Default::default() };
    let score = client.get_score(request).await.unwrap().into_inner().score.unwrap();
    minor(score.summary.unwrap().sales.as_ref())
}

async fn a_score_knows_of_every_purchase_acknowledged_before_the_question(backend: Backend) {
    const CUSTOMERS: u128 = 8;
    const ROUNDS: i64 = 40;
    let stand = Stand::new(backend).await;
    stand.profiles.know((1..=CUSTOMERS + 1).map(id));
    stand
        .record((1..=CUSTOMERS + 1).map(|customer| sale(format!("first-{customer}"), id(customer), 9, 1)).collect())
        .await;
    let over = Arc::new(AtomicBool::new(false));
    // They fill the memory at every moment.
    let readers = (0..4_u128).map(|reader| {
        let (mut client, over) = (stand.client.clone(), Arc::clone(&over));
        tokio::spawn(async move {
            let mut seen = vec![0; CUSTOMERS as usize + 1];
            for turn in reader.. {
                let customer = 1 + turn % (CUSTOMERS + 1);
                let before = &mut seen[customer as usize - 1];
                let now = sold(&mut client, customer).await;
                assert!(now >= *before, "{now} after {before}");
                *before = now;
                if over.load(Ordering::SeqCst) {
                    return;
                }
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    // Callers who go away before they are answered, each time at another moment.
    let gone = tokio::spawn({
        let (client, over) = (stand.client.clone(), Arc::clone(&over));
        async move {
            for number in 0_u64.. {
                let purchases = vec![sale(format!("gone-{number}"), id(CUSTOMERS + 1), 3, 1)];
                let mut client = client.clone();
                let call = client.record_purchases(pb::RecordPurchasesRequest { purchases });
                let _ = tokio::time::timeout(Duration::from_micros(number * 37 % 3_000), call).await;
                if over.load(Ordering::SeqCst) {
                    return;
                }
            }
        }
    });
    let writers = (1..=CUSTOMERS).map(|customer| {
        let mut client = stand.client.clone();
        tokio::spawn(async move {
            for round in 1..=ROUNDS {
                let purchases = vec![sale(format!("{customer}-{round}"), id(customer), round % 7, 1)];
                client.record_purchases(pb::RecordPurchasesRequest { purchases }).await.unwrap();
                assert_eq!(sold(&mut client, customer).await, 1 + round);
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    over.store(true, Ordering::SeqCst);
    gone.await.unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
    // Whether or not those who went away were heard: once the next purchase is acknowledged, the answer is what the books say.
    stand.record(vec![sale("last", id(CUSTOMERS + 1), 2, 1)]).await;
    let score = stand.score(id(CUSTOMERS + 1)).await;
    let request =
        pb::GetScoreRequest { customer_id: id(CUSTOMERS + 1).to_string(), as_of: score.as_of, ..Default::default() };
    let added_up = stand.client.clone().get_score(request).await.unwrap().into_inner().score.unwrap();
    assert_eq!(score, added_up);
}

async fn models_and_cut_offs_are_in_the_next_answer(backend: Backend) {
    let (stand, customers) = crate::scores::ranked(backend).await;
    let mut model = stand.score(customers[0]).await.model_id;
    assert_eq!(stand.score(customers[0]).await.standing.unwrap().tier(), pb::Tier::Unspecified);
    stand.rank("rank").await;
    assert_ne!(stand.score(customers[0]).await.standing.unwrap().tier(), pb::Tier::Unspecified);
    for fit in ["second", "third"] {
        stand.fit(fit).await;
        let next = stand.score(customers[0]).await.model_id;
        assert_ne!(std::mem::replace(&mut model, next.clone()), next);
    }
}

/// What GetScore says of these customers, which must be what BatchGetScores says, who reads.
async fn alike(stand: &Stand, customers: &[Uuid]) -> Vec<pb::Score> {
    let customer_ids = customers.iter().map(Uuid::to_string).collect();
    let request = pb::BatchGetScoresRequest { customer_ids, ..Default::default() };
    let read = stand.client.clone().batch_get_scores(request).await.unwrap().into_inner().scores;
    // The first time may fill the memory, the second asks it.
    for _ in 0..2 {
        for (customer, read) in customers.iter().zip(&read) {
            assert_eq!(&stand.score(*customer).await, read);
        }
    }
    read
}

async fn whatever_is_written_memory_says_the_same_as_the_database(backend: Backend) {
    let (stand, customers) = crate::scores::ranked(backend).await;
    stand.profiles.feed();
    let some = [customers[0], customers[1], customers[2], customers[700]];
    let mut seen = vec![alike(&stand, &some).await];
    let mut check = async |what: &str| {
        let now = alike(&stand, &some).await;
        assert_ne!(Some(&now), seen.last(), "nothing came of it: {what}");
        seen.push(now);
    };
    stand.rank("rank").await;
    check("a ranking").await;
    let row = |number: &str, customer: Uuid, cents: i64| pb::Purchase {
        purchase_time: Some(chassis::clock::to_proto(stand.clock.now() - SignedDuration::from_hours(30))),
        ..sale(number, customer, 0, cents)
    };
    stand.record(vec![row("a", some[0], 4_000)]).await;
    check("a sale").await;
    stand.record(vec![row("a", some[0], 5_000)]).await;
    check("its correction").await;
    stand.record(vec![row("a", some[1], 5_000)]).await;
    check("its move to another customer").await;
    let given_back = pb::Purchase { kind: back("", some[1], 0, 0).kind, ..row("b", some[1], 900) };
    stand.record(vec![given_back]).await;
    check("a return").await;
    let batch = some.map(|customer| row(&format!("batch-{customer}"), customer, 70));
    stand.record(batch.into()).await;
    check("a batch").await;
    let costs = vec![pb::ServiceCost { cost_time: row("", some[2], 0).purchase_time, ..cost("c", some[2], 0, 300) }];
    let request = pb::RecordServiceCostsRequest { costs };
    stand.client.clone().record_service_costs(request).await.unwrap();
    check("a service cost").await;
    stand.fit("again").await;
    check("a fit").await;
    // By silence, which the next sweep announces: since when is told by the row.
    let announced = async || stand.score(some[3]).await.standing.unwrap().revision;
    let before = announced().await;
    stand.clock.advance(SignedDuration::from_hours(24 * 400));
    // All four in one transaction.
    eventually("the silence is announced", || async { announced().await != before }).await;
    check("a sweep").await;
    let first = id(9_000_000);
    stand.profiles.put(first, true, false);
    stand.record(vec![row("first", first, 100)]).await;
    alike(&stand, &[first, some[0]]).await;
}
