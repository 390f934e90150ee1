//! Configuration in layers: defaults, a file, the environment, flags. Each overrides those before it.
//!
//! It is checked as a whole before anything starts: a typo, a value of the wrong type and one out of range are all reported
//! at once, each with its key, where it came from and what is allowed.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use figment::value::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

mod layers;
mod mask;
mod problem;
mod tree;

pub use mask::{DbUrl, Secret, mask_url};
pub use problem::{Errors, Origin, Problem};

use crate::parse;
use layers::Layers;
use problem::Origins;
use tree::join;

/// Where configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// TOML with a value for every key that is not optional; its comments are the documentation of the keys.
    pub defaults: String,
    /// A TOML file that need not hold more than what differs from the defaults.
    pub file: Option<PathBuf>,
    /// Variables of the environment. `CLIENTELE_SCORING__MARGIN_RATE` is the key `scoring.margin_rate`; variables of other
    /// programs are passed over, an empty value is as if unset, and a list is written as in TOML: `["a", "b"]`.
    pub env: Vec<(String, String)>,
    /// Flags: dotted keys and their values.
    pub overrides: Vec<(String, String)>,
}

impl Sources {
    /// The sources of this process, with its environment as it is now.
    pub fn from_process(defaults: impl Into<String>, file: Option<PathBuf>, overrides: Vec<(String, String)>) -> Self {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
            .collect();
        Self { defaults: defaults.into(), file, env, overrides }
    }
}

/// A configuration that knows what is allowed.
pub trait Validate {
    /// Tells `check` about everything that is not allowed, not just about the first.
    fn validate(&self, check: &mut Check<'_>);
}

/// Collects what is wrong with a configuration.
#[derive(Debug)]
pub struct Check<'a> {
    prefix: String,
    origins: &'a Origins,
    found: &'a mut Found,
}

#[derive(Debug, Default)]
struct Found {
    problems: Vec<Problem>,
    /// What is allowed of each number that was looked at, right or wrong: of a value that could not even be read this is all that helps.
    ranges: BTreeMap<String, String>,
}

impl Check<'_> {
    /// Demands that a number lies in `allowed`, both ends included. NaN lies nowhere.
    pub fn range<V>(&mut self, key: &str, value: V, allowed: RangeInclusive<V>)
    where
        V: PartialOrd + fmt::Display,
    {
        let text = format!("{} to {}", allowed.start(), allowed.end());
        if !allowed.contains(&value) {
            self.report(key, Some(value.to_string()), format!("allowed: {text}"));
        }
        self.found.ranges.insert(self.full(key), text);
    }

    /// Demands that `ok` holds; otherwise `allowed` says what would be right, in the form `allowed: …`. The value is not shown: it may
    /// be a secret.
    pub fn require(&mut self, key: &str, ok: bool, allowed: &str) {
        if !ok {
            self.report(key, None, allowed.to_owned());
        }
    }

    /// Checks a part of the configuration, whose keys stand below `key`.
    pub fn nested(&mut self, key: &str, part: &impl Validate) {
        let prefix = self.full(key);
        part.validate(&mut Check { prefix, origins: self.origins, found: self.found });
    }

    /// Checks with the means of requests; the fields are full keys.
    pub fn parsing(&mut self, check: impl FnOnce(&mut parse::Check)) {
        let mut found = parse::Check::noting_ranges();
        check(&mut found);
        self.found.ranges.extend(found.ranges());
        for violation in found.take() {
            let origin = self.origins.of(&violation.field).cloned();
            let problem = Problem { key: violation.field, origin, value: None, message: violation.message };
            self.found.problems.push(problem);
        }
    }

    fn full(&self, key: &str) -> String {
        join(&self.prefix, key)
    }

    fn report(&mut self, key: &str, value: Option<String>, message: String) {
        let key = self.full(key);
        let origin = self.origins.of(&key).cloned();
        self.found.problems.push(Problem { key, origin, value, message });
    }
}

/// Checks a configuration that was not loaded but made.
///
/// # Errors
/// With everything that is not allowed.
pub fn validate(config: &impl Validate) -> Result<(), Errors> {
    Errors::of(found(config, &Origins::default()).problems)
}

fn found(config: &impl Validate, origins: &Origins) -> Found {
    let mut found = Found::default();
    config.validate(&mut Check { prefix: String::new(), origins, found: &mut found });
    found
}

/// Reads and checks the configuration.
///
/// # Errors
/// With everything that is wrong in any of the sources: unreadable files, unknown keys (and what was probably meant), values of the
/// wrong type, missing ones, and what [`Validate`] finds.
pub fn load<T>(sources: &Sources) -> Result<T, Errors>
where
    T: DeserializeOwned + Serialize + Validate,
{
    let mut problems = Vec::new();
    let layers = Layers::read(sources, &mut problems);
    let (config, refused) = layers.extract::<T>(&mut problems);
    // When the whole cannot be had, the defaults alone still tell which keys there are.
    let known = match &config {
        Some(config) => Value::serialize(config).ok(),
        None => Value::from(layers.defaults.clone())
            .deserialize::<T>()
            .ok()
            .and_then(|defaults| Value::serialize(defaults).ok()),
    };
    if let Some(known) = known {
        layers.report_unknown(&known, config.is_some(), &refused, &mut problems);
    }
    let Some(config) = config else { return Err(Errors { problems }) };
    let found = found(&config, &layers.origins);
    for problem in &mut problems {
        // What the type allows is less than what the key does.
        if let (Some(range), Some(at)) = (found.ranges.get(&problem.key), problem.message.find(ALLOWED)) {
            problem.message.truncate(at);
            problem.message.push_str(&format!("{ALLOWED}{range}"));
        }
    }
    // What was checked of a list without some of its items is not what was given.
    problems.extend(found.problems.into_iter().filter(|problem| !refused.shortened(&problem.key)));
    Errors::of(problems).map(|()| config)
}

/// Before what is allowed.
const ALLOWED: &str = "allowed: ";

/// The effective configuration as TOML. What is secret is masked by its type: [`Secret`] and [`DbUrl`].
pub fn print<T: Serialize>(config: &T) -> String {
    toml::to_string_pretty(config).unwrap_or_else(|error| format!("# The configuration cannot be shown: {error}\n"))
}
