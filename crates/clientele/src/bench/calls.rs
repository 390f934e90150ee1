//! Calls of many at once, against an echo that costs the generator the same.
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use chassis::clock::stopwatch;
use futures::{StreamExt, TryStreamExt};
use indicatif::ProgressBar;
use prost::bytes::Bytes;
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

/// The path of the call that a figure is about.
fn path(figure: Figure) -> &'static str {
    match figure {
        Figure::Durable => "/clientele.scoring.v1.Scoring/RecordPurchases",
        Figure::Score => GET_SCORE,
        _ => "/clientele.routing.v1.Routing/Decide",
    }
}

/// The question of a customer, or the next purchase of theirs.
fn request(suite: &Suite, figure: Figure, customer: usize) -> Bytes {
    match figure {
        Figure::Durable => {
            let purchases = vec![suite.purchase(customer, 299, 1_000)];
            encoded(&scoring::RecordPurchasesRequest { purchases })
        }
        Figure::Score => get_score(suite, customer),
        _ => encoded(&decide(&suite.customer(customer))),
    }
}

/// The question for a customer's score.
pub(super) fn get_score(suite: &Suite, customer: usize) -> Bytes {
    encoded(&scoring::GetScoreRequest { customer_id: suite.customer(customer), ..Default::default() })
}

/// Paired rounds of calls against the echo.
pub(super) async fn measure(suite: &Suite, bar: &ProgressBar, figure: Figure) -> Result<Row> {
    let mut ours_channels = Vec::new();
    for _ in 0..CONNECTIONS {
        ours_channels.push(connect(&suite.url).await?);
    }
    let path = path(figure);
    let sample = request(suite, figure, 0);
    let sample_request = sample.len();
    let sample_reply = wire::call(ours_channels[0].clone(), path, sample).await?;
    let echo = echo::Server::start(sample_reply).await?;
    let mut echo_channels = Vec::new();
    for _ in 0..CONNECTIONS {
        echo_channels.push(connect(&echo.url).await?);
    }
    // Made beforehand, so that the generator does the same for both halves. A purchase is another one each time.
    let questions: Vec<Bytes> = match figure {
        Figure::Durable => Vec::new(),
        _ => (0..CUSTOMERS).map(|customer| request(suite, figure, customer)).collect(),
    };
    let echoed = || encoded(&echo::Message { payload: vec![7_u8; sample_request.saturating_sub(3)] });
    let echoes: Vec<Bytes> = (0..questions.len().max(1)).map(|_| echoed()).collect();
    if figure == Figure::Score {
        // As in a process that has run for a while: everybody was asked for before, so whoever can be kept in memory is.
        bar.set_message(format!("{}, asks for everybody once", figure.key()));
        futures::stream::iter(&questions)
            .map(|question| wire::call(ours_channels[0].clone(), path, question.clone()))
            .buffer_unordered(CALLERS)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await?;
    }
    let mut ratios = Vec::new();
    let (mut ours_rates, mut echo_rates, mut ours_p99, mut echo_p99) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // The first pair warms both up and is not counted.
    for round in 0..=ROUNDS {
        bar.set_message(format!("{}, round {round} of {ROUNDS}", figure.key()));
        let bare = || {
            load(&echo_channels, |channel, number| {
                wire::call(channel, echo::PATH, echoes[scatter(number) % echoes.len()].clone())
            })
        };
        let ours = || {
            load(&ours_channels, |channel, number| {
                let customer = scatter(number) % CUSTOMERS;
                let question = questions.get(customer).cloned();
                wire::call(channel, path, question.unwrap_or_else(|| request(suite, figure, customer)))
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
