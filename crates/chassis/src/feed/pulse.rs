//! Whether a follower keeps up, as people and measurements are told.
use std::time::Duration;

use tokio::time::Instant;

use super::follow::SILENCE;
use crate::{context::Context, telemetry};

/// How long a peer may be away before that is worth a word: it may just be starting, as we are, or be restarted.
const PATIENCE: Duration = Duration::from_secs(3);

/// What keeps a follower from following.
pub(super) struct Trouble {
    /// One of a few words, for measurements.
    why: &'static str,
    /// The same for people, with the causes.
    what: String,
    /// It may pass by itself in a moment.
    passing: bool,
}

impl Trouble {
    pub(super) fn new(why: &'static str, what: String) -> Self {
        Self { why, what, passing: false }
    }

    /// The peer is not there.
    pub(super) fn away(what: String) -> Self {
        Self { passing: true, ..Self::new("away", what) }
    }
}

/// Whether a follower keeps up, for those who watch over it.
pub(super) struct Pulse {
    name: &'static str,
    /// The publisher's state that is kept here is that of this moment.
    fresh: jiff::Timestamp,
    failing: Option<Instant>,
    resting: Option<Instant>,
    told: bool,
    /// A lag of ours stands among the measurements.
    measured: bool,
}

impl Pulse {
    pub(super) fn new(context: &Context, name: &'static str) -> Self {
        Self { name, fresh: context.clock.now(), failing: None, resting: None, told: false, measured: false }
    }

    /// Something came and is kept.
    pub(super) fn beats(&mut self, context: &Context, time: Option<jiff::Timestamp>, changes: usize) {
        if std::mem::take(&mut self.told) {
            tracing::info!(follower = self.name, "follows again");
        }
        (self.failing, self.resting) = (None, None);
        if let Some(time) = time {
            self.fresh = time;
            self.measure(context, changes as u64);
        }
    }

    /// The lag grows on, and people are told once.
    pub(super) fn fails(&mut self, context: &Context, trouble: &Trouble) {
        self.resting = None;
        telemetry::record_feed_failure(self.name, trouble.why);
        self.measure(context, 0);
        let since = *self.failing.get_or_insert_with(Instant::now);
        if self.told || (trouble.passing && since.elapsed() < PATIENCE) {
            tracing::debug!(follower = self.name, why = trouble.why, what = trouble.what, "still cannot follow");
        } else {
            self.told = true;
            tracing::warn!(
                follower = self.name,
                why = trouble.why,
                what = trouble.what,
                "cannot follow; tries again until it can, and says so then"
            );
        }
    }

    /// Another replica follows: how far it lags is its own to say. Only after a while, since replicas that all cannot follow hand the place to and
    /// fro, and none of them has anything new to tell.
    pub(super) fn rests(&mut self) {
        let since = *self.resting.get_or_insert_with(Instant::now);
        if since.elapsed() < SILENCE {
            return;
        }
        (self.failing, self.told) = (None, false);
        if std::mem::take(&mut self.measured) {
            telemetry::record_feed_lag(self.name, 0.0, 0);
        }
    }

    fn measure(&mut self, context: &Context, changes: u64) {
        self.measured = true;
        let lag = context.clock.now().duration_since(self.fresh).as_secs_f64().max(0.0);
        telemetry::record_feed_lag(self.name, lag, changes);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{
        clock::Clock,
        peers::Peers,
        testing::{DEADLINE, noon, otlp::Receiver},
    };

    /// Rests for as long as is given.
    fn rest(pulse: &mut Pulse, long: Duration) {
        pulse.rests();
        pulse.resting = pulse.resting.map(|since| since.checked_sub(long).unwrap());
        pulse.rests();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_replica_that_lost_its_place_without_any_trouble_does_not_export_its_old_lag_for_ever() {
        let receiver = Receiver::start().unwrap();
        let config = telemetry::Config { otlp_endpoint: Some(receiver.endpoint()), ..telemetry::Config::default() };
        let (dispatch, guard) = telemetry::scoped(&config, |_| {}).unwrap();
        let context = Context::new(Clock::mock(noon()), Peers::default());
        let mut pulse = Pulse::new(&context, "scores");
        let late = noon() - jiff::SignedDuration::from_hours(3);
        tracing::dispatcher::with_default(&dispatch, || pulse.beats(&context, Some(late), 1));
        guard.flush();
        let lag = |value: f64| {
            receiver.wait_for_measurements(
                move |all| all.iter().any(|one| one.name == "feed.lag" && one.value == value),
                DEADLINE,
            )
        };
        lag(10_800.0).await.unwrap();
        tracing::dispatcher::with_default(&dispatch, || rest(&mut pulse, SILENCE));
        guard.flush();
        lag(0.0).await.unwrap();
    }

    /// The lines that a pulse writes: level and message.
    fn lines(work: impl FnOnce(&mut Pulse, &Context)) -> Vec<(String, String)> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let config = telemetry::Config { log_filter: "info".to_owned(), ..telemetry::Config::default() };
        let write = move |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| line[key].as_str().unwrap().to_owned();
            sink.lock().unwrap().push((text("level"), text("message")));
        };
        let (dispatch, _guard) = telemetry::scoped(&config, write).unwrap();
        let context = Context::new(Clock::mock(noon()), Peers::default());
        tracing::dispatcher::with_default(&dispatch, || work(&mut Pulse::new(&context, "scores"), &context));
        std::mem::take(&mut lines.lock().unwrap())
    }

    #[test]
    fn a_peer_that_is_away_for_a_moment_is_not_worth_a_word() {
        let lines = lines(|pulse, context| {
            for _ in 0..9 {
                pulse.fails(context, &Trouble::away("not there yet".to_owned()));
            }
            pulse.beats(context, None, 0);
        });
        assert!(lines.is_empty(), "{lines:?}");
    }

    #[test]
    fn trouble_that_stays_is_told_once_and_so_is_its_end() {
        let stays = |pulse: &mut Pulse, context: &Context| {
            pulse.fails(context, &Trouble::away("gone".to_owned()));
            pulse.failing = pulse.failing.map(|since| since.checked_sub(PATIENCE).unwrap());
            for _ in 0..9 {
                pulse.fails(context, &Trouble::away("gone".to_owned()));
            }
        };
        let refused = |pulse: &mut Pulse, context: &Context| {
            for _ in 0..9 {
                pulse.fails(context, &Trouble::new("refused", "Unauthenticated".to_owned()));
            }
        };
        let all = lines(|pulse, context| {
            for trouble in [stays, refused] {
                trouble(pulse, context);
                pulse.beats(context, None, 0);
                pulse.beats(context, None, 0);
            }
        });
        let levels: Vec<_> = all.iter().map(|(level, _)| level.as_str()).collect();
        assert_eq!(levels, ["WARN", "INFO", "WARN", "INFO"], "{all:?}");
        // Another replica takes over in the midst of it: from then on it is no trouble of ours.
        let all = lines(|pulse, context| {
            stays(pulse, context);
            rest(pulse, SILENCE);
            pulse.beats(context, None, 0);
        });
        assert_eq!(all.len(), 1, "{all:?}");
        // It cannot follow either, and the place comes back.
        let all = lines(|pulse, context| {
            for _ in 0..3 {
                stays(pulse, context);
                rest(pulse, Duration::ZERO);
            }
        });
        assert_eq!(all.len(), 1, "{all:?}");
    }
}
