//! The only sources of time and ids: both are passed in, so that tests move time and a demo plays in its data's own time.
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use uuid::{ContextV7, Uuid};

/// A source of time. Cheap to clone; clones share the source.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    System,
    Shifted(SignedDuration),
    Mock(watch::Sender<i64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Arc::new(Source::System))
    }

    /// The machine's clock moved by a constant so that it reads `start` now.
    pub fn starting_at(start: Timestamp) -> Self {
        Self(Arc::new(Source::Shifted(start.duration_since(system_now()))))
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    pub fn mock(start: Timestamp) -> Self {
        Self(Arc::new(Source::Mock(watch::Sender::new(start.as_microsecond()))))
    }

    /// Now, cut to whole microseconds, which is what both databases keep.
    pub fn now(&self) -> Timestamp {
        let exact = match &*self.0 {
            Source::System => system_now(),
            Source::Shifted(by) => system_now().saturating_add(*by).unwrap_or(Timestamp::MAX),
            Source::Mock(now) => return at_micros(*now.borrow()),
        };
        at_micros(exact.as_microsecond())
    }

    /// Now, as microseconds since 1970-01-01T00:00:00Z.
    pub fn now_micros(&self) -> i64 {
        self.now().as_microsecond()
    }

    /// Moves a mock clock; any other clock cannot be moved and stays as it is. A negative step is a clock that jumps back.
    pub fn advance(&self, by: SignedDuration) {
        if let Source::Mock(now) = &*self.0 {
            now.send_modify(|now| *now = now.saturating_add(micros(by)));
        }
    }

    /// Sets a mock clock; any other clock stays as it is.
    pub fn set(&self, to: Timestamp) {
        if let Source::Mock(now) = &*self.0 {
            now.send_replace(to.as_microsecond());
        }
    }

    /// Returns once `duration` has passed on this clock; with a mock clock, once it was moved that far.
    pub async fn sleep(&self, duration: Duration) {
        match &*self.0 {
            Source::System | Source::Shifted(_) => tokio::time::sleep(duration).await,
            Source::Mock(now) => {
                let until = now.borrow().saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX));
                // The sender lives in `self`, so waiting can end in one way only.
                let _ = now.subscribe().wait_for(|now| *now >= until).await;
            }
        }
    }
}

/// The timestamp that many microseconds after 1970; beyond the calendar's end it is the end.
pub fn at_micros(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// Whole microseconds of a duration, saturating.
pub fn micros(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(if duration.is_negative() { i64::MIN } else { i64::MAX })
}

/// A timestamp as protobuf has it.
pub fn to_proto(time: Timestamp) -> prost_types::Timestamp {
    let (mut seconds, mut nanos) = (time.as_second(), time.subsec_nanosecond());
    // protobuf counts nanoseconds forward from the second, also before 1970.
    if nanos < 0 {
        seconds -= 1;
        nanos += 1_000_000_000;
    }
    prost_types::Timestamp { seconds, nanos }
}

/// A moment for measuring how long something takes, or for giving up on it. Never for anything that is stored or decided: that is [`Clock`]'s.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the machine's stopwatch")]
pub fn stopwatch() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
fn system_now() -> Timestamp {
    Timestamp::now()
}

/// A source of ids: UUIDv7 (RFC 9562), which sort by the clock's time and, within one source, by order of making, also when
/// the clock jumps back.
#[derive(Clone, Debug)]
pub struct Ids {
    clock: Clock,
    context: Arc<Mutex<ContextV7>>,
}

impl Ids {
    /// Ids stamped by `clock`.
    pub fn new(clock: Clock) -> Self {
        Self { clock, context: Arc::new(Mutex::new(ContextV7::new())) }
    }

    /// The next id.
    #[allow(clippy::disallowed_methods, reason = "the one place that makes ids")]
    pub fn next(&self) -> Uuid {
        let now = self.clock.now();
        let context = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
        Uuid::new_v7(uuid::Timestamp::from_unix(&*context, seconds, nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_mock_clock_sleeps_until_it_is_moved() {
        let clock = Clock::mock(at_micros(1_000_000));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(60)).await }
        });
        clock.advance(SignedDuration::from_secs(59));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        // The sleeper may have started before or after the first step; a further minute is enough for both.
        clock.advance(SignedDuration::from_secs(60));
        tokio::time::timeout(Duration::from_secs(10), sleeper).await.unwrap().unwrap();
    }

    #[test]
    fn ids_keep_their_order_when_the_clock_jumps_back() {
        let clock = Clock::mock("2026-01-01T00:00:00Z".parse().unwrap());
        let ids = Ids::new(clock.clone());
        let first = ids.next();
        clock.advance(SignedDuration::from_secs(-3600));
        let second = ids.next();
        assert!(first < second, "{first} {second}");
    }

    #[test]
    fn times_before_1970_keep_their_nanoseconds_forward() {
        let time: Timestamp = "1969-12-31T23:59:59.25Z".parse().unwrap();
        assert_eq!(to_proto(time), prost_types::Timestamp { seconds: -1, nanos: 250_000_000 });
    }
}
