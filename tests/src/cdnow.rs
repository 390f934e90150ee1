//! The CDNOW sample, through the public API, with its known totals.
use chassis::Clock;
use clientele::{
    client::{Client, request},
    commands, demo, import,
};
use proto::scoring::v1 as scoring;

/// The file as it is shipped.
pub const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/clientele/data/CDNOW_sample.txt");
/// Rows in it.
pub const PURCHASES: i64 = 6_919;
/// Different customers in it.
pub const CUSTOMERS: usize = 2_357;
/// What they spent, in cents.
pub const REVENUE: i64 = 24_409_194;
/// The last day in it.
pub const LAST_DAY: &str = "1998-06-30";

/// A clock that stands in business hours of the last day.
pub fn clock() -> Clock {
    Clock::mock("1998-06-30T14:00:00Z".parse().unwrap())
}

/// Loads the file as `clientele import` does.
pub async fn load(client: &Client) -> import::Outcome {
    let text = std::fs::read(FILE).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // The delimiter is found out here, as for any file.
    let plan = import::Plan { delimiter: None, ..demo::plan(folder.path().join("rejected.csv")) };
    import::run(client, &plan, text.as_slice(), None, false).await.unwrap()
}

/// Fits the models to all purchases and ranks all customers.
pub async fn fit_and_rank(client: &Client) -> scoring::RankResult {
    let as_of = Some(commands::date(LAST_DAY).unwrap());
    let fit = scoring::FitModelsRequest { request_id: "fit".to_owned(), as_of, trial: false };
    let fit = client.scoring().fit_models(request(fit)).await.unwrap().into_inner();
    commands::wait(client, fit, false).await.unwrap();
    let rank = scoring::RankCustomersRequest { request_id: "rank".to_owned(), as_of };
    let rank = client.scoring().rank_customers(request(rank)).await.unwrap().into_inner();
    match commands::wait(client, rank, false).await.unwrap().outcome {
        Some(scoring::operation::Outcome::Rank(result)) => result,
        other => panic!("a ranking that gives no ranking: {other:?}"),
    }
}

/// Revenue of all tiers of the last ranking, in cents, and how many customers it ranked.
pub async fn pyramid_totals(client: &Client) -> (i64, i64) {
    let request = request(scoring::GetPyramidRequest { basis: scoring::PyramidBasis::Realised.into() });
    let pyramid = client.scoring().get_pyramid(request).await.unwrap().into_inner();
    let revenue = pyramid.tiers.iter().filter_map(|tier| tier.revenue.as_ref()).map(|money| money.minor_units).sum();
    (revenue, pyramid.customers)
}
