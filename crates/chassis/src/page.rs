//! Paging: opaque tokens that are bound to the list, its filter and its order.
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{
    error::{Error, Result},
    parse::Check,
};

/// Largest page of any list: about a megabyte of answer.
pub const MAX_PAGE_SIZE: i32 = 1_000;

/// A page that was asked for.
#[derive(Debug, Clone)]
pub struct Page<K> {
    /// Rows wanted, 1 to 1,000.
    pub size: u64,
    /// Key of the last row of the page before; absent for the first page.
    pub after: Option<K>,
    of: Sha256,
}

impl<K: Serialize + DeserializeOwned> Page<K> {
    /// Parses what was asked for. `list` is the RPC's name; `filter` is the request with `page_size` and `page_token` cleared: a token is good only for
    /// the same list, filter and order.
    ///
    /// # Errors
    /// `PageToken` for a token that was not given out for these; notes a fault for a size that is out of range.
    pub fn parse(
        check: &mut Check,
        list: &str,
        filter: &impl Message,
        size: i32,
        default: i32,
        token: &str,
    ) -> Result<Self> {
        let size = if size == 0 { default } else { check.range("page_size", size, 1..=MAX_PAGE_SIZE) };
        let of = Sha256::new().chain_update(list).chain_update([0]).chain_update(filter.encode_to_vec());
        let after = if token.is_empty() {
            None
        } else {
            let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| Error::PageToken)?;
            let (mark, key) = bytes.split_first_chunk::<MARK>().ok_or(Error::PageToken)?;
            // Not a secret: it tells a token that was cut, edited or given out elsewhere, before its key reaches a query.
            if *mark != seal(&of, key) {
                return Err(Error::PageToken);
            }
            Some(serde_json::from_slice(key).map_err(|_| Error::PageToken)?)
        };
        Ok(Self { size: u64::try_from(size).unwrap_or(1), after, of })
    }

    /// Rows to read: one more than the page, which tells whether there is a next one.
    pub fn limit(&self) -> u64 {
        self.size + 1
    }

    /// Cuts the extra row off and gives the token of the next page, empty if this is the last.
    ///
    /// # Errors
    /// `Internal` where a key cannot be written as JSON.
    pub fn cut<R>(&self, rows: &mut Vec<R>, key: impl Fn(&R) -> K) -> Result<String> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        if rows.len() <= size {
            return Ok(String::new());
        }
        rows.truncate(size);
        let Some(last) = rows.last() else { return Ok(String::new()) };
        let key = serde_json::to_vec(&key(last)).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(URL_SAFE_NO_PAD.encode([&seal(&self.of, &key)[..], &key].concat()))
    }
}

/// Bytes of a token that bind it to its list, filter, order and key.
const MARK: usize = 8;

fn seal(of: &Sha256, key: &[u8]) -> [u8; MARK] {
    let digest = of.clone().chain_update([0]).chain_update(key).finalize();
    std::array::from_fn(|index| digest[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(filter: &str, token: &str) -> Result<Page<u32>> {
        Page::parse(&mut Check::new(), "ListThings", &filter.to_owned(), 2, 50, token)
    }

    #[test]
    fn a_token_leads_to_the_next_page_of_the_same_filter_only() {
        let mut rows = vec![1_u32, 2, 3];
        let token = parse("red", "").unwrap().cut(&mut rows, |row| *row).unwrap();
        assert_eq!(rows, [1, 2]);
        assert_eq!(parse("red", &token).unwrap().after, Some(2));
        assert!(matches!(parse("blue", &token), Err(Error::PageToken)));
        assert!(matches!(parse("red", "no token"), Err(Error::PageToken)));
        let mut bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        *bytes.last_mut().unwrap() = b'9';
        assert!(matches!(parse("red", &URL_SAFE_NO_PAD.encode(bytes)), Err(Error::PageToken)));
    }

    #[test]
    fn the_last_page_has_no_token() {
        assert_eq!(parse("red", "").unwrap().cut(&mut vec![1_u32, 2], |row| *row).unwrap(), "");
    }
}
