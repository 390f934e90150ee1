//! The measurements of the chassis. All are no-ops, and cost next to nothing, while telemetry is off.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};

use super::active;

/// The gRPC codes 0 to 16.
pub(super) const CODES: usize = 17;

/// Upper bounds of the duration buckets in seconds: answers from memory lie at the lower end, a call that used up a
/// generous deadline at the upper.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Instruments, made once per telemetry.
#[derive(Debug)]
pub(super) struct Instruments {
    pub(super) server_duration: Histogram<f64>,
    pub(super) stream_ends: Counter<u64>,
    tx_duration: Histogram<f64>,
    tx_retries: Counter<u64>,
    feed_lag: Gauge<f64>,
    feed_changes: Counter<u64>,
    feed_failures: Counter<u64>,
    meter: Meter,
    counters: RwLock<HashMap<&'static str, Counter<u64>>>,
}

impl Instruments {
    pub(super) fn new(meter: Meter) -> Self {
        let seconds = |name: &'static str, what: &'static str| {
            meter.f64_histogram(name).with_unit("s").with_description(what).with_boundaries(SECONDS.to_vec()).build()
        };
        Self {
            server_duration: seconds(
                "rpc.server.duration",
                "Time from a request's headers to the end of its answer; of a server stream, to the start of its answer.",
            ),
            stream_ends: meter
                .u64_counter("rpc.server.stream.ends")
                .with_description("Server streams that ended, by status.")
                .build(),
            tx_duration: seconds("db.tx.duration", "Time of a transaction by name, retries included."),
            tx_retries: meter
                .u64_counter("db.tx.retries")
                .with_description("Attempts of transactions beyond the first.")
                .build(),
            feed_lag: meter
                .f64_gauge("feed.lag")
                .with_unit("s")
                .with_description("Age of what a follower has of its publisher; grows while it cannot follow.")
                .build(),
            feed_changes: meter.u64_counter("feed.changes").with_description("Changes a follower has applied.").build(),
            feed_failures: meter
                .u64_counter("feed.failures")
                .with_description("Times that a follower could not follow, by what kept it.")
                .build(),
            counters: RwLock::default(),
            meter,
        }
    }

    fn counter(&self, name: &'static str) -> Counter<u64> {
        if let Some(counter) = self.counters.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return counter.clone();
        }
        let mut counters = self.counters.write().unwrap_or_else(PoisonError::into_inner);
        counters.entry(name).or_insert_with(|| self.meter.u64_counter(name).build()).clone()
    }
}

/// Records a finished transaction: its name, how long it took in seconds with all attempts, how it ended (`committed`,
/// `refused`, … — a handful of fixed words), and how many attempts that took (1 = no retry).
pub fn record_tx(name: &'static str, seconds: f64, outcome: &'static str, attempts: u32) {
    let Some(active) = active() else { return };
    let Some(instruments) = active.instruments() else { return };
    let labels = [KeyValue::new("tx.name", name), KeyValue::new("tx.outcome", outcome)];
    instruments.tx_duration.record(seconds, &labels);
    if attempts > 1 {
        instruments.tx_retries.add(u64::from(attempts - 1), &labels[..1]);
    }
}

/// Records that a follower could not follow: `apply` where it could not apply what came, and words of [`crate::feed`] for the rest.
pub fn record_feed_failure(follower: &str, why: &'static str) {
    let Some(active) = active() else { return };
    let Some(instruments) = active.instruments() else { return };
    instruments
        .feed_failures
        .add(1, &[KeyValue::new("feed.follower", follower.to_owned()), KeyValue::new("reason", why)]);
}

/// Records that a follower has applied `changes` more changes, and that what it has is `seconds` old.
pub fn record_feed_lag(follower: &str, seconds: f64, changes: u64) {
    let Some(active) = active() else { return };
    let Some(instruments) = active.instruments() else { return };
    let labels = [KeyValue::new("feed.follower", follower.to_owned())];
    instruments.feed_lag.record(seconds, &labels);
    instruments.feed_changes.add(changes, &labels);
}

/// Counts one more of `name`, by `reason`: requests shed, for one. Both are fixed words, so that the number of series is
/// bounded by what the source spells out.
pub fn count(name: &'static str, reason: &'static str) {
    let Some(active) = active() else { return };
    let Some(instruments) = active.instruments() else { return };
    instruments.counter(name).add(1, &[KeyValue::new("reason", reason)]);
}
