//! Scores as they are asked for.
use chassis::{
    clock::to_proto,
    db_tests,
    testing::{Backend, fault, noon},
};
use jiff::SignedDuration;
use proto::scoring::v1 as pb;
use tonic::Code;

use crate::{
    cdnow,
    stand::{Stand, id, minor, sale},
};

db_tests!(
    a_score_of_the_past_counts_only_purchases_dated_up_to_then,
    a_customer_nobody_knows_is_not_found,
    a_batch_answers_in_the_order_asked_for_and_lists_whom_it_does_not_know,
    evidence_comes_where_it_is_asked_for,
    a_batch_that_no_client_takes_is_refused_by_what_was_asked_for,
    every_standing_is_announced_as_it_is_computed,
    another_replicas_fit_and_ranking_are_in_force_at_once,
);

async fn a_score_of_the_past_counts_only_purchases_dated_up_to_then(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    stand.record([30, 20, 10].map(|days| sale(days, id(1), days, 100)).to_vec()).await;
    let at = async |days: i64, seconds: i64| {
        let moment = noon() - SignedDuration::from_hours(24 * days) + SignedDuration::from_secs(seconds);
        let request = pb::GetScoreRequest {
            customer_id: id(1).to_string(),
            as_of: Some(to_proto(moment)),
            with_evidence: false,
            ..Default::default()
        };
        let score = stand.client.clone().get_score(request).await.unwrap().into_inner().score.unwrap();
        assert_eq!(score.as_of, Some(to_proto(moment)));
        score
    };
    // To the second, also within a day.
    for (days, seconds, occasions) in [(30, -1, 0), (30, 0, 1), (20, -1, 1), (20, 0, 2), (0, 0, 3)] {
        let score = at(days, seconds).await;
        assert_eq!(score.summary.as_ref().map_or(0, |summary| summary.occasions), occasions, "{days} {seconds}");
    }
    let summary = at(15, 0).await.summary.unwrap();
    assert_eq!((summary.recency_weeks, summary.age_weeks), (10.0 / 7.0, 15.0 / 7.0));
}

async fn a_customer_nobody_knows_is_not_found(backend: Backend) {
    let stand = Stand::new(backend).await;
    for as_of in [None, Some(to_proto(noon()))] {
        let request =
            pb::GetScoreRequest { customer_id: id(1).to_string(), as_of, with_evidence: false, ..Default::default() };
        let refused = stand.client.clone().get_score(request).await.unwrap_err();
        assert_eq!(fault(&refused), (Code::NotFound, "NOT_FOUND".into(), vec![]));
    }
    let request = pb::ListPurchasesRequest { customer_id: id(1).to_string(), ..Default::default() };
    assert_eq!(stand.client.clone().list_purchases(request).await.unwrap().into_inner().purchases, []);
}

async fn a_batch_answers_in_the_order_asked_for_and_lists_whom_it_does_not_know(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1), id(2)]);
    stand.record(vec![sale(1, id(1), 1, 100), sale(2, id(2), 1, 200)]).await;
    let asked = [2, 9, 1, 2].map(|n| id(n).to_string());
    let request = pb::BatchGetScoresRequest { customer_ids: asked.to_vec(), ..Default::default() };
    let reply = stand.client.clone().batch_get_scores(request).await.unwrap().into_inner();
    let values: Vec<_> = reply.scores.iter().map(|score| minor(score.realised_value.as_ref())).collect();
    assert_eq!((values, reply.not_found), (vec![200, 100, 200], vec![id(9).to_string()]));
}

async fn evidence_comes_where_it_is_asked_for(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    stand.record(vec![sale(1, id(1), 1, 100)]).await;
    assert_eq!(stand.score(id(1)).await.evidence, []);
    let request =
        pb::GetScoreRequest { customer_id: id(1).to_string(), as_of: None, with_evidence: true, ..Default::default() };
    let evidence = stand.client.clone().get_score(request).await.unwrap().into_inner().score.unwrap().evidence;
    let states: Vec<_> = evidence.iter().map(|evidence| evidence.state.as_str()).collect();
    assert_eq!(states, ["relationship", "stage", "tier", "code"]);
}

/// CDNOW, fitted and ranked on its last day.
pub(crate) async fn ranked(backend: Backend) -> (Stand, Vec<uuid::Uuid>) {
    let stand = Stand::at(backend, "1998-07-01T09:00:00Z".parse().unwrap(), |_| {}).await;
    let rows = cdnow::purchases();
    let customers = cdnow::customers(&rows);
    stand.profiles.know(customers.iter().copied());
    cdnow::load(&stand, &rows).await;
    assert_eq!(stand.fit("fit").await.state(), pb::OperationState::Succeeded);
    (stand, customers.into_iter().collect())
}

async fn a_batch_that_no_client_takes_is_refused_by_what_was_asked_for(backend: Backend) {
    let (stand, customers) = ranked(backend).await;
    stand.rank("rank").await;
    let mut key = None;
    for customer in &customers {
        if stand.score(*customer).await.standing.unwrap().tier() == pb::Tier::Major {
            key = Some(customer.to_string());
            break;
        }
    }
    let request = |times| pb::BatchGetScoresRequest {
        customer_ids: vec![key.clone().unwrap(); times],
        with_evidence: true,
        with_assessment: true,
        ..Default::default()
    };
    let refused = stand.client.clone().batch_get_scores(request(1_000)).await.unwrap_err();
    assert_eq!(fault(&refused), (Code::InvalidArgument, "INVALID_FIELD".into(), vec!["customer_ids".into()]));
    assert_eq!(stand.client.clone().batch_get_scores(request(250)).await.unwrap().into_inner().scores.len(), 250);
}

async fn every_standing_is_announced_as_it_is_computed(backend: Backend) {
    let (stand, customers) = ranked(backend).await;
    let operation = stand.rank("rank").await;
    let Some(pb::operation::Outcome::Rank(result)) = operation.outcome else { panic!("{operation:?}") };
    // Nobody had a tier before.
    assert_eq!((result.customers, result.changed), (2_357, 2_357));
    let mut tiers = [0; 5];
    let mut codes = [0; 4];
    for chunk in customers.chunks(1_000) {
        let customer_ids = chunk.iter().map(uuid::Uuid::to_string).collect();
        let request = pb::BatchGetScoresRequest { customer_ids, ..Default::default() };
        for score in stand.client.clone().batch_get_scores(request).await.unwrap().into_inner().scores {
            let standing = score.standing.unwrap();
            assert!(!standing.estimated && (0.0..=1.0).contains(&score.p_alive));
            tiers[standing.tier as usize] += 1;
            codes[standing.code as usize] += 1;
        }
    }
    assert_eq!(tiers, [0, 24, 448, 707, 1_178]);
    let counts = stand.client.clone().get_standing_counts(pb::GetStandingCountsRequest {}).await.unwrap();
    let counts = counts.into_inner().counts;
    for (tier, expected) in tiers.iter().enumerate() {
        let announced: i64 = counts.iter().filter(|c| c.tier == tier as i32).map(|c| c.customers).sum();
        assert_eq!(announced, *expected);
    }
    for (code, expected) in codes.iter().enumerate() {
        let announced: i64 = counts.iter().filter(|c| c.code == code as i32).map(|c| c.customers).sum();
        assert_eq!(announced, *expected);
    }
    // Once more changes nothing.
    let operation = stand.rank("again").await;
    let Some(pb::operation::Outcome::Rank(result)) = operation.outcome else { panic!("{operation:?}") };
    assert_eq!(result.changed, 0);
}

async fn another_replicas_fit_and_ranking_are_in_force_at_once(backend: Backend) {
    let (stand, customers) = ranked(backend).await;
    let stand = stand.shared().await;
    let (other, other_client) = stand.replica().await;
    let request = pb::GetScoreRequest { customer_id: customers[0].to_string(), ..Default::default() };
    let before = other_client.clone().get_score(request.clone()).await.unwrap().into_inner().score.unwrap();
    assert_eq!(before.standing.unwrap().tier(), pb::Tier::Unspecified);
    stand.rank("rank").await;
    stand.fit("again").await;
    let here = stand.client.clone().get_score(request.clone()).await.unwrap().into_inner().score.unwrap();
    let there = other_client.clone().get_score(request).await.unwrap().into_inner().score.unwrap();
    assert_eq!(here, there);
    assert_ne!(there.standing.unwrap().tier(), pb::Tier::Unspecified);
    assert_ne!(there.model_id, before.model_id);
    other.stop().await.unwrap();
}
