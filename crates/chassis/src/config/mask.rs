//! What is never shown: secrets, and the passwords within addresses.
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is shown of a secret.
const MASK: &str = "***";

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

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
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
pub struct DbUrl {
    url: String,
    is_alone: bool,
}

impl DbUrl {
    /// Takes an address as it is; the database module says which ones it can open.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), is_alone: false }
    }

    /// The address of a database that nobody but this process writes to while it runs, and which it opens once: whoever says so must see to it.
    pub fn alone(url: impl Into<String>) -> Self {
        Self { url: url.into(), is_alone: true }
    }

    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        self.url.is_empty()
    }

    /// The address with its password, for whoever connects.
    pub fn expose(&self) -> &str {
        &self.url
    }

    /// Whether nobody else writes to it.
    pub fn is_alone(&self) -> bool {
        self.is_alone
    }
}

impl<T: Into<String>> From<T> for DbUrl {
    fn from(url: T) -> Self {
        Self::new(url)
    }
}

impl fmt::Debug for DbUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DbUrl({:?})", mask_url(&self.url))
    }
}

impl fmt::Display for DbUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask_url(&self.url))
    }
}

impl Serialize for DbUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&mask_url(&self.url))
    }
}

impl<'de> Deserialize<'de> for DbUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
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
