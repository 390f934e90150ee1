//! Paging: opaque tokens that are bound to the list, its filter and its order.
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{
    error::{Error, Result},
    parse::Check,
    server::MAX_MESSAGE_BYTES,
};

/// Largest page of any list: about a megabyte of answer, as rows usually are.
pub const MAX_PAGE_SIZE: i32 = 1_000;
/// Largest page in bytes as it goes over the wire, however long its rows are: half of what a client takes that was told nothing else (4 MiB).
/// A single row is always let through; what its fields allow is well below that too.
pub const MAX_PAGE_BYTES: usize = 2 * 1024 * 1024;

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

    /// The messages of a page, and the token of the next one, empty if this is the last. The page ends before the row that would make it larger than
    /// [`MAX_PAGE_BYTES`], and the next begins with that row.
    ///
    /// # Errors
    /// `Internal` where a key cannot be written as JSON.
    pub fn fill<R, M: Message>(
        &self,
        mut rows: Vec<R>,
        key: impl Fn(&R) -> K,
        message: impl FnMut(&R) -> M,
    ) -> Result<(Vec<M>, String)> {
        let mut bytes = 0_usize;
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let messages: Vec<_> = rows
            .iter()
            .take(size)
            .map(message)
            .enumerate()
            .take_while(|(index, message)| {
                let length = message.encoded_len();
                // In the answer each stands behind its tag, one byte, and its length.
                bytes = bytes.saturating_add(length + 1 + prost::length_delimiter_len(length));
                *index == 0 || bytes <= MAX_PAGE_BYTES
            })
            .map(|(_, message)| message)
            .collect();
        if messages.len() == rows.len() {
            return Ok((messages, String::new()));
        }
        rows.truncate(messages.len());
        Ok((messages, self.token(rows.last().map(key))?))
    }

    /// Cuts the extra row off and gives the token of the next page, empty if this is the last. For rows that are short by what their fields allow;
    /// others take [`Page::fill`].
    ///
    /// # Errors
    /// `Internal` where a key cannot be written as JSON.
    pub fn cut<R>(&self, rows: &mut Vec<R>, key: impl Fn(&R) -> K) -> Result<String> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        if rows.len() <= size {
            return Ok(String::new());
        }
        rows.truncate(size);
        self.token(rows.last().map(key))
    }

    /// The token of the page behind a key.
    fn token(&self, last: Option<K>) -> Result<String> {
        let Some(last) = last else { return Ok(String::new()) };
        let key = serde_json::to_vec(&last).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(URL_SAFE_NO_PAD.encode([&seal(&self.of, &key)[..], &key].concat()))
    }
}

/// Demands that an answer whose length the caller chose, by the number of things in `field`, is one that a client takes.
///
/// # Errors
/// `Invalid` naming `field`.
pub fn fits(field: &str, answer: &impl Message) -> Result<()> {
    if answer.encoded_len() <= MAX_MESSAGE_BYTES {
        return Ok(());
    }
    Err(Error::invalid(
        field,
        format!("asks for more than one answer holds ({MAX_MESSAGE_BYTES} bytes); ask for half as many at once"),
    ))
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
    fn a_page_ends_before_it_is_too_large_and_the_next_begins_right_there() {
        // Rows of a size, of which three make a page; at least one always does.
        for (length, on_a_page) in [(MAX_PAGE_BYTES / 3 - 8, 3), (MAX_PAGE_BYTES / 3, 2), (MAX_PAGE_BYTES * 2, 1)] {
            let (mut token, mut seen) = (String::new(), Vec::new());
            loop {
                let page = Page::<u32>::parse(&mut Check::new(), "ListThings", &String::new(), 5, 50, &token).unwrap();
                let after = page.after.unwrap_or_default();
                let rows: Vec<u32> = (after + 1..=7).take(page.limit().try_into().unwrap()).collect();
                let (messages, next) =
                    page.fill(rows, |row| *row, |row| vec![u8::try_from(*row).unwrap(); length]).unwrap();
                assert!(messages.len() == on_a_page || next.is_empty(), "{length}: {}", messages.len());
                let bytes: usize = messages.iter().map(|message| message.encoded_len()).sum();
                assert!(bytes <= MAX_PAGE_BYTES || messages.len() == 1);
                seen.extend(messages.iter().map(|message| message[0]));
                token = next;
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7], "{length}");
        }
    }

    #[test]
    fn a_page_of_short_rows_ends_after_so_many() {
        let page = parse("red", "").unwrap();
        let (messages, token) = page.fill(vec![1_u32, 2, 3], |row| *row, |row| *row).unwrap();
        assert_eq!(messages, [1, 2]);
        assert_eq!(parse("red", &token).unwrap().after, Some(2));
        let (messages, token) = page.fill(vec![1_u32, 2], |row| *row, |row| *row).unwrap();
        assert_eq!((messages, token), (vec![1, 2], String::new()));
    }

    #[test]
    fn an_answer_that_no_client_takes_is_refused_by_the_field_that_asks_for_it() {
        fits("ids", &vec![0_u8; MAX_MESSAGE_BYTES / 2]).unwrap();
        let error = fits("ids", &vec![0_u8; MAX_MESSAGE_BYTES + 1]).unwrap_err().to_string();
        assert!(error.starts_with("ids: asks for more than one answer holds"), "{error}");
    }

    #[test]
    fn the_last_page_has_no_token() {
        assert_eq!(parse("red", "").unwrap().cut(&mut vec![1_u32, 2], |row| *row).unwrap(), "");
    }
}
