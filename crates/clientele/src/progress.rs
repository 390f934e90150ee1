//! How far a long command is: a bar on a terminal, a line now and then in a log.
use std::{
    cell::Cell,
    io::{self, IsTerminal, Read, Write},
    time::{Duration, Instant},
};

use chassis::clock::stopwatch;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::view;

/// Time between two lines where there is no terminal: a page of them in an hour.
const LINES: Duration = Duration::from_secs(60);

/// Says on standard error how far something is and how long it will still take. Where that is no terminal, in a line every minute.
#[derive(Debug)]
pub struct Progress {
    verb: &'static str,
    bar: ProgressBar,
    begin: Instant,
    /// Where it stood at the beginning.
    start: u64,
    /// When the last line was written, where lines are.
    line: Option<Cell<Instant>>,
}

impl Progress {
    /// Of reading so many bytes, if it is known how many.
    pub fn bytes(verb: &'static str, size: Option<u64>, show: bool) -> Self {
        let template = match size {
            Some(_) => "  {prefix} {bar:30} {percent:>3} %  {msg}, {bytes_per_sec}, {eta} left",
            None => "  {prefix} {spinner} {msg}, {bytes_per_sec}",
        };
        Self::new(verb, template, size, 0, show)
    }

    /// Of so many customers, of whom `start` are done already.
    pub fn customers(verb: &'static str, count: u64, start: u64, show: bool) -> Self {
        let template = "  {prefix} {bar:30} {human_pos}/{human_len} customers, {rate}, {eta} left";
        Self::new(verb, template, Some(count), start, show)
    }

    fn new(verb: &'static str, template: &str, length: Option<u64>, start: u64, show: bool) -> Self {
        let bar = length.map_or_else(ProgressBar::no_length, ProgressBar::new);
        let terminal = io::stderr().is_terminal();
        if !(show && terminal) {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template(template) {
            // Without the four digits behind the point that it has of its own.
            let rate = |state: &ProgressState, to: &mut dyn std::fmt::Write| {
                let _ = write!(to, "{:.0}/s", state.per_sec());
            };
            bar.set_style(style.with_key("rate", rate));
        }
        bar.set_prefix(verb);
        bar.set_position(start);
        // What was done before says nothing of how fast it goes.
        bar.reset_eta();
        let begin = stopwatch();
        let line = (show && !terminal).then(|| Cell::new(begin));
        Self { verb, bar, begin, start, line }
    }

    /// A reader whose bytes count.
    pub fn wrap_read<R: Read>(&self, input: R) -> impl Read + use<R> {
        self.bar.wrap_read(input)
    }

    /// So many rows are done; how far that is, the bytes tell.
    pub fn rows(&self, rows: u64) {
        let text = format!("{} rows", count(rows));
        self.say(&text);
        self.bar.set_message(text);
    }

    /// So many are done.
    pub fn done(&self, done: u64) {
        self.bar.set_position(done);
        self.say(&count(done));
    }

    /// The end: nothing of it stays on the screen.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn say(&self, what: &str) {
        let Some(last) = &self.line else { return };
        let now = stopwatch();
        if now.duration_since(last.get()) < LINES {
            return;
        }
        last.set(now);
        let left = left(now.duration_since(self.begin), self.start, self.bar.position(), self.bar.length());
        let _ = writeln!(io::stderr(), "  {}: {what}{left}", self.verb);
    }
}

/// How much there still is, where it is known: `, 31 %, 4 min left`.
#[allow(clippy::cast_precision_loss, reason = "per cents and minutes")]
fn left(elapsed: Duration, start: u64, position: u64, length: Option<u64>) -> String {
    let Some(length) = length.filter(|length| *length > 0 && position > start) else { return String::new() };
    let rate = elapsed.as_secs_f64() / (position - start) as f64;
    let seconds = rate * length.saturating_sub(position) as f64;
    let percent = position.min(length) as f64 / length as f64;
    #[allow(clippy::cast_possible_truncation, reason = "a duration for people")]
    let seconds = prost_types::Duration { seconds: round(seconds) as i64, nanos: 0 };
    format!(", {:.0} %, {} left", percent * 100.0, view::duration(Some(&seconds)))
}

/// Above two minutes to whole minutes: nobody knows it better.
fn round(seconds: f64) -> f64 {
    if seconds < 120.0 { seconds.round() } else { (seconds / 60.0).round() * 60.0 }
}

fn count(number: u64) -> String {
    view::count(i64::try_from(number).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_from_what_was_done_since_the_beginning() {
        let minute = Duration::from_secs(60);
        assert_eq!(left(minute, 0, 250, Some(1_000)), ", 25 %, 3 min left");
        assert_eq!(left(minute, 500, 750, Some(1_000)), ", 75 %, 60 s left");
        assert_eq!(left(minute, 0, 10, Some(10_000)), ", 0 %, 16 h 39 min left");
        assert_eq!(left(minute, 0, 1_200, Some(1_000)), ", 100 %, 0 s left");
        assert_eq!([left(minute, 0, 0, Some(1_000)), left(minute, 0, 5, None)], ["", ""]);
    }
}
