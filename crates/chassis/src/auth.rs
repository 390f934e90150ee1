//! Who may call: a name and the hash of a token for each caller. The tokens themselves are known to the callers alone.
//!
//! A token is a long random text (`openssl rand -hex 32`), so its plain SHA-256 tells nothing about it.
use std::{collections::BTreeSet, fmt, sync::Arc};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::{
    config::{Check, Secret, Validate},
    error::{Error, Result},
};

/// Callers that can be named: every call is compared with all of them, which takes some microseconds at most.
pub const MAX_CALLERS: usize = 64;
/// Longest name of a caller: it stands in every log line of its calls.
pub const MAX_NAME_CHARS: usize = 64;
/// Length of a token in bytes: below, it could be guessed from its hash; above, it would crowd the other headers of a call.
pub const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 16..=512;

/// The section `[auth]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The token that this process presents to its peers; empty presents none.
    pub token: Secret,
    /// Who may call; nobody is asked where there are none.
    pub callers: Vec<Entry>,
}

/// One caller as it is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// How traces and log lines call it.
    pub name: String,
    /// SHA-256 of its token, 64 hexadecimal digits.
    pub token_sha256: String,
}

impl Config {
    /// Whether the token that this process presents is one that it would take itself.
    pub fn admits_itself(&self) -> bool {
        let hash = hash(self.token.expose());
        self.callers.is_empty() || self.callers.iter().any(|entry| parse_hash(&entry.token_sha256) == Some(hash))
    }
}

impl Validate for Config {
    fn validate(&self, check: &mut Check<'_>) {
        let token = self.token.expose();
        let sound = token.is_empty() || bearer(token).is_some();
        check.require("token", sound, "allowed: empty, or 16 to 512 visible ASCII characters");
        let missing = !self.callers.is_empty() && token.is_empty();
        let needed =
            "missing: callers are named, so peers ask us as we ask them; give the token of one of their callers";
        check.require("token", !missing, needed);
        let count = format!("allowed: at most {MAX_CALLERS} callers");
        check.require("callers", self.callers.len() <= MAX_CALLERS, &count);
        let (mut names, mut hashes) = (BTreeSet::new(), BTreeSet::new());
        for (index, entry) in self.callers.iter().enumerate() {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            let sound = (1..=MAX_NAME_CHARS).contains(&entry.name.len()) && entry.name.bytes().all(allowed);
            let key = format!("callers.{index}.name");
            check.require(&key, sound, "allowed: 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'");
            check.require(&key, names.insert(&entry.name), "stands there twice");
            let hash = parse_hash(&entry.token_sha256);
            let key = format!("callers.{index}.token_sha256");
            let how = "allowed: the SHA-256 of the caller's token, 64 hexadecimal digits: printf %s TOKEN | sha256sum";
            check.require(&key, hash.is_some(), how);
            check.require(&key, hash.is_none_or(|hash| hashes.insert(hash)), "two callers cannot share a token");
        }
    }
}

type Hash = [u8; 32];

fn hash(token: &str) -> Hash {
    Sha256::digest(token).into()
}

fn parse_hash(hex: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    let digits = hex.as_bytes();
    if digits.len() != 2 * hash.len() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// The header that presents a token; `None` where the text cannot be one.
pub(crate) fn bearer(token: &str) -> Option<HeaderValue> {
    if !TOKEN_BYTES.contains(&token.len()) || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    // Neither shown by `Debug` nor kept in the connection's table of headers.
    value.set_sensitive(true);
    Some(value)
}

/// Who called, in the extensions of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller(Arc<str>);

impl Caller {
    /// The name that the configuration gives it.
    pub fn name(&self) -> &str {
        &self.0
    }

    pub(crate) fn shared_name(&self) -> &Arc<str> {
        &self.0
    }
}

/// The callers of a server. Without any, nobody is asked.
#[derive(Clone, Default)]
pub struct Callers(Arc<[(Caller, Hash)]>);

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(caller, _)| caller.name())).finish()
    }
}

impl Callers {
    /// The callers of a configuration.
    ///
    /// # Errors
    /// `Invalid` naming the hash that is none.
    pub fn new(config: &Config) -> Result<Self> {
        let callers = config.callers.iter().enumerate().map(|(index, entry)| {
            let hash = parse_hash(&entry.token_sha256).ok_or_else(|| {
                Error::invalid(format!("auth.callers.{index}.token_sha256"), "must be 64 hexadecimal digits")
            })?;
            Ok((Caller(entry.name.as_str().into()), hash))
        });
        Ok(Self(callers.collect::<Result<_>>()?))
    }

    /// Whether nobody is asked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose token the `authorization` header presents. How long it takes tells nothing about how near a wrong token was: hashes are compared,
    /// whole, with all callers.
    ///
    /// # Errors
    /// `Unauthenticated`.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<Caller> {
        let presented = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let Some(token) = presented.filter(|token| token.len() <= *TOKEN_BYTES.end()) else {
            return Err(Error::Unauthenticated("no bearer token came with the call"));
        };
        let hash = hash(token);
        let mut found = u32::MAX;
        for (index, (_, known)) in (0_u32..).zip(self.0.iter()) {
            found.conditional_assign(&index, known.ct_eq(&hash));
        }
        let found = usize::try_from(found).ok().and_then(|index| self.0.get(index));
        let (caller, _) = found.ok_or(Error::Unauthenticated("the token is of no caller that is known here"))?;
        Ok(caller.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "a-token-that-nobody-guesses";

    fn config() -> Config {
        let entry = |name: &str, token: &str| Entry {
            name: name.to_owned(),
            token_sha256: hash(token).iter().map(|byte| format!("{byte:02X}")).collect(),
        };
        Config { token: Secret::new(TOKEN), callers: vec![entry("crm", "another-token-entirely"), entry("us", TOKEN)] }
    }

    fn presented(value: &str) -> Result<String> {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
        Callers::new(&config()).unwrap().identify(&headers).map(|caller| caller.name().to_owned())
    }

    #[test]
    fn a_caller_is_known_by_its_token_however_the_scheme_is_written() {
        for scheme in ["Bearer", "bearer", "BEARER"] {
            assert_eq!(presented(&format!("{scheme} {TOKEN}")).unwrap(), "us");
        }
        assert_eq!(presented("Bearer another-token-entirely").unwrap(), "crm");
    }

    #[test]
    fn anything_else_is_nobody() {
        let long = format!("Bearer {}", "x".repeat(600));
        for value in ["", "Bearer", "Bearer ", TOKEN, "Basic a-token-that-nobody-guesses", "Bearer a-token", &long] {
            let error = presented(value).unwrap_err();
            assert!(matches!(error, Error::Unauthenticated(_)), "{value}");
        }
        assert!(Callers::new(&config()).unwrap().identify(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_configuration_is_checked_and_never_shows_a_token() {
        crate::config::validate(&config()).unwrap();
        assert!(config().admits_itself());
        assert!(!format!("{:?}", config()).contains(TOKEN));
        assert!(!format!("{:?}", bearer(TOKEN).unwrap()).contains(TOKEN));
        assert!(!crate::config::print(&config()).contains(TOKEN));

        let mut wrong = config();
        wrong.token = Secret::default();
        wrong.callers[0].name = "us".to_owned();
        wrong.callers[1].token_sha256 = TOKEN.to_owned();
        assert!(!wrong.admits_itself());
        wrong.callers.push(Entry { name: "two words".to_owned(), ..wrong.callers[0].clone() });
        let errors = crate::config::validate(&wrong).unwrap_err();
        let keys: Vec<_> = errors.iter().map(|problem| problem.key.as_str()).collect();
        let expected =
            ["token", "callers.1.name", "callers.1.token_sha256", "callers.2.name", "callers.2.token_sha256"];
        assert_eq!(keys, expected);
        assert!(!errors.to_string().contains(TOKEN), "{errors}");
        let short = Config { token: Secret::new("short"), callers: vec![] };
        assert!(crate::config::validate(&short).is_err());
    }
}
