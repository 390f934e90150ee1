//! What becomes of the cost of serving customers.
use chassis::{
    db_tests,
    testing::{Backend, fault},
};
use proto::{common::v1::ErrorReason, scoring::v1 as pb};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::stand::{Stand, back, cost, id, minor, sale};

db_tests!(
    a_cost_lowers_what_was_realised_at_once,
    sending_a_cost_again_changes_nothing,
    a_corrected_cost_replaces_the_earlier_one,
    a_corrected_cost_may_be_somebody_else_s,
    a_correction_of_a_purchase_leaves_the_costs,
    a_cost_of_the_past_counts_from_its_moment_on,
    costs_move_customers_in_the_pyramid,
    what_is_usual_with_a_tier_is_told_by_those_whose_costs_and_discounts_are_recorded,
    refused_costs_are_named_and_the_others_stand,
    many_callers_with_one_cost_count_it_once,
    books_with_costs_alone_keep_their_currency,
);

pub(crate) async fn try_record(
    stand: &Stand,
    costs: Vec<pb::ServiceCost>,
) -> Result<pb::RecordServiceCostsResponse, Status> {
    let request = pb::RecordServiceCostsRequest { costs };
    stand.client.clone().record_service_costs(request).await.map(tonic::Response::into_inner)
}

async fn record(stand: &Stand, costs: Vec<pb::ServiceCost>) -> pb::RowCounts {
    let reply = try_record(stand, costs).await.unwrap();
    assert_eq!(reply.rejections, [], "{reply:?}");
    reply.counts.unwrap()
}

fn counts(recorded: i64, replaced: i64, unchanged: i64) -> pb::RowCounts {
    pb::RowCounts { recorded, replaced, unchanged, ..Default::default() }
}

async fn realised(stand: &Stand, customer: u128) -> i64 {
    minor(stand.score(id(customer)).await.realised_value.as_ref())
}

async fn a_cost_lowers_what_was_realised_at_once(backend: Backend) {
    let stand = Stand::at(backend, chassis::testing::noon(), |config| config.margin_rate = 0.5).await;
    stand.profiles.know([id(1)]);
    stand.record(vec![sale(1, id(1), 9, 1_000), back(2, id(1), 8, 200)]).await;
    assert_eq!(realised(&stand, 1).await, 400);
    assert_eq!(record(&stand, vec![cost("a", id(1), 3, 150), cost("b", id(1), 2, 0)]).await, counts(2, 0, 0));
    assert_eq!(realised(&stand, 1).await, 250);
    let assessment = stand.assess(id(1), 0).await;
    assert_eq!(minor(assessment.service_cost.as_ref()), 150);
}

async fn sending_a_cost_again_changes_nothing(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    stand.record(vec![sale(1, id(1), 9, 1_000)]).await;
    let rows = vec![cost("a", id(1), 3, 100), cost("b", id(1), 2, 50)];
    record(&stand, rows.clone()).await;
    let before = stand.score(id(1)).await;
    assert_eq!(record(&stand, rows.clone()).await, counts(0, 0, 2));
    // Twice in one batch: once it is there, once it is the same.
    assert_eq!(record(&stand, [rows.clone(), rows].concat()).await, counts(0, 0, 4));
    assert_eq!(stand.score(id(1)).await, before);
    assert_eq!(minor(before.realised_value.as_ref()), 850);
}

async fn a_corrected_cost_replaces_the_earlier_one(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    stand.record(vec![sale(1, id(1), 9, 1_000)]).await;
    record(&stand, vec![cost("a", id(1), 3, 100)]).await;
    assert_eq!(record(&stand, vec![cost("a", id(1), 3, 70), cost("b", id(1), 3, 5)]).await, counts(1, 1, 0));
    assert_eq!(realised(&stand, 1).await, 925);
    // In one batch the later row counts.
    assert_eq!(record(&stand, vec![cost("a", id(1), 3, 1), cost("a", id(1), 3, 2)]).await, counts(0, 2, 0));
    assert_eq!(realised(&stand, 1).await, 993);
}

async fn a_corrected_cost_may_be_somebody_else_s(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1), id(2)]);
    stand.record(vec![sale(1, id(1), 9, 1_000), sale(2, id(2), 9, 1_000)]).await;
    record(&stand, vec![cost("a", id(1), 3, 100)]).await;
    let moved = pb::RowCounts { moved: 1, ..counts(0, 1, 0) };
    assert_eq!(record(&stand, vec![cost("a", id(2), 3, 80)]).await, moved);
    assert_eq!((realised(&stand, 1).await, realised(&stand, 2).await), (1_000, 920));
}

async fn a_correction_of_a_purchase_leaves_the_costs(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    stand.record(vec![sale(1, id(1), 9, 1_000)]).await;
    record(&stand, vec![cost("a", id(1), 3, 100)]).await;
    stand.record(vec![sale(1, id(1), 9, 500)]).await;
    assert_eq!(realised(&stand, 1).await, 400);
}

async fn a_cost_of_the_past_counts_from_its_moment_on(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    stand.record(vec![sale(1, id(1), 30, 1_000)]).await;
    record(&stand, vec![cost("a", id(1), 20, 100), cost("b", id(1), 10, 50)]).await;
    for (days_ago, expected) in [(25, None), (20, Some(100)), (15, Some(100)), (5, Some(150)), (0, Some(150))] {
        let found = stand.assess(id(1), days_ago).await;
        assert_eq!(found.service_cost.map(|money| money.minor_units), expected, "{days_ago}");
    }
}

async fn costs_move_customers_in_the_pyramid(backend: Backend) {
    let (stand, customers) = crate::scores::ranked(backend).await;
    stand.rank("rank").await;
    let request = pb::GetPyramidRequest { basis: pb::PyramidBasis::Realised.into() };
    let top = |pyramid: pb::GetPyramidResponse| minor(pyramid.tiers[0].value.as_ref());
    let before = top(stand.client.clone().get_pyramid(request).await.unwrap().into_inner());
    let mut key = None;
    for customer in &customers {
        let score = stand.score(*customer).await;
        if score.standing.as_ref().unwrap().tier() == pb::Tier::Important {
            key = Some((*customer, score));
            break;
        }
    }
    let (customer, score) = key.unwrap();
    // Serving them eats up everything: at once they are no important customer any more, and it is announced.
    let all = minor(score.lifetime_value.as_ref());
    let cost_time = Some(chassis::clock::to_proto(stand.clock.now()));
    record(&stand, vec![pb::ServiceCost { cost_time, ..cost("a", customer, 0, all) }]).await;
    let after = stand.score(customer).await;
    let standing = after.standing.unwrap();
    assert_eq!((standing.tier(), minor(after.lifetime_value.as_ref())), (pb::Tier::Small, 0));
    assert_eq!(standing.revision, score.standing.unwrap().revision + 1);
    stand.rank("again").await;
    let later = top(stand.client.clone().get_pyramid(request).await.unwrap().into_inner());
    assert!(later < before, "{later} {before}");
}

async fn what_is_usual_with_a_tier_is_told_by_those_whose_costs_and_discounts_are_recorded(backend: Backend) {
    let (stand, customers) = crate::scores::ranked(backend).await;
    stand.rank("rank").await;
    let mut major = Vec::new();
    for customer in &customers {
        let score = stand.score(*customer).await;
        if score.standing.as_ref().unwrap().tier() == pb::Tier::Major {
            major.push((*customer, minor(score.summary.unwrap().sales.as_ref())));
        }
        if major.len() == 20 {
            break;
        }
    }
    // Of some 448 alike, serving ten takes a tenth of what they bought for, and another ten got a fifth of the list price off the last time.
    let time = Some(chassis::clock::to_proto(stand.clock.now()));
    let served = major[..10].iter().map(|(customer, sales)| cost(customer, *customer, 0, sales / 10));
    record(&stand, served.map(|cost| pb::ServiceCost { cost_time: time, ..cost }).collect()).await;
    let priced = major[10..].iter().map(|(customer, _)| pb::Purchase {
        purchase_time: time,
        discount: sale("", *customer, 0, 250).amount,
        ..sale(format!("priced {customer}"), *customer, 0, 1_000)
    });
    stand.record(priced.collect()).await;
    stand.rank("again").await;
    let finding = async |customer: Uuid| {
        let request =
            pb::GetScoreRequest { customer_id: customer.to_string(), with_assessment: true, ..Default::default() };
        let score = stand.client.clone().get_score(request).await.unwrap().into_inner().score.unwrap();
        assert_eq!(score.standing.unwrap().tier(), pb::Tier::Major);
        let risks = score.assessment.unwrap().big_buyer_risks;
        let profit = risks.into_iter().find(|finding| finding.risk() == pb::BigBuyerRisk::Profit).unwrap();
        let figures = profit.evidence.as_ref().unwrap().figures.clone();
        let figure = move |name: &str| figures.iter().find(|figure| figure.name == name).map(|figure| figure.value);
        (profit.answer(), figure("tier_service_cost_share"), figure("tier_discount_share"))
    };
    // As usual as can be; that says nothing of the other half.
    let (answer, cost, discount) = finding(major[0].0).await;
    assert_eq!((answer, discount), (pb::Answer::Unspecified, None));
    assert!((cost.unwrap() - 0.1).abs() < 1e-3, "{cost:?}");
    let (answer, cost, discount) = finding(major[19].0).await;
    assert_eq!((answer, cost), (pb::Answer::Unspecified, None));
    assert!((discount.unwrap() - 0.2).abs() < 1e-12, "{discount:?}");
}

async fn refused_costs_are_named_and_the_others_stand(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    stand.record(vec![sale(1, id(1), 9, 1_000)]).await;
    let mut foreign = cost("b", id(1), 3, 1);
    foreign.amount.as_mut().unwrap().currency_code = "EUR".into();
    let mut ahead = cost("c", id(1), 3, 1);
    ahead.cost_time.as_mut().unwrap().seconds += 3 * 86_400 + 301;
    let rows = vec![
        cost("a", id(1), 3, 1),
        foreign,
        ahead,
        cost("d", id(9), 3, 1),
        cost("", id(1), 3, -1),
        cost("e", id(1), 3, 10_000_000_000_001),
    ];
    let reply = try_record(&stand, rows).await.unwrap();
    assert_eq!(reply.counts, Some(pb::RowCounts { recorded: 1, rejected: 5, ..Default::default() }));
    let reasons: Vec<_> = reply.rejections.iter().map(|rejection| (rejection.index, rejection.reason())).collect();
    let expected = [
        (1, ErrorReason::CurrencyMismatch),
        (2, ErrorReason::PurchaseInFuture),
        (3, ErrorReason::CustomerUnknown),
        (4, ErrorReason::InvalidField),
        (5, ErrorReason::AmountTooLarge),
    ];
    assert_eq!(reasons, expected);
    assert!(reply.rejections[3].message.starts_with("costs[4].cost_id"), "{}", reply.rejections[3].message);
    assert_eq!(realised(&stand, 1).await, 999);
    let empty = try_record(&stand, Vec::new()).await.unwrap_err();
    assert_eq!(fault(&empty), (Code::InvalidArgument, "INVALID_FIELD".into(), vec!["costs".into()]));
    // The total of a customer has an end, too.
    let huge = (0..5_000).map(|n| cost(format!("huge {n}"), id(1), 3, 10_000_000_000_000)).collect::<Vec<_>>();
    let reply = try_record(&stand, huge).await.unwrap();
    assert_eq!(reply.counts.unwrap().recorded, 5_000);
    stand.assess(id(1), 0).await;
}

async fn many_callers_with_one_cost_count_it_once(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know((1..=4).map(id));
    stand.record((1..=4).map(|n| sale(n, id(n), 9, 1_000)).collect()).await;
    // The same row for four customers at once: one of them has it in the end, and no other pays for it.
    let calls = (1..=12_u128).map(|n| {
        let mut client = stand.client.clone();
        let request = pb::RecordServiceCostsRequest { costs: vec![cost("a", id(n % 4 + 1), 3, 100)] };
        async move {
            loop {
                match client.record_service_costs(request.clone()).await {
                    Ok(reply) => return reply.into_inner(),
                    Err(status) => assert_eq!(fault(&status).1, "CONTENTION", "{status:?}"),
                }
            }
        }
    });
    futures::future::join_all(calls).await;
    let mut realised = Vec::new();
    for n in 1..=4 {
        realised.push(self::realised(&stand, n).await);
    }
    realised.sort_unstable();
    assert_eq!(realised, [900, 1_000, 1_000, 1_000]);
}

async fn books_with_costs_alone_keep_their_currency(backend: Backend) {
    let stand = Stand::new(backend).await.shared().await;
    stand.profiles.know([id(1)]);
    record(&stand, vec![cost("a", id(1), 3, 100)]).await;
    stand.start_with(|config| config.currency = "JPY".into()).await.unwrap_err();
}
