//! What is wrong with a configuration, and where that came from.
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Everything that is wrong with a configuration; shown as one line each.
#[derive(Debug)]
pub struct Errors {
    pub(super) problems: Vec<Problem>,
}

impl Errors {
    pub(super) fn of(problems: Vec<Problem>) -> Result<(), Self> {
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
pub(super) struct Origins(pub(super) BTreeMap<String, Origin>);

impl Origins {
    /// The origin of a key, or of the value it is part of.
    pub(super) fn of(&self, key: &str) -> Option<&Origin> {
        self.holder(key).and_then(|holder| self.0.get(holder))
    }

    /// The key itself or the nearest one above it that was set as a whole.
    pub(super) fn holder<'k>(&self, key: &'k str) -> Option<&'k str> {
        let mut key = key;
        loop {
            if self.0.contains_key(key) {
                return Some(key);
            }
            // Places in lists are written `list.0` here and `list[0]` by the checks of requests.
            key = key.rsplit_once(['.', '['])?.0;
        }
    }
}
