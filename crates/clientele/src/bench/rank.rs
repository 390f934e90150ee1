//! Ranking many customers: against a plain read of the same rows, and what whoever asks meanwhile notices of it.
use std::time::Duration;

use chassis::clock::stopwatch;
use indicatif::ProgressBar;
use proto::scoring::v1 as scoring;

use super::{
    Figure, ROUNDS, Row,
    calls::{GET_SCORE, get_score, scatter},
    connect, median, quantile, raw,
    suite::Suite,
    wire,
};
use crate::{
    client::{Error, Result},
    commands,
};

/// Between two questions for a score: half a thousand in a second, so that the waiting is for the ranking and not for each other.
const EVERY: Duration = Duration::from_millis(2);
/// How long is asked while nothing else happens.
const QUIET: Duration = Duration::from_secs(5);

/// Paired rounds. Nobody's standing changes, since nobody bought in between: what remains is reading and computing.
pub(super) async fn measure(suite: &Suite, bar: &ProgressBar, customers: usize, figure: Figure) -> Result<Vec<Row>> {
    let rank_key = figure.key();
    let p99_key =
        if figure == Figure::RankPostgres { "score_p99_ranking_postgres" } else { "score_p99_ranking_sqlite" };
    let (mut passes, mut waits) = (Vec::new(), Vec::new());
    let (mut selects, mut ranks, mut quiet_p99, mut ranking_p99, mut more) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        bar.set_message(format!("{rank_key}, round {round} of {ROUNDS}"));
        let select = raw::select(&suite.scoring_url, customers).await?;
        let before = memory_from_now_on();
        let rank = self::rank(suite, &format!("alone-{round}")).await?;
        more.extend(memory("VmHWM:").zip(before).map(|(peak, before)| peak - before));
        bar.set_message(format!("{p99_key}, round {round} of {ROUNDS}"));
        let quiet = asked(suite, tokio::time::sleep(QUIET)).await?;
        let asked = asked(suite, self::rank(suite, &format!("asked-{round}"))).await?;
        if round > 0 {
            // Two passes read the rows: one for the values, one for whom the new cut-offs move.
            passes.push(rank.as_secs_f64() / 2.0 / select.as_secs_f64());
            waits.push(asked / quiet);
            selects.push(select.as_secs_f64());
            ranks.push(rank.as_secs_f64());
            quiet_p99.push(quiet);
            ranking_p99.push(asked);
        }
    }
    let memory = match more.iter().copied().reduce(f64::max) {
        Some(most) => format!(", at most {most:.0} MB more in memory"),
        None => String::new(),
    };
    let rank = format!(
        "one of two passes over {customers} customers against a plain SELECT of {:.1} s; {:.1} s in all{memory}",
        median(selects),
        median(ranks),
    );
    let wait = format!(
        "p99 of GetScore {:.2} ms during a ranking against {:.2} ms ({} /s)",
        median(ranking_p99),
        median(quiet_p99),
        Duration::from_secs(1).as_millis() / EVERY.as_millis()
    );
    Ok(vec![Row::new(rank_key, passes, rank), Row::new(p99_key, waits, wait)])
}

/// One ranking from the question to its end.
async fn rank(suite: &Suite, request_id: &str) -> Result<Duration> {
    let begin = stopwatch();
    let message = scoring::RankCustomersRequest { request_id: request_id.to_owned(), ..Default::default() };
    let operation = suite.client.scoring().rank_customers(message).await?.into_inner();
    commands::wait(&suite.client, operation, false).await?;
    Ok(begin.elapsed())
}

/// The p99 in milliseconds of whoever asks for a score while something else happens, from the moment on that each is to ask.
async fn asked<T>(suite: &Suite, meanwhile: impl Future<Output = T>) -> Result<f64> {
    let channel = connect(&suite.url).await?;
    let mut meanwhile = std::pin::pin!(meanwhile);
    let mut asking = tokio::task::JoinSet::new();
    let mut every = tokio::time::interval(EVERY);
    for number in 0.. {
        let due = tokio::select! {
            biased;
            _ = &mut meanwhile => break,
            due = every.tick() => due,
        };
        let (channel, request) = (channel.clone(), get_score(suite, scatter(number) % suite.customers.len().max(1)));
        asking.spawn(async move {
            wire::call(channel, GET_SCORE, request).await?;
            Ok::<_, tonic::Status>(due.elapsed())
        });
    }
    let mut latencies = Vec::new();
    while let Some(latency) = asking.join_next().await {
        latencies.push(latency.map_err(|error| Error::new(error.to_string()))??);
    }
    latencies.sort_unstable();
    Ok(quantile(&latencies, 99))
}

/// The megabytes that this process has in memory, its peak being counted from now on; absent where the system does not tell.
fn memory_from_now_on() -> Option<f64> {
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    memory("VmRSS:")
}

/// A line of what the system knows of this process's memory, in megabytes.
fn memory(line: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = status.lines().find_map(|text| text.strip_prefix(line))?;
    Some(kilobytes.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1_024.0)
}
