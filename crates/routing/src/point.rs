//! How a caller is recognised: by a keyed hash of the number, address or identity they come with. What it was made of is not kept.
use std::fmt;

use chassis::parse::Check;
use proto::{
    profiles::v1::Customer,
    routing::v1::{ContactPoint, contact_point::Point as Sent},
};
use sha2::{Digest, Sha256};

/// Bytes of a stored hash.
pub const POINT_BYTES: usize = 16;

/// A contact point: the first half of its SHA-256, which two points share by chance once in 2^128 pairs.
pub type Point = u128;

/// The secret of one database that its hashes are keyed with: phone numbers are few enough to try them all, and so a hash without a
/// key would give them away.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// A key of these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Parses the contact point of a request. Phone numbers and identities must match to the letter, mail addresses whatever the case.
    pub fn parse(&self, check: &mut Check, field: &str, point: &ContactPoint) -> Point {
        match &point.point {
            None => {
                check.fault(field, "is empty; a phone, a mail or an identity is required");
                0
            }
            Some(Sent::Phone(phone)) => {
                check.require(is_e164(phone), &format!("{field}.phone"), "must be in E.164 form such as +441632960000");
                self.phone(phone)
            }
            Some(Sent::Mail(mail)) => {
                check.require(
                    is_mail(mail),
                    &format!("{field}.mail"),
                    "must be a mail address such as name@example.com",
                );
                self.mail(mail)
            }
            Some(Sent::Identity(identity)) => {
                check.token(&format!("{field}.identity.system"), &identity.system, 1..=64);
                let id = check.text(&format!("{field}.identity.id"), &identity.id, 1..=128);
                self.identity(&identity.system, &id)
            }
        }
    }

    /// All contact points of a customer's record, each once, in order.
    pub fn of(&self, customer: &Customer) -> Vec<Point> {
        let phones = customer.phones.iter().map(|phone| self.phone(phone));
        let mails = customer.mails.iter().map(|mail| self.mail(mail));
        let identities = customer.identities.iter().map(|identity| self.identity(&identity.system, &identity.id));
        let mut points: Vec<_> = phones.chain(mails).chain(identities).collect();
        points.sort_unstable();
        points.dedup();
        points
    }

    fn phone(&self, phone: &str) -> Point {
        self.hash(b'p', "", phone)
    }

    fn mail(&self, mail: &str) -> Point {
        self.hash(b'm', "", &mail.trim().to_lowercase())
    }

    fn identity(&self, system: &str, id: &str) -> Point {
        self.hash(b'i', system, id)
    }

    fn hash(&self, kind: u8, system: &str, id: &str) -> Point {
        let digest = Sha256::new()
            .chain_update(&self.0)
            .chain_update([kind])
            .chain_update(system)
            // No system's name has this byte, so no two pairs run together.
            .chain_update([0])
            .chain_update(id)
            .finalize();
        digest.iter().take(POINT_BYTES).fold(0, |point, byte| point << 8 | u128::from(*byte))
    }
}

/// Points as they are stored: one after the other.
pub fn to_bytes(points: &[Point]) -> Vec<u8> {
    points.iter().flat_map(|point| point.to_be_bytes()).collect()
}

/// Points from what is stored; a piece too short to be one is left out.
pub fn from_bytes(bytes: &[u8]) -> Vec<Point> {
    let (points, _) = bytes.as_chunks::<POINT_BYTES>();
    points.iter().map(|point| Point::from_be_bytes(*point)).collect()
}

/// "+", then 7 to 15 digits of which the first is no zero: what profiles accepts (ITU-T E.164).
fn is_e164(phone: &str) -> bool {
    let Some(digits) = phone.strip_prefix('+') else { return false };
    (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0')
}

/// Something before and after one "@", no white space, at most 254 bytes (RFC 5321).
fn is_mail(mail: &str) -> bool {
    let mail = mail.trim();
    mail.len() <= 254
        && !mail.chars().any(|c| c.is_whitespace() || c.is_control())
        && mail.rsplit_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
}

#[cfg(test)]
mod tests {
    use proto::profiles::v1::ExternalIdentity;

    use super::*;

    fn key() -> Key {
        Key::new(vec![7; 32])
    }

    fn parse(point: Option<Sent>) -> Result<Point, Vec<String>> {
        let mut check = Check::new();
        let point = key().parse(&mut check, "contact_point", &ContactPoint { point });
        let faults: Vec<_> = check.take().into_iter().map(|fault| fault.field).collect();
        if faults.is_empty() { Ok(point) } else { Err(faults) }
    }

    fn identity(system: &str, id: &str) -> ExternalIdentity {
        ExternalIdentity { system: system.into(), id: id.into() }
    }

    #[test]
    fn a_caller_is_found_by_each_point_of_the_record() {
        let customer = Customer {
            phones: vec!["+441632960000".into(), "+441632960000".into()],
            mails: vec!["Ada@Example.com".into()],
            identities: vec![identity("shop", "42")],
            ..Default::default()
        };
        let points = key().of(&customer);
        assert_eq!(points.len(), 3);
        for sent in [
            Sent::Phone("+441632960000".into()),
            Sent::Mail("ada@example.COM".into()),
            Sent::Identity(identity("shop", "42")),
        ] {
            assert!(points.contains(&parse(Some(sent)).unwrap()));
        }
        assert_eq!(from_bytes(&to_bytes(&points)), points);
    }

    #[test]
    fn kinds_systems_and_keys_keep_points_apart() {
        let key = key();
        assert_ne!(key.identity("a", "bc"), key.identity("ab", "c"));
        assert_ne!(key.phone("x"), key.mail("x"));
        assert_ne!(key.identity("shop", "42"), key.identity("shop", "43"));
        assert_ne!(key.phone("+441632960000"), Key::new(vec![8; 32]).phone("+441632960000"));
    }

    #[test]
    fn malformed_points_are_named() {
        let cases = [
            (None, "contact_point"),
            (Some(Sent::Phone("01632 960000".into())), "contact_point.phone"),
            (Some(Sent::Phone("+0441632960000".into())), "contact_point.phone"),
            (Some(Sent::Phone("+4416329600001234".into())), "contact_point.phone"),
            (Some(Sent::Mail("ada".into())), "contact_point.mail"),
            (Some(Sent::Mail("a da@example.com".into())), "contact_point.mail"),
            (Some(Sent::Identity(identity("my shop", "1"))), "contact_point.identity.system"),
            (Some(Sent::Identity(identity("shop", ""))), "contact_point.identity.id"),
        ];
        for (sent, field) in cases {
            assert_eq!(parse(sent), Err(vec![field.to_owned()]));
        }
    }
}
