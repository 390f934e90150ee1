//! Calls of many at once, against an echo that costs the generator the same.
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use chassis::clock::stopwatch;
use indicatif::ProgressBar;
use proto::scoring::v1 as scoring;
use tonic::transport::Channel;

use super::{
    CUSTOMERS, Figure, ROUNDS, Row, connect, echo, encoded, median, quantile,
    suite::{Suite, decide},
    wire,
};
use crate::client::Result;

/// How long one half of a round of calls takes.
const HALF: Duration = Duration::from_secs(3);
/// Callers at once.
const CALLERS: usize = 128;
/// Connections that the callers share.
const CONNECTIONS: usize = 4;

/// The path of `GetScore`.
pub(super) const GET_SCORE: &str = "/clientele.scoring.v1.Scoring/GetScore";

/// The call that a figure is about, of a customer.
fn call(suite: &Suite, figure: Figure, customer: usize) -> (&'static str, prost::bytes::Bytes) {
    match figure {
        Figure::Durable => {
            let purchases = vec![suite.purchase(customer, 299, 1_000)];
            let request = scoring::RecordPurchasesRequest { purchases };
            ("/clientele.scoring.v1.Scoring/RecordPurchases", encoded(&request))
        }
        Figure::Score => (GET_SCORE, get_score(suite, customer)),
        _ => ("/clientele.routing.v1.Routing/Decide", encoded(&decide(&suite.customer(customer)))),
    }
}

/// The question for a customer's score.
pub(super) fn get_score(suite: &Suite, customer: usize) -> prost::bytes::Bytes {
    encoded(&scoring::GetScoreRequest { customer_id: suite.customer(customer), ..Default::default() })
}

/// Paired rounds of calls against the echo.
pub(super) async fn measure(suite: &Suite, bar: &ProgressBar, figure: Figure) -> Result<Row> {
    let mut ours_channels = Vec::new();
    for _ in 0..CONNECTIONS {
        ours_channels.push(connect(&suite.url).await?);
    }
    let (path, sample) = call(suite, figure, 0);
    let sample_request = sample.len();
    let sample_reply = wire::call(ours_channels[0].clone(), path, sample).await?;
    let echo = echo::Server::start(sample_reply).await?;
    let mut echo_channels = Vec::new();
    for _ in 0..CONNECTIONS {
        echo_channels.push(connect(&echo.url).await?);
    }
    let mut ratios = Vec::new();
    let (mut ours_rates, mut echo_rates, mut ours_p99, mut echo_p99) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // The first pair warms both up and is not counted.
    for round in 0..=ROUNDS {
        bar.set_message(format!("{}, round {round} of {ROUNDS}", figure.key()));
        let echoed = encoded(&echo::Message { payload: vec![7_u8; sample_request.saturating_sub(3)] });
        let bare = || load(&echo_channels, |channel, _| wire::call(channel, echo::PATH, echoed.clone()));
        let ours = || {
            load(&ours_channels, |channel, number| {
                let (path, request) = call(suite, figure, scatter(number) % CUSTOMERS);
                wire::call(channel, path, request)
            })
        };
        // Which one goes first takes turns, so that a machine that grows slower favours neither.
        let (bare, ours) = if round % 2 == 0 {
            let bare = bare().await?;
            (bare, ours().await?)
        } else {
            let ours = ours().await?;
            (bare().await?, ours)
        };
        if round > 0 {
            ratios.push(ours.rate / bare.rate);
            ours_rates.push(ours.rate);
            echo_rates.push(bare.rate);
            ours_p99.push(ours.p99);
            echo_p99.push(bare.p99);
        }
    }
    let text = format!(
        "{:.0} /s against {:.0} /s; p99 {:.2} ms against {:.2} ms ({CALLERS} callers, {sample_request} B in, {sample_reply} B out)",
        median(ours_rates),
        median(echo_rates),
        median(ours_p99),
        median(echo_p99)
    );
    Ok(Row::new(figure.key(), ratios, text))
}

/// Spreads consecutive numbers over all customers (Fibonacci hashing): each call another one, the same in every run.
pub(super) fn scatter(number: u64) -> usize {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
}

struct Load {
    rate: f64,
    /// Milliseconds.
    p99: f64,
}

/// As many calls as [`CALLERS`] callers get done in [`HALF`].
async fn load<F>(channels: &[Channel], call: impl Fn(Channel, u64) -> F) -> Result<Load>
where
    F: Future<Output = std::result::Result<usize, tonic::Status>>,
{
    let numbers = AtomicU64::new(0);
    let begin = stopwatch();
    let callers = (0..CALLERS).map(|caller| {
        let channel = channels[caller % channels.len()].clone();
        let (numbers, call) = (&numbers, &call);
        async move {
            let mut latencies = Vec::new();
            while begin.elapsed() < HALF {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let sent = stopwatch();
                call(channel.clone(), number).await?;
                latencies.push(sent.elapsed());
            }
            Ok::<_, tonic::Status>(latencies)
        }
    });
    let mut latencies: Vec<Duration> = futures::future::try_join_all(callers).await?.into_iter().flatten().collect();
    let elapsed = begin.elapsed();
    latencies.sort_unstable();
    #[allow(clippy::cast_precision_loss, reason = "counts of calls are far below 2^52")]
    let rate = latencies.len() as f64 / elapsed.as_secs_f64();
    Ok(Load { rate, p99: quantile(&latencies, 99) })
}
