//! What callers may say of a customer, checked field by field. All personal data of a record is in a [`Details`]; its `Debug` shows none.
use std::{collections::HashSet, fmt, str::FromStr};

use chassis::parse::Check;
use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use proto::profiles::v1::{self as pb, customer::Kind as Basics};
use uuid::Uuid;

/// Longest name of a company, and so longest search for a name.
pub(crate) const MAX_NAME: usize = 200;
/// Longest part of a person's name.
const MAX_PERSON_NAME: usize = 100;
/// Longest of the other texts: employer, position, line of business, a line of an address.
const MAX_TEXT: usize = 200;
const MAX_LEGAL_FORM: usize = 100;
const MAX_LOCALITY: usize = 100;
const MAX_POSTAL_CODE: usize = 20;
/// Lines that fit on an envelope.
const MAX_LINES: usize = 6;
/// Ways to reach one customer, of each kind: more is a mistake of an import.
const MAX_CONTACTS: usize = 10;
/// Systems that know one customer.
const MAX_IDENTITIES: usize = 50;
const MAX_SYSTEM: usize = 64;
const MAX_EXTERNAL_ID: usize = 128;
/// Longest mail address (RFC 5321), and its part before the @.
const MAX_MAIL: usize = 254;
const MAX_MAILBOX: usize = 64;
const MAX_LABEL: usize = 63;
/// Digits of an E.164 number, the country's code included: fifteen by the standard, and no country has fewer than seven.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;
/// Cost of finding one customer, in minor units: as for a purchase.
const MAX_COST: i64 = 10_000_000_000_000;
/// How far the first time zone is ahead of UTC: a day has begun where it has begun anywhere.
const FIRST_ZONE: SignedDuration = SignedDuration::from_hours(14);

/// The id of a customer in another system.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) system: String,
    pub(crate) id: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("system", &self.system).finish_non_exhaustive()
    }
}

impl Identity {
    pub(crate) fn parse(check: &mut Check, field: &str, identity: Option<&pb::ExternalIdentity>) -> Self {
        let Some(identity) = identity else {
            check.fault(field, "is not set");
            return Self { system: String::new(), id: String::new() };
        };
        Self {
            system: check.token(&format!("{field}.system"), &identity.system, 1..=MAX_SYSTEM),
            id: line(check, &format!("{field}.id"), &identity.id, 1..=MAX_EXTERNAL_ID),
        }
    }

    fn of(identity: &pb::ExternalIdentity) -> Self {
        Self { system: identity.system.clone(), id: identity.id.clone() }
    }

    fn to_proto(&self) -> pb::ExternalIdentity {
        pb::ExternalIdentity { system: self.system.clone(), id: self.id.clone() }
    }
}

/// Person or company.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Person,
    Company,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Company => "company",
        }
    }

    pub(crate) fn to_proto(self) -> pb::CustomerKind {
        match self {
            Self::Person => pb::CustomerKind::Person,
            Self::Company => pb::CustomerKind::Company,
        }
    }
}

/// The fields that callers set, valid, and no others.
#[derive(Clone, PartialEq)]
pub(crate) struct Details(pb::Customer);

impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Details").field("kind", &self.kind()).finish_non_exhaustive()
    }
}

impl Details {
    /// Checks the fields that callers set and drops the others. `path` is where the message stands in its request.
    pub(crate) fn parse(check: &mut Check, path: &str, customer: &pb::Customer, now: Timestamp) -> Self {
        if customer.kind.is_none() {
            check.fault(format!("{path}.kind"), "is not set; person or company is required");
        }
        Self::parse_partly(check, path, customer, now)
    }

    /// The same for the fields of an update, where the kind may be left out.
    pub(crate) fn parse_partly(check: &mut Check, path: &str, customer: &pb::Customer, now: Timestamp) -> Self {
        let today = (now + FIRST_ZONE).to_zoned(TimeZone::UTC).date();
        let kind = customer.kind.as_ref().map(|kind| match kind {
            Basics::Person(person) => Basics::Person(parse_person(check, path, person, today)),
            Basics::Company(company) => Basics::Company(parse_company(check, path, company, today)),
        });
        let source: pb::AcquisitionSource =
            check.known_or_default(&format!("{path}.acquisition_source"), customer.acquisition_source);
        let cost = customer.acquisition_cost.as_ref();
        Self(pb::Customer {
            kind,
            identities: parse_identities(check, &format!("{path}.identities"), &customer.identities),
            phones: parse_each(check, path, "phones", MAX_CONTACTS, &customer.phones, |check, field, text| {
                phone(check, field, text)
            }),
            mails: parse_each(check, path, "mails", MAX_CONTACTS, &customer.mails, |check, field, text| {
                mail(check, field, text)
            }),
            addresses: parse_each(check, path, "addresses", MAX_CONTACTS, &customer.addresses, parse_address),
            showed_interest: customer.showed_interest,
            targeted: customer.targeted,
            acquisition_source: source.into(),
            acquisition_cost: cost
                .map(|cost| check.money(&format!("{path}.acquisition_cost"), Some(cost), 0..=MAX_COST)),
            introduced_by: check
                .optional_uuid(&format!("{path}.introduced_by"), &customer.introduced_by)
                .map(|id| id.to_string())
                .unwrap_or_default(),
            ..Default::default()
        })
    }

    /// A person of whom nothing is known.
    pub(crate) fn unknown_person() -> Self {
        Self(pb::Customer { kind: Some(Basics::Person(pb::Person::default())), ..Default::default() })
    }

    /// What [`Details::as_proto`] gave, read back from where it was kept.
    pub(crate) fn kept(customer: pb::Customer) -> Self {
        Self(customer)
    }

    /// Adds an identity unless it is there. False where there are too many.
    pub(crate) fn add_identity(&mut self, identity: &Identity) -> bool {
        let identity = identity.to_proto();
        if self.0.identities.contains(&identity) {
            return true;
        }
        self.0.identities.insert(0, identity);
        self.0.identities.len() <= MAX_IDENTITIES
    }

    pub(crate) fn as_proto(&self) -> &pb::Customer {
        &self.0
    }

    pub(super) fn as_proto_mut(&mut self) -> &mut pb::Customer {
        &mut self.0
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.0.kind {
            Some(Basics::Company(_)) => Kind::Company,
            Some(Basics::Person(_)) | None => Kind::Person,
        }
    }

    /// What the list orders and searches by: the family or company name in lower case.
    pub(crate) fn name_key(&self) -> String {
        match &self.0.kind {
            Some(Basics::Person(person)) => name_key(&person.family_name),
            Some(Basics::Company(company)) => name_key(&company.name),
            None => String::new(),
        }
    }

    /// The customer who introduced them.
    pub(crate) fn introduced_by(&self) -> Option<Uuid> {
        Uuid::parse_str(&self.0.introduced_by).ok()
    }

    pub(crate) fn identities(&self) -> Vec<Identity> {
        self.0.identities.iter().map(Identity::of).collect()
    }
}

/// A name as lists compare it.
pub(crate) fn name_key(name: &str) -> String {
    name.to_lowercase()
}

fn parse_person(check: &mut Check, path: &str, person: &pb::Person, today: Date) -> pb::Person {
    let at = |name: &str| format!("{path}.person.{name}");
    pb::Person {
        given_name: line(check, &at("given_name"), &person.given_name, 0..=MAX_PERSON_NAME),
        family_name: line(check, &at("family_name"), &person.family_name, 0..=MAX_PERSON_NAME),
        birth_date: date(check, &at("birth_date"), &person.birth_date, today),
        employer: line(check, &at("employer"), &person.employer, 0..=MAX_TEXT),
        position: line(check, &at("position"), &person.position, 0..=MAX_TEXT),
    }
}

fn parse_company(check: &mut Check, path: &str, company: &pb::Company, today: Date) -> pb::Company {
    let at = |name: &str| format!("{path}.company.{name}");
    pb::Company {
        name: line(check, &at("name"), &company.name, 0..=MAX_NAME),
        founded_date: date(check, &at("founded_date"), &company.founded_date, today),
        legal_form: line(check, &at("legal_form"), &company.legal_form, 0..=MAX_LEGAL_FORM),
        line_of_business: line(check, &at("line_of_business"), &company.line_of_business, 0..=MAX_TEXT),
    }
}

fn parse_identities(check: &mut Check, field: &str, identities: &[pb::ExternalIdentity]) -> Vec<pb::ExternalIdentity> {
    check.count(field, identities.len(), 0..=MAX_IDENTITIES);
    let mut seen = HashSet::new();
    identities
        .iter()
        .take(MAX_IDENTITIES)
        .enumerate()
        .map(|(index, identity)| {
            let field = format!("{field}[{index}]");
            let identity = Identity::parse(check, &field, Some(identity)).to_proto();
            if !seen.insert(identity.clone()) {
                check.fault(field, "stands in the list already; once is enough");
            }
            identity
        })
        .collect()
}

fn parse_address(check: &mut Check, field: &str, address: &pb::Address) -> pb::Address {
    let region = &address.region_code;
    if region.len() != 2 || !region.bytes().all(|b| b.is_ascii_uppercase()) {
        check.fault(format!("{field}.region_code"), "must be an ISO 3166-1 alpha-2 code: two capital letters");
    }
    pb::Address {
        lines: parse_each(check, field, "lines", MAX_LINES, &address.lines, |check, field, text| {
            line(check, field, text, 1..=MAX_TEXT)
        }),
        locality: line(check, &format!("{field}.locality"), &address.locality, 0..=MAX_LOCALITY),
        postal_code: line(check, &format!("{field}.postal_code"), &address.postal_code, 0..=MAX_POSTAL_CODE),
        region_code: region.clone(),
    }
}

fn parse_each<T>(
    check: &mut Check,
    path: &str,
    name: &str,
    max: usize,
    items: &[T],
    parse: impl Fn(&mut Check, &str, &T) -> T,
) -> Vec<T> {
    if items.is_empty() {
        return Vec::new();
    }
    check.count(&format!("{path}.{name}"), items.len(), 0..=max);
    let items = items.iter().take(max).enumerate();
    items.map(|(index, item)| parse(check, &format!("{path}.{name}[{index}]"), item)).collect()
}

/// Text without line breaks.
pub(crate) fn line(check: &mut Check, field: &str, text: &str, chars: std::ops::RangeInclusive<usize>) -> String {
    let text = check.text(field, text, chars);
    if text.contains(['\n', '\r', '\t']) {
        check.fault(field, "has line breaks or tabs; one plain line is allowed");
    }
    text
}

/// A day of the calendar that has begun somewhere, or nothing.
fn date(check: &mut Check, field: &str, text: &str, today: Date) -> String {
    if text.is_empty() {
        return String::new();
    }
    // The parser takes other forms too: only the one that it writes itself is allowed.
    match Date::from_str(text).ok().filter(|date| date.to_string() == text && date.year() > 0) {
        None => check.fault(field, "is not a day of the calendar; YYYY-MM-DD is allowed"),
        Some(date) if date > today => check.fault(field, "lies in the future; up to today is allowed"),
        Some(_) => {}
    }
    text.to_owned()
}

fn phone(check: &mut Check, field: &str, text: &str) -> String {
    let digits = text.strip_prefix('+').unwrap_or_default();
    let valid =
        PHONE_DIGITS.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    if !valid {
        check.fault(field, "is not in E.164 form: + and 7 to 15 digits, the first not 0, nothing else");
    }
    text.to_owned()
}

/// A mail address that could be one; only sending to it tells whether it is. The domain is put into lower case, the part before it is its host's affair.
fn mail(check: &mut Check, field: &str, text: &str) -> String {
    let text = text.trim();
    let plain = |c: char| !c.is_whitespace() && !c.is_control();
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= MAX_LABEL
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    let lowered = text.rsplit_once('@').map(|(mailbox, domain)| (mailbox, domain.to_lowercase()));
    let valid = lowered.filter(|(mailbox, domain)| {
        (1..=MAX_MAILBOX).contains(&mailbox.len())
            && mailbox.chars().all(|c| plain(c) && c != '@')
            && domain.contains('.')
            && domain.split('.').all(label)
    });
    match valid.map(|(mailbox, domain)| format!("{mailbox}@{domain}")) {
        Some(mail) if mail.chars().count() <= MAX_MAIL => mail,
        _ => {
            check.fault(field, "is not a mail address of at most 254 characters: mailbox@domain.tld");
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use chassis::testing::noon;
    use proptest::prelude::*;

    use super::*;

    fn faults(customer: &pb::Customer) -> Vec<String> {
        let mut check = Check::new();
        Details::parse(&mut check, "c", customer, noon());
        check.take().into_iter().map(|violation| violation.field).collect()
    }

    fn person(birth_date: &str, phone: &str, mail: &str) -> pb::Customer {
        pb::Customer {
            kind: Some(Basics::Person(pb::Person { birth_date: birth_date.into(), ..Default::default() })),
            phones: vec![phone.into()],
            mails: vec![mail.into()],
            ..Default::default()
        }
    }

    const PHONE: &str = "+441632960000";
    const MAIL: &str = "ann@example.org";

    #[test]
    fn dates_are_days_of_the_calendar_that_have_begun_somewhere() {
        // Noon of the 14th in UTC is the 15th in the first time zone.
        for good in ["", "2024-02-29", "2026-01-14", "2026-01-15", "0001-01-01"] {
            assert_eq!(faults(&person(good, PHONE, MAIL)), [""; 0], "{good}");
        }
        for bad in [
            "2023-02-29",
            "2026-01-16",
            "1980-1-1",
            "19800101",
            "1980-01-01T00:00:00Z",
            "-000001-01-01",
            "0000-01-01",
            " ",
        ] {
            assert_eq!(faults(&person(bad, PHONE, MAIL)), ["c.person.birth_date"], "{bad}");
        }
    }

    #[test]
    fn phones_are_e164() {
        for good in ["+441632960000", "+1234567", "+123456789012345"] {
            assert_eq!(faults(&person("", good, MAIL)), [""; 0], "{good}");
        }
        for bad in
            ["", "+", "441632960000", "+0441632960", "+44 1632 960000", "+123456", "+1234567890123456", "+٤٤١٦٣٢٩٦٠٠"]
        {
            assert_eq!(faults(&person("", bad, MAIL)), ["c.phones[0]"], "{bad}");
        }
    }

    #[test]
    fn mails_could_be_sent_to() {
        let long = format!("{}@{}.org", "a".repeat(64), "b".repeat(63));
        for good in ["a@b.org", "o'neil+tag@sub.example.co.uk", "ä@münchen.example", long.as_str()] {
            assert_eq!(faults(&person("", PHONE, good)), [""; 0], "{good}");
        }
        let labels = format!("a@{}org", format!("{}.", "b".repeat(63)).repeat(4));
        for bad in [
            "",
            "a",
            "@b.org",
            "a@",
            "a@b",
            "a@b..org",
            "a@-b.org",
            "a@b-.org",
            "a b@c.org",
            "a@b@c.org",
            "a@b.o g",
            &labels,
        ] {
            assert_eq!(faults(&person("", PHONE, bad)), ["c.mails[0]"], "{bad}");
        }
        let details = Details::parse(&mut Check::new(), "c", &person("", PHONE, " Ann@EXAMPLE.Org "), noon());
        assert_eq!(details.as_proto().mails, ["Ann@example.org"]);
    }

    #[test]
    fn debug_shows_nothing_personal() {
        let mut details = Details::parse(&mut Check::new(), "c", &person("1980-01-01", PHONE, MAIL), noon());
        details.add_identity(&Identity { system: "shop".into(), id: "secret".into() });
        let shown = format!("{details:?} {:?}", details.identities());
        assert_eq!(shown, "Details { kind: Person, .. } [Identity { system: \"shop\", .. }]");
    }

    proptest! {
        /// What was accepted once is accepted again, the same: an update may send back what it read.
        #[test]
        fn what_is_accepted_reads_back_the_same(
            name in "\\PC{0,110}", mail in "[a-zA-Z.+ ]{1,5}@[a-zA-ZİßÄ.-]{1,12}\\.(org|ORG)", phone in "\\+?[0-9]{5,17}", id in "\\PC{0,5}",
        ) {
            let mut customer = person("", &phone, &mail);
            customer.kind = Some(Basics::Company(pb::Company { name, ..Default::default() }));
            customer.identities = vec![pb::ExternalIdentity { system: "shop".into(), id }];
            let mut check = Check::new();
            let details = Details::parse(&mut check, "c", &customer, noon());
            if check.done().is_ok() {
                let mut check = Check::new();
                prop_assert_eq!(&Details::parse(&mut check, "c", details.as_proto(), noon()), &details);
                prop_assert!(check.done().is_ok());
            }
        }
    }
}
