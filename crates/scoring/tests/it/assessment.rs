//! Assessments as they are asked for.
use chassis::{
    db_tests,
    testing::{Backend, eventually},
};
use proto::{common::v1::Money, profiles::v1 as profiles, scoring::v1 as pb};
use uuid::Uuid;

use crate::stand::{Stand, id, minor, sale};

db_tests!(
    an_assessment_comes_where_it_is_asked_for,
    of_who_has_not_bought_little_is_known_and_nothing_is_made_up,
    who_introduced_a_buyer_is_an_advocate,
    a_newer_record_replaces_the_attributes_and_an_older_one_does_not,
    discounts_are_kept_with_their_purchases,
    ranked_customers_are_judged_with_evidence_for_each_finding,
);

fn company(line: &str) -> profiles::Customer {
    let company = profiles::Company { line_of_business: line.into(), ..Default::default() };
    profiles::Customer { kind: Some(profiles::customer::Kind::Company(company)), ..Default::default() }
}

fn introduced_by(customer: Uuid) -> profiles::Customer {
    profiles::Customer { introduced_by: customer.to_string(), ..Default::default() }
}

async fn an_assessment_comes_where_it_is_asked_for(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1), id(2)]);
    stand.record(vec![sale(1, id(1), 1, 100)]).await;
    assert_eq!(stand.score(id(1)).await.assessment, None);
    assert_eq!(stand.assess(id(1), 0).await.rung(), pb::LoyaltyRung::FirstTime);
    // The same in a batch, also of one who has bought nothing and one whom nobody knows.
    let request = pb::BatchGetScoresRequest {
        customer_ids: [1, 2, 9].map(|n| id(n).to_string()).to_vec(),
        with_assessment: true,
        ..Default::default()
    };
    let reply = stand.client.clone().batch_get_scores(request).await.unwrap().into_inner();
    let rungs: Vec<_> = reply.scores.iter().map(|score| score.assessment.as_ref().unwrap().rung()).collect();
    assert_eq!(rungs, [pb::LoyaltyRung::FirstTime, pb::LoyaltyRung::Prospect]);
    assert_eq!(reply.not_found, [id(9).to_string()]);
}

async fn of_who_has_not_bought_little_is_known_and_nothing_is_made_up(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.put(id(1), false, false);
    let found = stand.assess(id(1), 0).await;
    assert_eq!((found.quadrant(), found.rung()), (pb::LoyaltyQuadrant::Unspecified, pb::LoyaltyRung::Suspect));
    assert_eq!((found.churn_risk, found.service_cost, found.receivables, found.days_overdue), (None, None, None, None));
    assert_eq!(found.ant_to_elephant, i32::from(pb::Answer::Unspecified));
    let card = found.scorecard.unwrap();
    assert_eq!((card.total, card.evidence_share), (None, 0.0));
}

async fn who_introduced_a_buyer_is_an_advocate(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    stand.profiles.put_record(id(2), introduced_by(id(1)));
    stand.profiles.put_record(id(3), introduced_by(id(1)));
    stand.profiles.feed();
    stand.record(vec![sale(1, id(1), 30, 100), sale(2, id(1), 20, 100)]).await;
    let introduced = async || {
        let evidence = stand.assess(id(1), 0).await.evidence.into_iter().find(|e| e.state == "loyalty_ladder").unwrap();
        evidence.figures.iter().find(|figure| figure.name == "introduced").map(|figure| figure.value)
    };
    eventually("the records arrive", async || introduced().await == Some(2.0)).await;
    assert_eq!(stand.assess(id(1), 0).await.rung(), pb::LoyaltyRung::Repeat);
    stand.record(vec![sale(3, id(3), 10, 100)]).await;
    assert_eq!(stand.assess(id(1), 0).await.rung(), pb::LoyaltyRung::Advocate);
    // Before that purchase nobody of theirs had bought.
    assert_eq!(stand.assess(id(1), 11).await.rung(), pb::LoyaltyRung::Repeat);
}

async fn a_newer_record_replaces_the_attributes_and_an_older_one_does_not(backend: Backend) {
    let stand = Stand::at(backend, chassis::testing::noon(), |config| {
        config.assessment.core_lines_of_business = vec!["retail".into()];
    })
    .await;
    stand.profiles.feed();
    let fits = async || stand.assess(id(1), 0).await.scorecard.unwrap().criteria[4].score;
    stand.profiles.put_record(id(1), company("Mining"));
    eventually("the first record arrives", async || fits().await == Some(0.0)).await;
    stand.profiles.put_record(id(1), company("Retail "));
    eventually("the second record arrives", async || fits().await == Some(1.0)).await;
    stand.profiles.put_record(id(1), profiles::Customer { revision: 0, ..company("") });
    eventually("the third record arrives", async || fits().await.is_none()).await;
}

async fn discounts_are_kept_with_their_purchases(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    let off = |cents| Some(Money { currency_code: "USD".into(), minor_units: cents });
    let rows = vec![pb::Purchase { discount: off(150), ..sale(1, id(1), 9, 850) }, sale(2, id(1), 8, 5_000)];
    stand.record(rows.clone()).await;
    let list = pb::ListPurchasesRequest { customer_id: id(1).to_string(), ..Default::default() };
    let listed = stand.client.clone().list_purchases(list).await.unwrap().into_inner().purchases;
    assert_eq!(listed, rows.iter().rev().cloned().collect::<Vec<_>>());
    // 15 % off the one sale whose discount is known, half of the limit; the other says nothing.
    let mark = async |days| stand.assess(id(1), days).await.scorecard.unwrap().criteria[1].score;
    assert!((mark(0).await.unwrap() - 0.5).abs() < 1e-12);
    assert_eq!(mark(10).await, None);
    stand.record(vec![pb::Purchase { discount: off(0), ..sale(1, id(1), 9, 850) }]).await;
    assert_eq!(mark(0).await, Some(1.0));
}

async fn ranked_customers_are_judged_with_evidence_for_each_finding(backend: Backend) {
    let (stand, customers) = crate::scores::ranked(backend).await;
    stand.rank("rank").await;
    let request = pb::BatchGetScoresRequest {
        customer_ids: customers.iter().take(1_000).map(Uuid::to_string).collect(),
        with_assessment: true,
        ..Default::default()
    };
    let scores = stand.client.clone().batch_get_scores(request).await.unwrap().into_inner().scores;
    assert_eq!(scores.len(), 1_000);
    let mut quadrants = std::collections::BTreeSet::new();
    for score in &scores {
        let found = score.assessment.as_ref().unwrap();
        quadrants.insert(found.quadrant);
        let key = matches!(score.standing.as_ref().unwrap().tier(), pb::Tier::Important | pb::Tier::Major);
        assert_eq!(found.big_buyer_risks.len(), if key { 5 } else { 0 });
        let states: Vec<_> = found.evidence.iter().map(|evidence| evidence.state.as_str()).collect();
        assert_eq!(states, ["loyalty_quadrant", "loyalty_ladder", "ant_to_elephant", "churn_risk", "expected_spend"]);
        let next = found.next_purchase.as_ref().unwrap();
        assert!(next.evidence.is_some() && next.from.is_some());
        let spend = score.expected_occasions * minor(score.expected_spend.as_ref()) as f64;
        assert!((minor(found.expected_spend_52w.as_ref()) as f64 - spend).abs() <= 0.5);
    }
    // Nobody of 78 weeks is left out.
    assert_eq!(quadrants, (1..=4).collect());
}
