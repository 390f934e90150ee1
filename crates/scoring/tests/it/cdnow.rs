//! The CDNOW sample through the API gives what the papers print.
use std::collections::BTreeSet;

use chassis::{clock::to_proto, db_tests, testing::Backend};
use proto::{common::v1::Money, scoring::v1 as pb};
use uuid::Uuid;

use crate::stand::{Stand, id};

db_tests!(the_sample_gives_the_published_parameters, the_sample_held_out_gives_what_the_papers_show);

/// All purchases of the sample, customers by their number in it.
pub(crate) fn purchases() -> Vec<pb::Purchase> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../clientele/data/CDNOW_sample.txt");
    let text = std::fs::read_to_string(path).expect("the CDNOW sample ships with the project");
    let row = |(line, number): (&str, usize)| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let date: i32 = columns[2].parse().unwrap();
        let date = jiff::civil::date((date / 10_000) as i16, (date / 100 % 100) as i8, (date % 100) as i8);
        let noon = date.at(12, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
        let (dollars, cents) = columns[4].split_once('.').unwrap();
        pb::Purchase {
            source: "cdnow".into(),
            purchase_id: number.to_string(),
            customer_id: id(columns[1].parse().unwrap()).to_string(),
            purchase_time: Some(to_proto(noon)),
            amount: Some(Money {
                currency_code: "USD".into(),
                minor_units: dollars.parse::<i64>().unwrap() * 100 + cents.parse::<i64>().unwrap(),
            }),
            kind: 0,
            discount: None,
        }
    };
    text.lines().filter(|line| !line.trim().is_empty()).zip(1..).map(row).collect()
}

pub(crate) fn customers(purchases: &[pb::Purchase]) -> BTreeSet<Uuid> {
    purchases.iter().map(|row| row.customer_id.parse().unwrap()).collect()
}

/// Everything in the ledger, in one stream of batches.
pub(crate) async fn load(stand: &Stand, purchases: &[pb::Purchase]) -> pb::PurchaseCounts {
    let batches: Vec<_> =
        purchases.chunks(2_000).map(|batch| pb::StreamPurchasesRequest { purchases: batch.to_vec() }).collect();
    let reply = stand.client.clone().stream_purchases(futures::stream::iter(batches)).await.unwrap().into_inner();
    assert_eq!(reply.rejections, []);
    reply.counts.unwrap()
}

fn prints(fitted: &pb::FittedModel) -> Vec<String> {
    let digits = if fitted.kind() == pb::ModelKind::GammaGamma { 2 } else { 3 };
    fitted.parameters.iter().map(|p| format!("{} {:.digits$}", p.name, p.value)).collect()
}

async fn the_sample_gives_the_published_parameters(backend: Backend) {
    let stand = Stand::at(backend, "1998-07-01T09:00:00Z".parse().unwrap(), |_| {}).await;
    let rows = purchases();
    stand.profiles.know(customers(&rows));
    let counts = load(&stand, &rows).await;
    assert_eq!(counts, pb::PurchaseCounts { recorded: 6_919, ..Default::default() });
    // A second time nothing is doubled.
    let counts = load(&stand, &rows).await;
    assert_eq!(counts, pb::PurchaseCounts { unchanged: 6_919, ..Default::default() });

    let mut total = 0;
    for chunk in customers(&rows).into_iter().collect::<Vec<_>>().chunks(1_000) {
        let request = pb::BatchGetScoresRequest {
            customer_ids: chunk.iter().map(Uuid::to_string).collect(),
            ..Default::default()
        };
        let reply = stand.client.clone().batch_get_scores(request).await.unwrap().into_inner();
        assert_eq!((reply.scores.len(), reply.not_found.len()), (chunk.len(), 0));
        total +=
            reply.scores.iter().map(|s| crate::stand::minor(s.summary.as_ref().unwrap().sales.as_ref())).sum::<i64>();
    }
    assert_eq!(total, 24_409_194);

    // The papers calibrate on the first 39 weeks.
    let request = pb::FitModelsRequest {
        request_id: "calibration".into(),
        as_of: Some(pb::Date { year: 1997, month: 9, day: 30 }),
        trial: true,
    };
    let operation = stand.client.clone().fit_models(request).await.unwrap().into_inner();
    let operation = stand.wait(&operation).await;
    let Some(pb::operation::Outcome::Fit(fit)) = operation.outcome else { panic!("{operation:?}") };
    let [bg, mbg, pareto, spend] = &fit.models[..] else { panic!("{fit:?}") };
    assert_eq!(prints(bg), ["r 0.243", "alpha 4.414", "a 0.793", "b 2.426"]);
    assert_eq!(prints(mbg), ["r 0.525", "alpha 6.183", "a 0.891", "b 1.614"]);
    assert_eq!(prints(pareto), ["r 0.553", "alpha 10.578", "s 0.606", "beta 11.669"]);
    assert_eq!(prints(spend), ["p 6.25", "q 3.74", "gamma 15.44"]);
    assert_eq!(format!("{:.1}", pareto.log_likelihood), "-9595.0");
    assert_eq!(
        (format!("{:.1}", bg.log_likelihood), format!("{:.1}", mbg.log_likelihood)),
        ("-9582.4".into(), "-9582.1".into())
    );
    assert_eq!((bg.customers, mbg.customers, spend.customers), (2_357, 2_357, 946));
    assert_eq!(
        fit.choice,
        "MBG/NBD: its log-likelihood of -9582.1 is the highest, against -9582.4 of BG/NBD and -9595.0 of Pareto/NBD"
    );
    assert!(fit.tie_rule.contains("first of MBG/NBD, Pareto/NBD, BG/NBD") && fit.not_fitted.is_empty());
    // The data hold every parameter, from more than one start.
    for model in &fit.models {
        for p in &model.parameters {
            let (error, low, high) = (p.standard_error.unwrap(), p.interval_low.unwrap(), p.interval_high.unwrap());
            assert!(error > 0.0 && 0.0 < low && low < p.value && p.value < high, "{model:?}");
        }
        assert!(model.starts > 1 && (1..=model.starts).contains(&model.agreeing_starts), "{model:?}");
    }
    // Standard error of r under BG/NBD, from the curvature at the optimum.
    assert!((bg.parameters[0].standard_error.unwrap() - 0.0126).abs() < 0.0005, "{bg:?}");
    // 0.11, a little more than the model likes.
    assert_eq!(format!("{:.2}", spend.frequency_spend_correlation), "0.11");
    assert_eq!((spend.independence(), bg.independence()), (pb::Independence::Doubtful, pb::Independence::Unspecified));
    assert!(fit.models.iter().all(|model| !model.in_force), "a trial puts nothing into force");
    assert_eq!(stand.score(id(1)).await.model_id, "");

    let operation = stand.fit("now").await;
    let Some(pb::operation::Outcome::Fit(fit)) = operation.outcome else { panic!("{operation:?}") };
    assert_eq!(fit.models.iter().map(|model| model.in_force).collect::<Vec<_>>(), [false, true, false, true]);

    // The split of revenue by total spend over the whole period.
    let operation = stand.rank("now").await;
    let Some(pb::operation::Outcome::Rank(ranked)) = operation.outcome else { panic!("{operation:?}") };
    assert_eq!(ranked.customers, 2_357);
    let request = pb::GetPyramidRequest { basis: pb::PyramidBasis::Realised.into() };
    let pyramid = stand.client.clone().get_pyramid(request).await.unwrap().into_inner();
    let tiers: Vec<_> =
        pyramid.tiers.iter().map(|tier| (tier.customers, format!("{:.1}", tier.revenue_share * 100.0))).collect();
    let expected = [(24, "14.6"), (448, "52.9"), (707, "22.0"), (1_178, "10.5")];
    assert_eq!(tiers, expected.map(|(customers, share)| (customers, share.to_owned())));
    assert_eq!(pyramid.customers, 2_357);
    let lifetime = stand.client.clone().get_pyramid(pb::GetPyramidRequest::default()).await.unwrap().into_inner();
    assert_eq!(lifetime.basis(), pb::PyramidBasis::Lifetime);
    assert_eq!(lifetime.tiers.iter().map(|tier| tier.customers).collect::<Vec<_>>(), [24, 448, 707, 1_178]);
}

async fn the_sample_held_out_gives_what_the_papers_show(backend: Backend) {
    let stand = Stand::at(backend, "1998-07-01T09:00:00Z".parse().unwrap(), |_| {}).await;
    let rows = purchases();
    stand.profiles.know(customers(&rows));
    load(&stand, &rows).await;
    let until = Some(pb::Date { year: 1997, month: 9, day: 30 });
    let as_of = Some(pb::Date { year: 1998, month: 6, day: 30 });
    let request = pb::HoldOutRequest { request_id: "one".into(), until, as_of };
    let operation = stand.client.clone().hold_out(request.clone()).await.unwrap().into_inner();
    let operation = stand.wait(&operation).await;
    let Some(pb::operation::Outcome::HoldOut(found)) = &operation.outcome else { panic!("{operation:?}") };
    assert_eq!((found.until, found.as_of, found.customers), (until, as_of, 2_357));
    assert!(found.not_fitted.is_empty());
    let kinds: Vec<_> = found.assessments.iter().map(|a| a.model.as_ref().unwrap().kind()).collect();
    assert_eq!(kinds, [pb::ModelKind::BgNbd, pb::ModelKind::MbgNbd, pb::ModelKind::ParetoNbd]);
    for assessment in &found.assessments {
        let model = assessment.model.as_ref().unwrap();
        assert!(model.model_id.is_empty() && model.fit_time.is_none() && !model.in_force);
        assert!((1.0..2.0).contains(&assessment.rmse), "{}", assessment.rmse);
        assert!(assessment.correlation.unwrap() > 0.55, "{:?}", assessment.correlation);
        let (share, most) = (assessment.top_decile_share.unwrap(), found.top_decile_most.unwrap());
        assert!(0.3 < share && share < most && most < 1.0, "{share} of {most}");
        // 78 weeks of data; what was bought is the same to all models, and adds up.
        assert_eq!(assessment.weeks.len(), 78);
        let last = assessment.weeks.last().unwrap();
        assert_eq!((last.end, last.cumulative), (as_of, assessment.weeks.iter().map(|week| week.incremental).sum()));
        let at_until = assessment.weeks.iter().find(|week| week.end == until).unwrap();
        assert_eq!(last.cumulative - at_until.cumulative, found.occasions);
        // In all, the models track the sample within a tenth, as the papers' figures show.
        assert!((last.expected_cumulative / last.cumulative as f64 - 1.0).abs() < 0.1, "{last:?}");
        let summed: f64 = assessment.weeks.iter().map(|week| week.expected_incremental).sum();
        assert!((summed - last.expected_cumulative).abs() < 1e-6);
    }
    let first = &prints(found.assessments[0].model.as_ref().unwrap());
    assert_eq!(first, &["r 0.243", "alpha 4.414", "a 0.793", "b 2.426"]);
    // A replay is the same operation, and nothing was put into force or kept.
    assert_eq!(stand.client.clone().hold_out(request.clone()).await.unwrap().into_inner(), operation);
    let models = stand.client.clone().list_models(pb::ListModelsRequest::default()).await.unwrap().into_inner();
    assert_eq!(models.models, []);
    // The same request id with another body.
    let other = pb::HoldOutRequest { as_of: None, ..request };
    let refused = stand.client.clone().hold_out(other).await.unwrap_err();
    assert_eq!(chassis::testing::fault(&refused).1, "REQUEST_ID_REUSED");
}
