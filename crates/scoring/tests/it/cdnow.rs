//! The CDNOW sample through the API gives what the papers print.
use std::collections::BTreeSet;

use chassis::{clock::to_proto, db_tests, testing::Backend};
use proto::{common::v1::Money, scoring::v1 as pb};
use uuid::Uuid;

use crate::stand::{Stand, id};

db_tests!(the_sample_gives_the_published_parameters);

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
    let [bg, mbg, spend] = &fit.models[..] else { panic!("{fit:?}") };
    assert_eq!(prints(bg), ["r 0.243", "alpha 4.414", "a 0.793", "b 2.426"]);
    assert_eq!(prints(mbg), ["r 0.525", "alpha 6.183", "a 0.891", "b 1.614"]);
    assert_eq!(prints(spend), ["p 6.25", "q 3.74", "gamma 15.44"]);
    assert_eq!(
        (format!("{:.1}", bg.log_likelihood), format!("{:.1}", mbg.log_likelihood)),
        ("-9582.4".into(), "-9582.1".into())
    );
    assert_eq!((bg.customers, mbg.customers, spend.customers), (2_357, 2_357, 946));
    assert!(fit.choice.starts_with("MBG/NBD"), "{}", fit.choice);
    assert!(fit.models.iter().all(|model| !model.in_force), "a trial puts nothing into force");
    assert_eq!(stand.score(id(1)).await.model_id, "");

    let operation = stand.fit("now").await;
    let Some(pb::operation::Outcome::Fit(fit)) = operation.outcome else { panic!("{operation:?}") };
    assert_eq!(fit.models.iter().map(|model| model.in_force).collect::<Vec<_>>(), [false, true, true]);

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
