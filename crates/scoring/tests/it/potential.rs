//! What is thought of who has not bought.
use chassis::{
    db_tests,
    testing::{Backend, eventually},
};
use jiff::SignedDuration;
use proto::{profiles::v1 as profiles, scoring::v1 as pb};
use uuid::Uuid;

use crate::{
    cdnow, segments,
    stand::{Stand, cost, id, minor, sale},
};

db_tests!(
    who_has_not_bought_is_estimated_by_those_of_their_kind,
    the_potential_is_that_of_the_model_in_force_whoever_asks,
    before_their_first_purchase_a_buyer_is_estimated_as_who_has_not_bought,
    without_attributes_there_is_no_model_and_the_fit_says_why,
    a_trial_estimates_nobody,
);

/// Customers of the sample who take part.
const BUYERS: usize = 500;

fn company(line: &str) -> profiles::Customer {
    let company = profiles::Company { line_of_business: line.into(), ..Default::default() };
    profiles::Customer { kind: Some(profiles::customer::Kind::Company(company)), ..Default::default() }
}

/// Every fifth of them is a mine, which buys for three times as much as a shop.
fn line(place: usize) -> &'static str {
    if place.is_multiple_of(5) { "mining" } else { "retail" }
}

/// Customers of CDNOW, with their records where wanted.
async fn stand(backend: Backend, records: bool) -> Stand {
    let stand = Stand::at(backend, "1998-07-01T09:00:00Z".parse().unwrap(), |_| {}).await;
    let rows = cdnow::purchases();
    let customers: Vec<Uuid> = cdnow::customers(&rows).into_iter().take(BUYERS).collect();
    for (place, customer) in customers.iter().enumerate() {
        let record = if records { company(line(place)) } else { profiles::Customer::default() };
        stand.profiles.put_record(*customer, record);
    }
    let scaled = |mut row: pb::Purchase| {
        let customer: Uuid = row.customer_id.parse().unwrap();
        let place = customers.iter().position(|other| *other == customer)?;
        if line(place) == "mining" {
            row.amount.as_mut().unwrap().minor_units *= 3;
        }
        Some(row)
    };
    stand.record(rows.into_iter().filter_map(scaled).collect()).await;
    if records {
        stand.profiles.feed();
        // The last to arrive; a feed comes in order.
        stand.profiles.put_record(id(9_000), profiles::Customer { showed_interest: true, ..company("mining") });
        eventually("the records arrive", async || announced(&stand, id(9_000)).await).await;
    }
    stand
}

async fn announced(stand: &Stand, customer: Uuid) -> bool {
    stand.score(customer).await.standing.unwrap().revision > 0
}

fn potential(operation: &pb::Operation) -> pb::PotentialFit {
    let Some(pb::operation::Outcome::Fit(fit)) = &operation.outcome else { panic!("{operation:?}") };
    fit.potential.clone().unwrap()
}

async fn who_has_not_bought_is_estimated_by_those_of_their_kind(backend: Backend) {
    let stand = stand(backend, true).await;
    assert_eq!(stand.score(id(9_000)).await.potential_value, None);
    let fit = potential(&stand.fit("fit").await);
    assert_eq!((fit.customers, fit.not_fitted.as_str()), (BUYERS as i64, ""));
    assert!(fit.r_squared.unwrap() > 0.05 && fit.rank_correlation.unwrap() > 0.1, "{fit:?}");
    stand.rank("rank").await;
    // One who was there is estimated by the ranking, one who comes later when their record does.
    let mine = stand.score(id(9_000)).await;
    stand.profiles.put_record(id(9_001), company("Retail"));
    eventually("the shop arrives", async || stand.score(id(9_001)).await.potential_value.is_some()).await;
    let shop = stand.score(id(9_001)).await;
    let (much, little) = (minor(mine.potential_value.as_ref()), minor(shop.potential_value.as_ref()));
    assert!(little > 0 && much > 2 * little, "{much} {little}");
    let (mine, shop) = (mine.standing.unwrap(), shop.standing.unwrap());
    assert_eq!((mine.code(), shop.code()), (pb::CustomerCode::B, pb::CustomerCode::C));
    assert!(mine.estimated && shop.estimated);
    assert_eq!((mine.tier(), mine.relationship()), (pb::Tier::Unspecified, pb::Relationship::Potential));
    // Of a buyer it tells whether they are like key customers.
    let customers: Vec<Uuid> = cdnow::customers(&cdnow::purchases()).into_iter().take(BUYERS).collect();
    let mut typical = [None, None];
    for (place, customer) in customers.iter().enumerate() {
        let evidence = stand.assess(*customer, 0).await.evidence;
        let ant = evidence.into_iter().find(|evidence| evidence.state == "ant_to_elephant").unwrap();
        let found = ant.figures.iter().find(|figure| figure.name == "typical_minor").map(|figure| figure.value);
        let of_line = &mut typical[usize::from(line(place) == "mining")];
        *of_line = of_line.or(found);
        if let [Some(shop), Some(mine)] = typical {
            assert!(shop > 0.0 && mine > 2.0 * shop, "{mine} {shop}");
            break;
        }
    }
    assert!(typical.iter().all(Option::is_some), "{typical:?}");
    // Who buys is judged by what they bought.
    stand
        .record(vec![pb::Purchase {
            purchase_time: Some(chassis::clock::to_proto(stand.clock.now())),
            ..sale("first", id(9_000), 0, 100)
        }])
        .await;
    let bought = stand.score(id(9_000)).await;
    assert_eq!(bought.potential_value, None);
    assert!(!bought.standing.unwrap().estimated);
}

async fn the_potential_is_that_of_the_model_in_force_whoever_asks(backend: Backend) {
    let stand = stand(backend, true).await;
    stand.fit("fit").await;
    // Nobody has gone through all customers since the fit.
    let score = stand.score(id(9_000)).await;
    let potential = minor(score.potential_value.as_ref());
    assert!(potential > 0 && score.standing.unwrap().estimated);
    let worth = "potential_value > 0.0";
    let request = pb::PreviewSegmentRequest { expression: worth.into() };
    assert_eq!(stand.client.clone().preview_segment(request).await.unwrap().into_inner().customers, 1);
    segments::try_create(&stand.client, segments::segment("worth", worth)).await.unwrap();
    segments::ready(&stand, "worth").await;
    assert_eq!(segments::members(&stand.client, "worth").await, [id(9_000)].into());
    // Whoever records a cost of theirs judges them by it, too.
    let cost_time = Some(chassis::clock::to_proto(stand.clock.now()));
    let costs = vec![pb::ServiceCost { cost_time, ..cost("a", id(9_000), 0, 100) }];
    stand.client.clone().record_service_costs(pb::RecordServiceCostsRequest { costs }).await.unwrap();
    assert_eq!(segments::members(&stand.client, "worth").await, [id(9_000)].into());
}

async fn before_their_first_purchase_a_buyer_is_estimated_as_who_has_not_bought(backend: Backend) {
    let stand = stand(backend, true).await;
    let before = chassis::clock::to_proto(stand.clock.now());
    stand.clock.advance(SignedDuration::from_hours(1));
    let purchase_time = Some(chassis::clock::to_proto(stand.clock.now()));
    stand.record(vec![pb::Purchase { purchase_time, ..sale("first", id(9_000), 0, 100) }]).await;
    stand.fit("fit").await;
    stand.profiles.put_record(id(9_001), company("mining"));
    eventually("another mine arrives", async || announced(&stand, id(9_001)).await).await;
    let request = pb::GetScoreRequest { customer_id: id(9_000).to_string(), as_of: Some(before), ..Default::default() };
    let then = stand.client.clone().get_score(request).await.unwrap().into_inner().score.unwrap();
    assert_eq!(then.potential_value, stand.score(id(9_001)).await.potential_value);
    assert!(minor(then.potential_value.as_ref()) > 0);
}

async fn without_attributes_there_is_no_model_and_the_fit_says_why(backend: Backend) {
    let stand = stand(backend, false).await;
    let fit = potential(&stand.fit("fit").await);
    assert_eq!((fit.customers, fit.r_squared, fit.rank_correlation), (0, None, None));
    assert!(fit.not_fitted.contains("0 buyers with attributes are too few, 200 are needed"), "{fit:?}");
    stand.rank("rank").await;
    stand.profiles.put(id(9_000), true, false);
    let request = pb::GetScoreRequest { customer_id: id(9_000).to_string(), with_evidence: true, ..Default::default() };
    let score = stand.client.clone().get_score(request).await.unwrap().into_inner().score.unwrap();
    assert_eq!((score.potential_value, score.standing.unwrap().code()), (None, pb::CustomerCode::C));
    // The known success rate is all there is.
    let code = score.evidence.iter().find(|evidence| evidence.state == "code").unwrap();
    assert_eq!(code.figures, [pb::Figure { name: "success_rate".into(), value: 0.06 }]);
}

async fn a_trial_estimates_nobody(backend: Backend) {
    let stand = stand(backend, true).await;
    let request = pb::FitModelsRequest { request_id: "trial".into(), trial: true, ..Default::default() };
    let operation = stand.client.clone().fit_models(request).await.unwrap().into_inner();
    let fit = potential(&stand.wait(&operation).await);
    assert!(fit.r_squared.is_some(), "{fit:?}");
    stand.profiles.put_record(id(9_001), company("mining"));
    eventually("the mine arrives", async || announced(&stand, id(9_001)).await).await;
    assert_eq!(stand.score(id(9_001)).await.potential_value, None);
}
