//! What the figures of the ledger mean: amounts are kept without their currency, and days without their time zone.
use chassis::{Db, Error, Result};

use crate::store;

/// The currency and the calendar that the books are kept in, by the names in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// ISO 4217 code.
    pub currency: String,
    /// IANA name.
    pub time_zone: String,
}

impl Terms {
    /// Why a ledger kept in `kept` cannot go on under these terms.
    fn refuse(&self, kept: &Self) -> Error {
        let (key, is, wanted) = if self.currency == kept.currency {
            ("scoring.time_zone", &kept.time_zone, &self.time_zone)
        } else {
            ("scoring.currency", &kept.currency, &self.currency)
        };
        let message = format!(
            "the books of this database are kept in {is} and hold purchases; set it back to {is}, or start with an empty database \
             and record the purchases anew to keep them in {wanted}"
        );
        Error::invalid(key, message)
    }
}

/// Settles at a start what the books are kept in. It can be changed as long as nothing was recorded.
///
/// # Errors
/// `Invalid` naming the key where there are purchases in another currency or calendar; `Database`.
pub async fn settle(db: &Db, terms: &Terms) -> Result<()> {
    db.run_tx("settle_books", |tx| {
        Box::pin(async move {
            match store::in_force::terms_for_update(tx).await? {
                Some(kept) if kept == *terms => Ok(()),
                Some(kept) if store::purchase::any_locked(tx).await? => Err(terms.refuse(&kept)),
                _ => store::in_force::set_terms(tx, terms).await,
            }
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(currency: &str, time_zone: &str) -> Terms {
        Terms { currency: currency.to_owned(), time_zone: time_zone.to_owned() }
    }

    #[test]
    fn a_refusal_names_the_key_what_the_books_are_kept_in_and_the_way_out() {
        let cases = [
            (terms("JPY", "UTC"), "scoring.currency: ", "set it back to USD"),
            (terms("USD", "Asia/Tokyo"), "scoring.time_zone: ", "set it back to UTC"),
            (terms("JPY", "Asia/Tokyo"), "scoring.currency: ", "set it back to USD"),
        ];
        for (wanted, key, way_out) in cases {
            let text = wanted.refuse(&terms("USD", "UTC")).to_string();
            assert!(text.starts_with(key) && text.contains(way_out), "{text}");
        }
    }
}
