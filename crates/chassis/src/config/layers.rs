//! All sources as one tree of values, and every value's origin.
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use figment::error::Kind;
use figment::value::{Dict, Value};
use serde::de::DeserializeOwned;

use super::Sources;
use super::problem::{Origin, Origins, Problem};
use super::tree::{find, find_within, item_of, join, leaves, leaves_in_lists, nearest, put, remove};

/// Variables of the environment that begin with this are configuration.
const ENV_PREFIX: &str = "CLIENTELE_";
/// Names of the settings tests are told about; no service reads them.
const TEST_PREFIX: &str = "CLIENTELE_TEST_";
/// What the command line reads of the environment itself: which file to load, and which server to call with which token.
const COMMAND_LINE: [&str; 3] = ["CLIENTELE_CONFIG", "CLIENTELE_SERVER", "CLIENTELE_TOKEN"];
/// Between the parts of a key in the name of a variable, since the parts themselves have single underscores.
const ENV_SEPARATOR: &str = "__";
/// Variables that mean the same to every program that exports telemetry. Our own name for the key goes before.
const STANDARD: [(&str, &str); 1] = [("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint")];
/// Wrong values are found one after the other; this many are enough to stop looking.
const MAX_WRONG_VALUES: usize = 64;

/// What of the values could not be read. Its keys are those of the sources.
pub(super) struct Refused {
    /// All values but the items.
    rest: Dict,
    /// Items of lists, in whose place nothing can step in: the list is read without them.
    items: BTreeSet<String>,
    /// Keys that a strict type does not know, with those it does.
    unknown: BTreeMap<String, &'static [&'static str]>,
}

impl Refused {
    /// The key of the sources for one of a list from which items are gone already.
    fn original(&self, key: &str) -> String {
        let mut original = String::with_capacity(key.len());
        for part in key.split('.') {
            let place = part.parse().ok().map(|place: usize| {
                let gone = |at: &usize| self.items.contains(&join(&original, &at.to_string()));
                (0..).filter(|at| !gone(at)).nth(place).unwrap_or(place).to_string()
            });
            original = join(&original, place.as_deref().unwrap_or(part));
        }
        original
    }

    /// Whether a list that a key leads to or into was read without some of its items.
    pub(super) fn shortened(&self, key: &str) -> bool {
        self.items.iter().any(|item| item.rsplit_once('.').is_some_and(|(list, _)| is_within(list, key)))
    }
}

/// Whether a key is another one or leads below it. Places in lists are written `list.0` here and `list[0]` by the checks of requests.
fn is_within(of: &str, key: &str) -> bool {
    key.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// All sources, one laid over the other.
pub(super) struct Layers {
    pub(super) defaults: Dict,
    merged: Dict,
    pub(super) origins: Origins,
    /// Texts as they were given in variables and flags, by key: what looks like a number may be meant as a text.
    texts: BTreeMap<String, String>,
    /// Keys of [`STANDARD`] variables, which need not concern a configuration.
    optional: BTreeSet<String>,
}

impl Layers {
    pub(super) fn read(sources: &Sources, problems: &mut Vec<Problem>) -> Self {
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

    /// Reads the whole; for every value that does not fit its default steps in, so that the next one is found too, and a list goes without
    /// the items that do not. `None` when there is a value that nothing can step in for.
    pub(super) fn extract<T: DeserializeOwned>(&self, problems: &mut Vec<Problem>) -> (Option<T>, Refused) {
        let mut refused = Refused { rest: self.merged.clone(), items: BTreeSet::new(), unknown: BTreeMap::new() };
        let config = self.extract_without(&mut refused, problems);
        (config, refused)
    }

    fn extract_without<T: DeserializeOwned>(&self, refused: &mut Refused, problems: &mut Vec<Problem>) -> Option<T> {
        let mut values = self.merged.clone();
        // What was wrong with a text before it was taken as one: what people meant by `-5` is a number.
        let mut taken_as_text = BTreeMap::new();
        let mut replaced = BTreeSet::new();
        for _ in 0..MAX_WRONG_VALUES {
            let error = match Value::from(values.clone()).deserialize::<T>() {
                Ok(config) => return Some(config),
                Err(error) => error,
            };
            let mut path = error.path.join(".");
            if let Kind::UnknownField(field, known) = &error.kind {
                // Set aside here and reported below, together with those that a more tolerant type would pass over.
                if error.path.last() != Some(field) {
                    path = join(&path, field);
                }
                if refused.unknown.insert(refused.original(&path), known).is_some() {
                    return None;
                }
                remove(&mut values, &path);
                continue;
            }
            let missing = match &error.kind {
                Kind::MissingField(field) => Some(join(&path, field)),
                _ => None,
            };
            let key = refused.original(missing.as_ref().unwrap_or(&path));
            let message = match missing {
                Some(_) => "missing, and there is no default".to_owned(),
                None => describe(&error.kind),
            };
            if let Some(item) = item_of(&values, &path) {
                let origin = self.origins.of(&key).cloned();
                problems.push(Problem { key, origin, value: None, message });
                let original = refused.original(item);
                remove(&mut values, item);
                remove(&mut refused.rest, item);
                refused.items.insert(original);
                continue;
            }
            if missing.is_some() {
                problems.push(Problem { key, origin: None, value: None, message });
                return None;
            }
            let holder = self.origins.holder(&key).unwrap_or(&key).to_owned();
            if let Some(text) = self.texts.get(&holder)
                && !taken_as_text.contains_key(&holder)
                && !replaced.contains(&holder)
                && !matches!(find(&values, &holder), Some(Value::String(..)))
            {
                taken_as_text.insert(holder.clone(), message);
                put(&mut values, &holder, Value::from(text.as_str()));
                continue;
            }
            problems.push(Problem {
                origin: self.origins.of(&key).cloned(),
                value: None,
                message: taken_as_text.remove(&holder).unwrap_or(message),
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

    /// Whatever was given and is not there in the configuration that was read was not understood. Where it was not read as a `whole`, that says
    /// nothing of what stands in lists, and neither does it of the items that were refused.
    pub(super) fn report_unknown(&self, known: &Value, whole: bool, refused: &Refused, problems: &mut Vec<Problem>) {
        let defaults = leaves(&Value::from(self.defaults.clone())).into_iter();
        let names: BTreeSet<String> = leaves_in_lists(known).into_iter().chain(defaults).map(|(key, _)| key).collect();
        let has = |key: &str| find_within(known, key).is_some();
        let read = Value::from(refused.rest.clone());
        let given = if whole { leaves_in_lists(&read) } else { leaves(&read) };
        let mut unknown: BTreeMap<String, &[&str]> = BTreeMap::new();
        for (key, beside) in &refused.unknown {
            // Of a table all that it holds.
            for (below, _) in find(&self.merged, key).map(leaves).unwrap_or_default() {
                unknown.insert(join(key, &below), if below.is_empty() { beside } else { &[] });
            }
        }
        for (key, _) in given.into_iter().filter(|(key, _)| !has(key)) {
            unknown.entry(refused.original(&key)).or_default();
        }
        for (key, beside) in unknown {
            if self.optional.contains(&key) || problems.iter().any(|problem| problem.key == key) {
                continue;
            }
            let origin = self.origins.of(&key).cloned();
            let table = key.rsplit_once('.').map_or("", |(table, _)| table);
            let beside: Vec<_> = beside.iter().map(|name| join(table, name)).collect();
            // What only the defaults know is no suggestion: it is unknown itself.
            let nearest = nearest(&key, names.iter().filter(|name| has(name)).chain(&beside));
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
