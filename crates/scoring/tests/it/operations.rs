//! Fitting and ranking run long: asked for, waited for, replayed, taken over.
use std::time::Duration;

use chassis::{
    Clock, Db, db_tests,
    testing::{Backend, fault, noon},
};
use jiff::SignedDuration;
use proto::{
    common::v1::ErrorReason,
    scoring::v1::{self as pb, operation::Outcome},
};
use scoring::operation::Operation;
use tonic::Code;
use uuid::Uuid;

use crate::{
    cdnow,
    stand::{Client, Stand, id, sale},
};

db_tests!(
    a_replay_gives_the_same_operation,
    a_request_id_with_another_body_is_refused,
    many_fits_of_one_request_at_once_are_one_operation,
    many_rankings_of_one_request_at_once_are_one_operation,
    many_comparisons_of_one_request_at_once_are_one_operation,
    an_operation_that_is_not_there_is_not_found,
    what_cannot_be_fitted_fails_with_the_reason,
    an_operation_of_a_replica_that_died_is_taken_over,
    operations_in_line_survive_a_restart_and_run_once_with_two_replicas,
    waiting_ends_with_the_callers_patience,
    operations_and_models_are_listed_newest_first,
    long_results_come_in_pages_that_a_client_takes,
    a_ranking_of_the_past_counts_what_was_bought_by_then,
);

fn fit_request(request_id: &str) -> pb::FitModelsRequest {
    pb::FitModelsRequest { request_id: request_id.into(), as_of: None, trial: false }
}

/// The CDNOW sample of the first 300 customers, known and recorded.
async fn some_of_cdnow(backend: Backend) -> Stand {
    let stand = Stand::at(backend, "1998-07-01T09:00:00Z".parse().unwrap(), |_| {}).await;
    let last = id(300).to_string();
    let rows: Vec<_> = cdnow::purchases().into_iter().filter(|row| row.customer_id <= last).collect();
    stand.profiles.know(cdnow::customers(&rows));
    cdnow::load(&stand, &rows).await;
    stand
}

async fn a_replay_gives_the_same_operation(backend: Backend) {
    let stand = some_of_cdnow(backend).await;
    let first = stand.client.clone().fit_models(fit_request("one")).await.unwrap().into_inner();
    let done = stand.wait(&first).await;
    // As it is by now, and nothing runs again.
    let replayed = stand.client.clone().fit_models(fit_request("one")).await.unwrap().into_inner();
    assert_eq!(replayed, done);
    let request = pb::RankCustomersRequest { request_id: "one".into(), as_of: None };
    let ranked = stand.client.clone().rank_customers(request.clone()).await.unwrap().into_inner();
    assert_ne!(ranked.operation_id, first.operation_id);
    let done = stand.wait(&ranked).await;
    assert_eq!(stand.client.clone().rank_customers(request).await.unwrap().into_inner(), done);
    let listed = stand.client.clone().list_operations(pb::ListOperationsRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().operations.len(), 2);
}

async fn a_request_id_with_another_body_is_refused(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.client.clone().fit_models(fit_request("one")).await.unwrap();
    let other = pb::FitModelsRequest { trial: true, ..fit_request("one") };
    let refused = stand.client.clone().fit_models(other).await.unwrap_err();
    assert_eq!(fault(&refused), (Code::InvalidArgument, "REQUEST_ID_REUSED".into(), vec!["request_id".into()]));
    let rank = pb::RankCustomersRequest { request_id: "one".into(), as_of: None };
    stand.client.clone().rank_customers(rank.clone()).await.unwrap();
    let other = pb::RankCustomersRequest { as_of: Some(pb::Date { year: 2025, month: 1, day: 1 }), ..rank };
    assert_eq!(fault(&stand.client.clone().rank_customers(other).await.unwrap_err()).1, "REQUEST_ID_REUSED");
}

async fn many_fits_of_one_request_at_once_are_one_operation(backend: Backend) {
    race(backend, async |mut client| client.fit_models(fit_request("one")).await.unwrap().into_inner()).await;
}

async fn many_rankings_of_one_request_at_once_are_one_operation(backend: Backend) {
    let request = || pb::RankCustomersRequest { request_id: "one".into(), as_of: None };
    race(backend, async |mut client| client.rank_customers(request()).await.unwrap().into_inner()).await;
}

async fn many_comparisons_of_one_request_at_once_are_one_operation(backend: Backend) {
    let until = Some(pb::Date { year: 2020, month: 1, day: 1 });
    let request = || pb::HoldOutRequest { request_id: "one".into(), until, as_of: None };
    race(backend, async |mut client| client.hold_out(request()).await.unwrap().into_inner()).await;
}

/// Twenty callers at two replicas, all with one request id, get one operation, and no other is there.
async fn race(backend: Backend, ask: impl AsyncFn(Client) -> pb::Operation) {
    let stand = Stand::new(backend).await.shared().await;
    let (_other, other_client) = stand.replica().await;
    let callers = (0..20).map(|n| ask(if n % 2 == 0 { stand.client.clone() } else { other_client.clone() }));
    let operations = futures::future::join_all(callers).await;
    let mut ids: Vec<_> = operations.into_iter().map(|operation| operation.operation_id).collect();
    assert_eq!(ids.len(), 20);
    ids.dedup();
    let listed = stand.client.clone().list_operations(pb::ListOperationsRequest::default()).await.unwrap();
    let listed = listed.into_inner().operations.into_iter().map(|operation| operation.operation_id);
    assert_eq!(ids, listed.collect::<Vec<_>>());
}

async fn an_operation_that_is_not_there_is_not_found(backend: Backend) {
    let stand = Stand::new(backend).await;
    let operation_id = Uuid::max().to_string();
    let request = pb::GetOperationRequest { operation_id: operation_id.clone() };
    assert_eq!(fault(&stand.client.clone().get_operation(request).await.unwrap_err()).1, "NOT_FOUND");
    let request = pb::WaitOperationRequest { operation_id, timeout: None };
    assert_eq!(fault(&stand.client.clone().wait_operation(request).await.unwrap_err()).1, "NOT_FOUND");
}

async fn what_cannot_be_fitted_fails_with_the_reason(backend: Backend) {
    let stand = Stand::new(backend).await;
    let failure = |operation: pb::Operation| match &operation.outcome {
        Some(Outcome::Error(error)) => (operation.state(), error.reason(), error.message.clone()),
        other => panic!("{other:?}"),
    };
    let (state, reason, message) = failure(stand.fit("nobody").await);
    assert_eq!((state, reason), (pb::OperationState::Failed, ErrorReason::NotFittable));
    assert!(message.contains("no customers"), "{message}");
    stand.profiles.know([id(1), id(2)]);
    stand.record(vec![sale(1, id(1), 5, 10), sale(2, id(2), 6, 10)]).await;
    let (_, reason, message) = failure(stand.fit("nobody came back").await);
    assert_eq!(reason, ErrorReason::NotFittable);
    assert!(
        message.starts_with("nothing can be fitted: BG/NBD, MBG/NBD, Pareto/NBD") && message.contains("came back"),
        "{message}"
    );
    assert_eq!(stand.score(id(1)).await.model_id, "");
}

async fn an_operation_of_a_replica_that_died_is_taken_over(backend: Backend) {
    let stand = some_of_cdnow(backend).await.shared().await;
    // What a replica leaves that dies in the midst of it: running, under a lease that nobody renews.
    let clock = stand.clock.clone();
    let db = Db::connect::<scoring::migrations::Migrator>(stand.db.url(), &clock).await.unwrap();
    let lost = chassis::Ids::new(clock.clone()).next();
    let now = clock.now_micros();
    let day = scoring::calendar::of_date(jiff::civil::date(1998, 7, 1));
    let operation = &Operation::queued(lost, pb::OperationKind::Fit, day, false, clock.now());
    let dead = scoring::store::operation::Lease { holder: Uuid::max(), now, until: now + 10_000_000 };
    db.run_tx("test", |tx| {
        Box::pin(async move {
            scoring::store::operation::insert(tx, operation).await?;
            let claimed = scoring::store::operation::claim(tx, dead).await?;
            assert_eq!(claimed.unwrap().id, lost);
            Ok::<_, chassis::Error>(())
        })
    })
    .await
    .unwrap();
    // The next one, asked for later, waits in line behind it.
    stand.clock.advance(SignedDuration::from_secs(1));
    let next = stand.client.clone().fit_models(fit_request("next")).await.unwrap().into_inner();
    let timeout = Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 });
    let request = pb::WaitOperationRequest { operation_id: next.operation_id.clone(), timeout };
    let waiting = stand.client.clone().wait_operation(request).await.unwrap().into_inner();
    assert_eq!(waiting.state(), pb::OperationState::Queued);
    stand.clock.advance(SignedDuration::from_secs(11));
    assert_eq!(stand.wait(&next).await.state(), pb::OperationState::Succeeded);
    let request = pb::GetOperationRequest { operation_id: lost.to_string() };
    let taken_over = stand.client.clone().get_operation(request).await.unwrap().into_inner();
    assert_eq!(taken_over.state(), pb::OperationState::Succeeded);
}

async fn operations_in_line_survive_a_restart_and_run_once_with_two_replicas(backend: Backend) {
    let stand = some_of_cdnow(backend).await;
    let mut asked = Vec::new();
    for n in 0..4 {
        asked.push(stand.client.clone().fit_models(fit_request(&format!("{n}"))).await.unwrap().into_inner());
    }
    let stand = stand.shared().await;
    let (other, _client) = stand.replica().await;
    for operation in &asked {
        assert_eq!(stand.wait(operation).await.state(), pb::OperationState::Succeeded);
    }
    // Each fit kept its four models once.
    let models = stand.client.clone().list_models(pb::ListModelsRequest::default()).await.unwrap().into_inner().models;
    assert_eq!(models.len(), 16);
    assert_eq!(models.iter().filter(|model| model.in_force).count(), 2);
    other.stop().await.unwrap();
}

async fn long_results_come_in_pages_that_a_client_takes(backend: Backend) {
    let stand = Stand::new(backend).await;
    let db = Db::connect::<scoring::migrations::Migrator>(stand.db.url(), &Clock::mock(noon())).await.unwrap();
    // Comparisons over more weeks than there were, about a megabyte each.
    let week = pb::HoldOutWeek { end: Some(pb::Date { year: 2026, month: 1, day: 14 }), ..Default::default() };
    let assessments = vec![pb::HoldOutAssessment { weeks: vec![week; 100_000], ..Default::default() }];
    let outcome = &scoring::operation::Outcome::HeldOut(pb::HoldOutResult { assessments, ..Default::default() });
    for number in 1..=5 {
        let operation = &Operation::queued(Uuid::from_u128(number), pb::OperationKind::HoldOut, 0, false, noon());
        let now = noon().as_microsecond();
        let lease = scoring::store::operation::Lease { holder: Uuid::max(), now, until: now + 10_000_000 };
        db.run_tx("test", |tx| {
            Box::pin(async move {
                scoring::store::operation::insert(tx, operation).await?;
                scoring::store::operation::claim(tx, lease).await?;
                scoring::store::operation::end(tx, operation.id, lease.holder, outcome).await
            })
        })
        .await
        .unwrap();
    }
    let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
    while pages == 0 || !token.is_empty() {
        let request = pb::ListOperationsRequest { page_size: 1_000, page_token: token };
        let reply = stand.client.clone().list_operations(request).await.unwrap().into_inner();
        seen.extend(reply.operations.into_iter().map(|operation| operation.operation_id));
        (token, pages) = (reply.next_page_token, pages + 1);
    }
    assert!(pages > 1, "{pages}");
    assert_eq!(seen, (1..=5).rev().map(|number| Uuid::from_u128(number).to_string()).collect::<Vec<_>>());
}

async fn waiting_ends_with_the_callers_patience(backend: Backend) {
    let stand = Stand::new(backend).await;
    // First in line stands one that a replica holds that does not work on it.
    let db = Db::connect::<scoring::migrations::Migrator>(stand.db.url(), &Clock::mock(noon())).await.unwrap();
    let held = Uuid::from_u128(1);
    let operation = &Operation::queued(held, pb::OperationKind::Rank, 0, false, noon());
    let now = noon().as_microsecond();
    let dead = scoring::store::operation::Lease { holder: Uuid::max(), now, until: now + 10_000_000 };
    db.run_tx("test", |tx| {
        Box::pin(async move {
            scoring::store::operation::insert(tx, operation).await?;
            scoring::store::operation::claim(tx, dead).await
        })
    })
    .await
    .unwrap();
    let mut request = tonic::Request::new(pb::WaitOperationRequest { operation_id: held.to_string(), timeout: None });
    request.set_timeout(Duration::from_millis(700));
    let reply = stand.client.clone().wait_operation(request).await.unwrap().into_inner();
    assert_eq!(reply.state(), pb::OperationState::Running);
    let timeout = Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 });
    let request = pb::WaitOperationRequest { operation_id: held.to_string(), timeout };
    let reply = stand.client.clone().wait_operation(request).await.unwrap().into_inner();
    assert_eq!(reply.outcome, None);
}

async fn operations_and_models_are_listed_newest_first(backend: Backend) {
    let stand = some_of_cdnow(backend).await;
    let mut expected = Vec::new();
    for n in 0..3 {
        expected.insert(0, stand.fit(&format!("{n}")).await.operation_id);
        stand.clock.advance(SignedDuration::from_secs(60));
    }
    let (mut listed, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListOperationsRequest { page_size: 2, page_token: token };
        let reply = stand.client.clone().list_operations(request).await.unwrap().into_inner();
        listed.extend(reply.operations.into_iter().map(|operation| operation.operation_id));
        token = reply.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, expected);
    let (mut models, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListModelsRequest { page_size: 4, page_token: token };
        let reply = stand.client.clone().list_models(request).await.unwrap().into_inner();
        models.extend(reply.models);
        token = reply.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(models.len(), 12);
    let times: Vec<_> = models.iter().map(|model| model.fit_time.unwrap().seconds).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
    let in_force: Vec<_> = models.iter().map(|model| model.in_force).collect();
    assert_eq!(in_force[..4].iter().filter(|in_force| **in_force).count(), 2, "{in_force:?}");
    assert_eq!(
        stand.score(id(1)).await.model_id,
        models[..4].iter().find(|m| m.in_force && m.kind() != pb::ModelKind::GammaGamma).unwrap().model_id
    );
}

async fn a_ranking_of_the_past_counts_what_was_bought_by_then(backend: Backend) {
    let stand = some_of_cdnow(backend).await;
    stand.fit("now").await;
    stand.rank("now").await;
    let revenue = |pyramid: &pb::GetPyramidResponse| {
        pyramid.tiers.iter().map(|tier| crate::stand::minor(tier.revenue.as_ref())).sum::<i64>()
    };
    let now = stand.client.clone().get_pyramid(pb::GetPyramidRequest::default()).await.unwrap().into_inner();
    let as_of = pb::Date { year: 1997, month: 1, day: 31 };
    let request = pb::RankCustomersRequest { request_id: "past".into(), as_of: Some(as_of) };
    let operation = stand.client.clone().rank_customers(request).await.unwrap().into_inner();
    let operation = stand.wait(&operation).await;
    assert!(matches!(operation.outcome, Some(Outcome::Rank(_))), "{operation:?}");
    let past = stand.client.clone().get_pyramid(pb::GetPyramidRequest::default()).await.unwrap().into_inner();
    assert_eq!(past.as_of, Some(as_of));
    let rows: Vec<_> = cdnow::purchases().into_iter().filter(|row| row.customer_id <= id(300).to_string()).collect();
    let until = "1997-02-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second();
    let by_then = rows.iter().filter(|row| row.purchase_time.unwrap().seconds < until);
    let expected: i64 = by_then.clone().map(|row| row.amount.as_ref().unwrap().minor_units).sum();
    assert_eq!(revenue(&past), expected);
    let buyers: std::collections::BTreeSet<_> = by_then.map(|row| &row.customer_id).collect();
    assert_eq!(past.customers, buyers.len() as i64);
    assert!(revenue(&now) > revenue(&past));
}
