//! What is fitted where the data carry only a part, and what can be said then.
use chassis::{
    db_tests,
    testing::{Backend, fault},
};
use proto::{
    common::v1::ErrorReason,
    scoring::v1::{self as pb, operation::Outcome},
};
use tonic::Code;

use crate::{
    cdnow,
    stand::{Stand, id, minor, sale},
};

db_tests!(
    without_a_model_the_pyramid_of_what_was_realised_answers,
    uniform_spending_leaves_the_models_of_buying_and_says_why,
    a_fit_that_lacks_a_model_leaves_the_one_in_force,
    nothing_is_held_out_before_anybody_had_bought,
    a_day_that_leaves_no_time_to_hold_against_is_refused,
    all_scores_are_listed_page_by_page_as_of_one_moment,
);

fn fitted(operation: &pb::Operation) -> &pb::FitResult {
    let Some(Outcome::Fit(fit)) = &operation.outcome else { panic!("{operation:?}") };
    fit
}

fn kinds(models: &[pb::FittedModel]) -> Vec<pb::ModelKind> {
    models.iter().map(pb::FittedModel::kind).collect()
}

async fn pyramid(stand: &Stand, basis: pb::PyramidBasis) -> Result<pb::GetPyramidResponse, tonic::Status> {
    let request = pb::GetPyramidRequest { basis: basis.into() };
    stand.client.clone().get_pyramid(request).await.map(tonic::Response::into_inner)
}

/// The first 300 customers of the CDNOW sample; what they paid is as `amount` has it from the day and what it was.
async fn some(backend: Backend, amount: impl Fn(i64, i64) -> i64) -> Stand {
    let stand = Stand::at(backend, "1998-07-01T09:00:00Z".parse().unwrap(), |_| {}).await;
    let last = id(300).to_string();
    let mut rows: Vec<_> = cdnow::purchases().into_iter().filter(|row| row.customer_id <= last).collect();
    for row in &mut rows {
        let seconds = row.purchase_time.unwrap().seconds;
        let paid = row.amount.as_mut().unwrap();
        paid.minor_units = amount(seconds, paid.minor_units);
    }
    stand.profiles.know(cdnow::customers(&rows));
    cdnow::load(&stand, &rows).await;
    stand
}

async fn without_a_model_the_pyramid_of_what_was_realised_answers(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1), id(2), id(3)]);
    stand.record(vec![sale(1, id(1), 5, 10_000), sale(2, id(2), 6, 2_000), sale(3, id(3), 7, 1_000)]).await;
    let operation = stand.rank("early").await;
    let Some(Outcome::Rank(ranked)) = &operation.outcome else { panic!("{operation:?}") };
    assert_eq!(ranked.customers, 3);
    assert!(ranked.realised_alone.contains("no model of buying"), "{ranked:?}");
    let realised = pyramid(&stand, pb::PyramidBasis::Realised).await.unwrap();
    assert_eq!(realised.tiers.iter().map(|tier| tier.customers).collect::<Vec<_>>(), [1, 0, 1, 1]);
    assert_eq!(minor(realised.tiers[0].revenue.as_ref()), 10_000);
    for basis in [pb::PyramidBasis::Lifetime, pb::PyramidBasis::Unspecified] {
        let refused = pyramid(&stand, basis).await.unwrap_err();
        assert_eq!((fault(&refused).0, fault(&refused).1), (Code::FailedPrecondition, "NO_MODEL".into()));
        assert!(refused.message().contains("FitModels"), "{refused:?}");
    }
    let score = stand.score(id(1)).await;
    let standing = score.standing.as_ref().unwrap();
    assert_eq!((standing.tier(), standing.estimated), (pb::Tier::Unspecified, true));
    foretells_nothing(&score);
}

/// What was realised is known, what is to come is not: it is absent, and neither zero nor a figure of the evidence.
fn foretells_nothing(score: &pb::Score) {
    assert_eq!((&score.expected_value, &score.expected_spend, &score.lifetime_value), (&None, &None, &None));
    assert!(minor(score.realised_value.as_ref()) > 0 && score.horizon_months == 0);
}

async fn uniform_spending_leaves_the_models_of_buying_and_says_why(backend: Backend) {
    let stand = some(backend, |_, _| 1_000).await;
    let operation = stand.fit("uniform").await;
    let fit = fitted(&operation);
    assert_eq!(kinds(&fit.models), [pb::ModelKind::BgNbd, pb::ModelKind::MbgNbd, pb::ModelKind::ParetoNbd]);
    let [missing] = &fit.not_fitted[..] else { panic!("{fit:?}") };
    assert!(missing.kind() == pb::ModelKind::GammaGamma && !missing.reason.is_empty(), "{missing:?}");
    assert_eq!(fit.models.iter().filter(|model| model.in_force).count(), 1);
    // What the models of buying say is said; what would need the other one is not made up.
    let request = pb::GetScoreRequest { customer_id: id(1).to_string(), with_evidence: true, ..Default::default() };
    let score = stand.client.clone().get_score(request).await.unwrap().into_inner().score.unwrap();
    assert!(!score.model_id.is_empty() && score.p_alive > 0.0 && score.expected_occasions > 0.0, "{score:?}");
    foretells_nothing(&score);
    let tier = score.evidence.iter().find(|evidence| evidence.state == "tier").unwrap();
    assert!(tier.text.contains("there is no forecast of what is to come"), "{}", tier.text);
    let known: Vec<_> =
        score.evidence.iter().flat_map(|evidence| &evidence.figures).map(|figure| figure.name.as_str()).collect();
    assert!(
        known.contains(&"realised_minor") && !known.contains(&"expected_minor") && !known.contains(&"lifetime_minor"),
        "{known:?}"
    );
    let operation = stand.rank("uniform").await;
    let Some(Outcome::Rank(ranked)) = &operation.outcome else { panic!("{operation:?}") };
    assert!(ranked.customers == 300 && ranked.realised_alone.contains("spending"), "{ranked:?}");
    assert_eq!(pyramid(&stand, pb::PyramidBasis::Realised).await.unwrap().customers, 300);
    assert_eq!(fault(&pyramid(&stand, pb::PyramidBasis::Lifetime).await.unwrap_err()).1, "NO_MODEL");
    assert_eq!(stand.score(id(1)).await.standing.unwrap().tier(), pb::Tier::Unspecified);
}

async fn a_fit_that_lacks_a_model_leaves_the_one_in_force(backend: Backend) {
    // All paid the same in the first quarter.
    let april = "1997-04-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second();
    let stand = some(backend, |seconds, paid| if seconds < april { 1_000 } else { paid }).await;
    let whole = stand.fit("whole").await;
    assert_eq!(fitted(&whole).models.len(), 4, "{whole:?}");
    let spend = &fitted(&whole).models[3];
    assert!(spend.in_force);
    let as_of = Some(pb::Date { year: 1997, month: 3, day: 31 });
    let request = pb::FitModelsRequest { request_id: "part".into(), as_of, trial: false };
    let operation = stand.client.clone().fit_models(request).await.unwrap().into_inner();
    let part = stand.wait(&operation).await;
    let missing = &fitted(&part).not_fitted;
    assert!(missing.iter().any(|missing| missing.kind() == pb::ModelKind::GammaGamma), "{part:?}");
    let models = stand.client.clone().list_models(pb::ListModelsRequest::default()).await.unwrap().into_inner().models;
    assert_eq!(models.len(), 4 + fitted(&part).models.len());
    let in_force: Vec<_> = models.into_iter().filter(|model| model.in_force).collect();
    let [buying, kept] = &in_force[..] else { panic!("{in_force:?}") };
    assert_eq!(kept.model_id, spend.model_id);
    assert!(fitted(&part).models.iter().any(|model| model.model_id == buying.model_id));
    // Nothing at all can be fitted to the first day, and nothing changes.
    let as_of = Some(pb::Date { year: 1997, month: 1, day: 1 });
    let request = pb::FitModelsRequest { request_id: "nothing".into(), as_of, trial: false };
    let operation = stand.client.clone().fit_models(request).await.unwrap().into_inner();
    let Some(Outcome::Error(error)) = stand.wait(&operation).await.outcome else { panic!("fitted") };
    assert_eq!(error.reason(), ErrorReason::NotFittable);
    assert_eq!(stand.score(id(1)).await.model_id, buying.model_id);
}

async fn nothing_is_held_out_before_anybody_had_bought(backend: Backend) {
    let stand = some(backend, |_, paid| paid).await;
    let until = Some(pb::Date { year: 1996, month: 12, day: 31 });
    let request = pb::HoldOutRequest { request_id: "early".into(), until, as_of: None };
    let operation = stand.client.clone().hold_out(request).await.unwrap().into_inner();
    let Some(Outcome::Error(error)) = stand.wait(&operation).await.outcome else { panic!("held out") };
    assert!(error.reason() == ErrorReason::NotFittable && error.message.contains("no customers"), "{error:?}");
}

async fn a_day_that_leaves_no_time_to_hold_against_is_refused(backend: Backend) {
    let stand = Stand::new(backend).await;
    let day = |day| Some(pb::Date { year: 2024, month: 1, day });
    for (until, as_of, field) in [
        (None, None, "until"),
        (day(2), day(2), "until"),
        (day(3), day(2), "until"),
        (day(32), day(2), "until"),
        (day(1), Some(pb::Date { year: 2999, month: 1, day: 1 }), "as_of"),
    ] {
        let request = pb::HoldOutRequest { request_id: "one".into(), until, as_of };
        let refused = stand.client.clone().hold_out(request).await.unwrap_err();
        assert_eq!(fault(&refused), (Code::InvalidArgument, "INVALID_FIELD".into(), vec![field.into()]));
    }
    let request = pb::HoldOutRequest { request_id: String::new(), until: day(1), as_of: None };
    assert_eq!(fault(&stand.client.clone().hold_out(request).await.unwrap_err()).2, ["request_id"]);
}

async fn all_scores_are_listed_page_by_page_as_of_one_moment(backend: Backend) {
    let stand = some(backend, |_, paid| paid).await;
    stand.fit("fit").await;
    stand.rank("rank").await;
    // A till's clock is ahead: of the moment of the list this is no part yet, on no page.
    let ahead = stand.clock.now() + jiff::SignedDuration::from_secs(100);
    let ahead = Some(chassis::clock::to_proto(ahead));
    stand.record(vec![pb::Purchase { purchase_time: ahead, ..sale(999, id(1), 0, 5_000) }]).await;
    let (mut listed, mut token) = (Vec::new(), String::new());
    let mut moments = std::collections::BTreeSet::new();
    loop {
        let request = pb::ListScoresRequest { page_size: 70, page_token: token, ..Default::default() };
        let reply = stand.client.clone().list_scores(request).await.unwrap().into_inner();
        moments.insert(reply.as_of.map(|time| (time.seconds, time.nanos)));
        moments.extend(reply.scores.iter().map(|score| score.as_of.map(|time| (time.seconds, time.nanos))));
        listed.extend(reply.scores);
        token = reply.next_page_token;
        if token.is_empty() {
            break;
        }
        // Time goes on between the pages, and somebody buys.
        stand.clock.advance(jiff::SignedDuration::from_secs(600));
        let now = Some(chassis::clock::to_proto(stand.clock.now()));
        let row = pb::Purchase { purchase_time: now, ..sale(listed.len(), id(300), 0, 100_000) };
        stand.record(vec![row]).await;
    }
    assert_eq!((listed.len(), moments.len()), (300, 1));
    let ids: Vec<_> = listed.iter().map(|score| score.standing.as_ref().unwrap().customer_id.clone()).collect();
    assert!(ids.is_sorted() && ids[299] == id(300).to_string());
    // Each as it is asked for by itself, and the last customer without what came later.
    let as_of = listed[0].as_of;
    for (number, score) in [(1, &listed[0]), (300, &listed[299])] {
        let request = pb::GetScoreRequest { customer_id: id(number).to_string(), as_of, ..Default::default() };
        let alone = stand.client.clone().get_score(request).await.unwrap().into_inner().score.unwrap();
        assert_eq!((&alone.summary, &alone.lifetime_value), (&score.summary, &score.lifetime_value));
        assert!(alone.lifetime_value.is_some() && alone.horizon_months == 36);
    }
    // A token is good for its own list alone; the past can be listed, the future cannot.
    let request = pb::ListScoresRequest { page_token: "AAAA".into(), ..Default::default() };
    assert_eq!(fault(&stand.client.clone().list_scores(request).await.unwrap_err()).1, "PAGE_TOKEN_MISMATCH");
    let past = Some(chassis::clock::to_proto("1997-01-01T23:00:00Z".parse().unwrap()));
    let request = pb::ListScoresRequest { as_of: past, page_size: 1_000, ..Default::default() };
    let reply = stand.client.clone().list_scores(request).await.unwrap().into_inner();
    assert_eq!(reply.scores.len(), 300);
    assert!(reply.scores.iter().filter(|score| score.summary.is_some()).count() < 30);
    let ahead = Some(chassis::clock::to_proto("2999-01-01T00:00:00Z".parse().unwrap()));
    let request = pb::ListScoresRequest { as_of: ahead, page_size: 1_001, ..Default::default() };
    let refused = fault(&stand.client.clone().list_scores(request).await.unwrap_err());
    assert_eq!(refused, (Code::InvalidArgument, "INVALID_FIELD".into(), vec!["as_of".into(), "page_size".into()]));
}
