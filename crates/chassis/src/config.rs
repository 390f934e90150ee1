//! Configuration in layers: defaults, a file, the environment, flags. Each overrides those before it.
//!
//! It is checked as a whole before anything starts: a typo, a value of the wrong type and one out of range are all reported
//! at once, each with its key, where it came from and what is allowed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::value::{Dict, Value};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Variables of the environment that begin with this are configuration.
const ENV_PREFIX: &str = "CLIENTELE_";
/// Names of the settings tests are told about; no service reads them.
const TEST_PREFIX: &str = "CLIENTELE_TEST_";
/// What the command line reads of the environment itself: which file to load, and which server to call.
const COMMAND_LINE: [&str; 2] = ["CLIENTELE_CONFIG", "CLIENTELE_SERVER"];
/// Between the parts of a key in the name of a variable, since the parts themselves have single underscores.
const ENV_SEPARATOR: &str = "__";
/// Variables that mean the same to every program that exports telemetry. Our own name for the key goes before.
const STANDARD: [(&str, &str); 1] = [("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint")];
/// Wrong values are found one after the other; this many are enough to stop looking.
const MAX_WRONG_VALUES: usize = 64;
/// What is shown of a secret.
const MASK: &str = "***";

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
    problems: &'a mut Vec<Problem>,
}

impl Check<'_> {
    /// Demands that a number lies in `allowed`, both ends included. NaN lies nowhere.
    pub fn range<V>(&mut self, key: &str, value: V, allowed: RangeInclusive<V>)
    where
        V: PartialOrd + fmt::Display,
    {
        if !allowed.contains(&value) {
            let allowed = format!("allowed: {} to {}", allowed.start(), allowed.end());
            self.report(key, Some(value.to_string()), allowed);
        }
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
        part.validate(&mut Check { prefix, origins: self.origins, problems: self.problems });
    }

    /// Takes over what a [`crate::parse::Check`] found; its fields are full keys.
    pub fn violations(&mut self, found: Vec<crate::error::Violation>) {
        for violation in found {
            let origin = self.origins.of(&violation.field).cloned();
            self.problems.push(Problem { key: violation.field, origin, value: None, message: violation.message });
        }
    }

    fn full(&self, key: &str) -> String {
        join(&self.prefix, key)
    }

    fn report(&mut self, key: &str, value: Option<String>, message: String) {
        let key = self.full(key);
        let origin = self.origins.of(&key).cloned();
        self.problems.push(Problem { key, origin, value, message });
    }
}

/// Checks a configuration that was not loaded but made.
///
/// # Errors
/// With everything that is not allowed.
pub fn validate(config: &impl Validate) -> Result<(), Errors> {
    let mut problems = Vec::new();
    config.validate(&mut Check { prefix: String::new(), origins: &Origins::default(), problems: &mut problems });
    Errors::of(problems)
}

/// Everything that is wrong with a configuration; shown as one line each.
#[derive(Debug)]
pub struct Errors {
    problems: Vec<Problem>,
}

impl Errors {
    fn of(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }

    /// The problems, in the order of their discovery.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => f.write_str("the configuration has an error:")?,
            count => write!(f, "the configuration has {count} errors:")?,
        }
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The dotted key, empty when it is about a whole source.
    pub key: String,
    /// Where the value came from, if that is known.
    pub origin: Option<Origin>,
    /// The value, where it helps and is no secret.
    pub value: Option<String>,
    /// What is wrong, or what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        match &self.origin {
            Some(origin) if self.key.is_empty() => write!(f, "{origin}: ")?,
            Some(origin) => write!(f, " ({origin}): ")?,
            None => f.write_str(": ")?,
        }
        f.write_str(&self.message)
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The embedded defaults.
    Defaults,
    /// The file.
    File(PathBuf),
    /// A variable of the environment.
    Env(String),
    /// A flag.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defaults => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

#[derive(Debug, Default)]
struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// The origin of a key, or of the value it is part of.
    fn of(&self, key: &str) -> Option<&Origin> {
        self.holder(key).and_then(|holder| self.0.get(holder))
    }

    /// The key itself or the nearest one above it that was set as a whole.
    fn holder<'k>(&self, key: &'k str) -> Option<&'k str> {
        let mut key = key;
        loop {
            if self.0.contains_key(key) {
                return Some(key);
            }
            key = key.rsplit_once('.')?.0;
        }
    }
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
    let config: Option<T> = layers.extract(&mut problems);
    // When the whole cannot be had, the defaults alone still tell which keys there are.
    let known = match &config {
        Some(config) => Value::serialize(config).ok(),
        None => Value::from(layers.defaults.clone())
            .deserialize::<T>()
            .ok()
            .and_then(|defaults| Value::serialize(defaults).ok()),
    };
    if let Some(known) = known {
        layers.report_unknown(&known, &mut problems);
    }
    if let Some(config) = &config {
        config.validate(&mut Check { prefix: String::new(), origins: &layers.origins, problems: &mut problems });
    }
    match config {
        Some(config) => Errors::of(problems).map(|()| config),
        None => Err(Errors { problems }),
    }
}

/// The effective configuration as TOML. What is secret is masked by its type: [`Secret`] and [`DbUrl`].
pub fn print<T: Serialize>(config: &T) -> String {
    toml::to_string_pretty(config).unwrap_or_else(|error| format!("# The configuration cannot be shown: {error}\n"))
}

/// All sources, one laid over the other.
struct Layers {
    defaults: Dict,
    merged: Dict,
    origins: Origins,
    /// Texts as they were given in variables and flags, by key: what looks like a number may be meant as a text.
    texts: BTreeMap<String, String>,
    /// Keys of [`STANDARD`] variables, which need not concern a configuration.
    optional: BTreeSet<String>,
}

impl Layers {
    fn read(sources: &Sources, problems: &mut Vec<Problem>) -> Self {
        let defaults = parse(&sources.defaults, Origin::Defaults, problems);
        let mut layers = Self {
            defaults: defaults.clone(),
            merged: Dict::new(),
            origins: Origins::default(),
            texts: BTreeMap::new(),
            optional: BTreeSet::new(),
        };
        layers.lay(defaults, &Origin::Defaults);
        if let Some(path) = &sources.file {
            let origin = Origin::File(path.clone());
            let values = read_file(path, &origin, problems);
            layers.lay(values, &origin);
        }
        for (name, key) in STANDARD {
            if let Some((_, value)) = sources.env.iter().find(|(given, value)| given == name && !value.is_empty()) {
                layers.lay_text(key, value, Origin::Env(name.to_owned()));
                layers.optional.insert(key.to_owned());
            }
        }
        for (name, value) in &sources.env {
            if let Some(key) = key_of_variable(name, value) {
                layers.optional.remove(&key);
                layers.lay_text(&key, value, Origin::Env(name.clone()));
            }
        }
        for (key, value) in &sources.overrides {
            layers.optional.remove(key);
            layers.lay_text(key, value, Origin::Flag);
        }
        layers
    }

    fn lay(&mut self, values: Dict, origin: &Origin) {
        for (key, value) in leaves(&Value::from(values)) {
            self.lay_value(&key, value, origin.clone());
        }
    }

    fn lay_text(&mut self, key: &str, text: &str, origin: Origin) {
        let value = match find(&self.defaults, key) {
            // A text stays a text, even if it looks like a number.
            Some(Value::String(..) | Value::Char(..)) => Value::from(text),
            _ => value_of_text(text),
        };
        self.texts.insert(key.to_owned(), text.to_owned());
        self.lay_value(key, value, origin);
    }

    fn lay_value(&mut self, key: &str, value: Value, origin: Origin) {
        // A table given as a whole replaces what was said of its parts, and the other way round.
        let below = format!("{key}.");
        self.origins.0.retain(|known, _| !known.starts_with(&below));
        put(&mut self.merged, key, value);
        self.origins.0.insert(key.to_owned(), origin);
    }

    /// Reads the whole; for every value that does not fit its default steps in, so that the next one is found too. `None` when
    /// there is a value that nothing can step in for.
    fn extract<T: DeserializeOwned>(&self, problems: &mut Vec<Problem>) -> Option<T> {
        let mut values = self.merged.clone();
        let mut taken_as_text = BTreeSet::new();
        let mut replaced = BTreeSet::new();
        for _ in 0..MAX_WRONG_VALUES {
            let error = match Value::from(values.clone()).deserialize::<T>() {
                Ok(config) => return Some(config),
                Err(error) => error,
            };
            let mut key = error.path.join(".");
            if let Kind::MissingField(field) = &error.kind {
                key = join(&key, field);
                problems.push(Problem {
                    origin: None,
                    value: None,
                    message: "missing, and there is no default".to_owned(),
                    key,
                });
                return None;
            }
            if let Kind::UnknownField(field, _) = &error.kind {
                // Set aside here and reported below, together with those that a more tolerant type would pass over.
                if error.path.last() != Some(field) {
                    key = join(&key, field);
                }
                if !replaced.insert(key.clone()) {
                    return None;
                }
                remove(&mut values, &key);
                continue;
            }
            let holder = self.origins.holder(&key).unwrap_or(&key).to_owned();
            if let Some(text) = self.texts.get(&holder)
                && taken_as_text.insert(holder.clone())
                && !replaced.contains(&holder)
                && !matches!(find(&values, &holder), Some(Value::String(..)))
            {
                put(&mut values, &holder, Value::from(text.as_str()));
                continue;
            }
            problems.push(Problem {
                origin: self.origins.of(&key).cloned(),
                value: None,
                message: describe(&error.kind),
                key,
            });
            if !replaced.insert(holder.clone()) {
                return None;
            }
            match find(&self.defaults, &holder) {
                Some(default) => put(&mut values, &holder, default.clone()),
                None => remove(&mut values, &holder),
            }
        }
        None
    }

    /// Whatever was given and is not there in the configuration that was read was not understood.
    fn report_unknown(&self, known: &Value, problems: &mut Vec<Problem>) {
        let names: BTreeSet<String> = leaves_in_lists(known)
            .into_iter()
            .chain(leaves(&Value::from(self.defaults.clone())))
            .map(|(key, _)| key)
            .collect();
        for (key, _) in leaves_in_lists(&Value::from(self.merged.clone())) {
            if has(known, &key) || self.optional.contains(&key) || problems.iter().any(|problem| problem.key == key) {
                continue;
            }
            let origin = self.origins.of(&key).cloned();
            // What only the defaults know is no suggestion: it is unknown itself.
            let nearest = nearest(&key, names.iter().filter(|name| has(known, name)));
            let message = match nearest {
                Some(nearest) => format!("unknown key; did you mean {nearest}?"),
                None => "unknown key".to_owned(),
            };
            problems.push(Problem { key, origin, value: None, message });
        }
    }
}

fn parse(text: &str, origin: Origin, problems: &mut Vec<Problem>) -> Dict {
    match toml::from_str(text) {
        Ok(values) => values,
        Err(error) => {
            // Only the line's number is told: the line itself may hold a secret.
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let message = format!("line {line}: {}", error.message().replace('\n', ", "));
            problems.push(Problem { key: String::new(), origin: Some(origin), value: None, message });
            Dict::new()
        }
    }
}

fn read_file(path: &Path, origin: &Origin, problems: &mut Vec<Problem>) -> Dict {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, origin.clone(), problems),
        Err(error) => {
            let message = format!("cannot be read: {error}");
            problems.push(Problem { key: String::new(), origin: Some(origin.clone()), value: None, message });
            Dict::new()
        }
    }
}

/// The key that a variable of the environment sets, `None` for those that are not configuration.
fn key_of_variable(name: &str, value: &str) -> Option<String> {
    let key = name.strip_prefix(ENV_PREFIX)?;
    let of_others = COMMAND_LINE.contains(&name) || name.starts_with(TEST_PREFIX) || is_service_link(name, value);
    if key.is_empty() || value.is_empty() || of_others {
        return None;
    }
    Some(key.to_ascii_lowercase().replace(ENV_SEPARATOR, "."))
}

/// Kubernetes announces every service of a namespace to every pod in variables named after it, `CLIENTELE_PORT=tcp://…` for a
/// service called `clientele`. They are no configuration of ours, and no reason to refuse to start.
fn is_service_link(name: &str, value: &str) -> bool {
    if name.contains(ENV_SEPARATOR) {
        return false;
    }
    let address = value.starts_with("tcp://") || value.starts_with("udp://");
    let of_port = name.split("_PORT_").nth(1).is_some_and(|port| {
        let (number, protocol) = port.split_once('_').unwrap_or((port, ""));
        number.parse::<u16>().is_ok() && (protocol.starts_with("TCP") || protocol.starts_with("UDP"))
    });
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && address)
        || of_port
}

/// A text as the value it looks like: number, truth value, list or table as in TOML, and otherwise the text itself.
fn value_of_text(text: &str) -> Value {
    let as_toml = toml::from_str::<toml::Table>(&format!("value = {text}"));
    match as_toml {
        Ok(mut table) if table.len() == 1 => match table.remove("value") {
            // Dates are texts to every configuration of ours.
            Some(toml::Value::Datetime(_)) | None => Value::from(text),
            Some(value) => Value::serialize(value).unwrap_or_else(|_| Value::from(text)),
        },
        _ => Value::from(text),
    }
}

/// What is wrong with a value. The value itself is not shown where it may be a secret in the wrong place.
fn describe(kind: &Kind) -> String {
    use figment::error::Actual;
    match kind {
        Kind::InvalidType(actual, expected) => {
            let found: Cow<'_, str> = match actual {
                Actual::Bool(_) => "a truth value".into(),
                Actual::Unsigned(_) | Actual::Signed(_) => "a whole number".into(),
                Actual::Float(_) => "a number".into(),
                Actual::Char(_) | Actual::Str(_) => "a text".into(),
                Actual::Seq => "a list".into(),
                Actual::Map => "a table".into(),
                other => other.to_string().into(),
            };
            format!("found {found}, allowed: {}", plain(expected))
        }
        Kind::InvalidValue(_, expected) | Kind::InvalidLength(_, expected) => {
            format!("allowed: {}", plain(expected))
        }
        Kind::UnknownVariant(found, allowed) => format!("found `{found}`, allowed: {}", allowed.join(", ")),
        Kind::UnknownField(field, allowed) => format!("unknown key {field}, known: {}", allowed.join(", ")),
        other => other.to_string(),
    }
}

/// The types of the language in the words of a configuration.
fn plain(expected: &str) -> Cow<'_, str> {
    let bits = |prefix: char| expected.strip_prefix(prefix).and_then(|bits| bits.parse::<u32>().ok());
    match expected {
        "a boolean" | "bool" => "true or false".into(),
        "a string" => "a text".into(),
        "a sequence" => "a list".into(),
        "f32" | "f64" => "a number".into(),
        "usize" => "a whole number from 0".into(),
        _ => match (bits('u'), bits('i')) {
            (Some(bits @ 1..=63), _) => format!("a whole number from 0 to {}", (1_u64 << bits) - 1).into(),
            (Some(_), _) => "a whole number from 0".into(),
            (_, Some(_)) => "a whole number".into(),
            _ => expected.into(),
        },
    }
}

fn join(prefix: &str, key: &str) -> String {
    match (prefix, key) {
        ("", key) => key.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, key) => format!("{prefix}.{key}"),
    }
}

/// The values that are not tables, by their dotted keys. An empty table and a list count as values.
fn leaves(value: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    collect(value, "", false, &mut found);
    found
}

/// The same, with the values of tables in lists by their places.
fn leaves_in_lists(value: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    collect(value, "", true, &mut found);
    found
}

fn collect(value: &Value, prefix: &str, in_lists: bool, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Dict(_, dict) if !dict.is_empty() => {
            for (key, value) in dict {
                collect(value, &join(prefix, key), in_lists, found);
            }
        }
        Value::Array(_, items) if in_lists && items.iter().any(|item| item.as_dict().is_some()) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, &join(prefix, &index.to_string()), in_lists, found);
            }
        }
        Value::Dict(..) if prefix.is_empty() => {}
        value => found.push((prefix.to_owned(), value.clone())),
    }
}

fn find<'v>(dict: &'v Dict, key: &str) -> Option<&'v Value> {
    match key.split_once('.') {
        Some((first, rest)) => dict.get(first)?.as_dict().and_then(|dict| find(dict, rest)),
        None => dict.get(key),
    }
}

/// Whether there is something at a key; places in lists are parts of it.
fn has(value: &Value, key: &str) -> bool {
    let (first, rest) = match key.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (key, None),
    };
    let inner = match value {
        Value::Dict(_, dict) => dict.get(first),
        Value::Array(_, items) => first.parse().ok().and_then(|index: usize| items.get(index)),
        _ => None,
    };
    match (inner, rest) {
        (Some(inner), Some(rest)) => has(inner, rest),
        (inner, None) => inner.is_some(),
        (None, _) => false,
    }
}

fn put(dict: &mut Dict, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            dict.insert(key.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = dict.entry(first.to_owned()).or_insert_with(|| Value::from(Dict::new()));
            if inner.as_dict().is_none() {
                *inner = Value::from(Dict::new());
            }
            if let Value::Dict(_, inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

fn remove(dict: &mut Dict, key: &str) {
    match key.split_once('.') {
        None => {
            dict.remove(key);
        }
        Some((first, rest)) => {
            if let Some(Value::Dict(_, inner)) = dict.get_mut(first) {
                remove(inner, rest);
            }
        }
    }
}

/// The known key that was probably meant: few letters differ, or only the table is another one.
fn nearest<'k>(key: &str, known: impl Iterator<Item = &'k String>) -> Option<&'k str> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    known
        .map(|known| {
            let distance = distance(key, known);
            // The right name in the wrong table is as near as a slip of the finger or two.
            let distance = if last(known) == last(key) { distance.min(2) } else { distance };
            (distance, known.as_str())
        })
        .filter(|(distance, _)| *distance <= 2.max(key.len() / 4))
        .min()
        .map(|(_, known)| known)
}

/// How many letters must be inserted, left out, replaced or swapped with their neighbour to make one text the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, opposite) in other.iter().enumerate() {
            let mut best =
                (last[column] + usize::from(letter != opposite)).min(last[column + 1] + 1).min(current[column] + 1);
            let swapped = row > 0 && column > 0 && one[row - 1] == *opposite && *letter == other[column - 1];
            if swapped {
                best = best.min(before_last[column - 1] + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last.last().copied().unwrap_or_default()
}

/// A text that is never shown: `Debug`, `Display` and `Serialize` mask it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is a secret at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An empty secret is shown as empty: that it is missing is worth seeing.
    fn shown(&self) -> &'static str {
        if self.0.is_empty() { "" } else { MASK }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({:?})", self.shown())
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

/// The address of a database. Shown without its password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DbUrl(String);

impl DbUrl {
    /// Takes an address as it is; the database module says which ones it can open.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The address with its password, for whoever connects.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for DbUrl {
    fn from(url: T) -> Self {
        Self::new(url)
    }
}

impl fmt::Debug for DbUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DbUrl({:?})", mask_url(&self.0))
    }
}

impl fmt::Display for DbUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask_url(&self.0))
    }
}

impl Serialize for DbUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&mask_url(&self.0))
    }
}

impl<'de> Deserialize<'de> for DbUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// An address with its password masked, whether it stands before the host or among the parameters.
pub fn mask_url(url: &str) -> String {
    let mut masked = String::with_capacity(url.len());
    let mut rest = url;
    if let Some((scheme, after)) = url.split_once("://") {
        masked.push_str(scheme);
        masked.push_str("://");
        rest = after;
        // The last @ ends the password even if somebody forgot to encode one within: rather mask too much.
        if let Some((credentials, host)) = after.rsplit_once('@')
            && let Some((user, _)) = credentials.split_once(':')
        {
            masked.push_str(user);
            masked.push(':');
            masked.push_str(MASK);
            masked.push('@');
            rest = host;
        }
    }
    let Some((path, parameters)) = rest.split_once('?') else {
        masked.push_str(rest);
        return masked;
    };
    masked.push_str(path);
    for (index, parameter) in parameters.split('&').enumerate() {
        masked.push(if index == 0 { '?' } else { '&' });
        match parameter.split_once('=') {
            Some((name, _)) if name.to_ascii_lowercase().contains("password") => {
                masked.push_str(name);
                masked.push('=');
                masked.push_str(MASK);
            }
            _ => masked.push_str(parameter),
        }
    }
    masked
}
