//! An update: which fields, and their new values.
use chassis::{Error, parse::Check};
use jiff::Timestamp;
use proto::profiles::v1::{self as pb, customer::Kind as Basics};

use super::details::{Details, Kind};

/// What a mask may name.
const ALLOWED: &str = "person, person.given_name, person.family_name, person.birth_date, person.employer, person.position, company, \
     company.name, company.founded_date, company.legal_form, company.line_of_business, identities, phones, mails, addresses, \
     showed_interest, targeted, acquisition_source, acquisition_cost and introduced_by are allowed";
/// Fields of the record that no caller sets.
const OUTPUT_ONLY: [&str; 7] =
    ["customer_id", "etag", "revision", "standing", "open_complaints", "create_time", "update_time"];
/// Paths in one mask: each field named a few times over.
const MAX_PATHS: usize = 64;

/// New values for some fields.
#[derive(Clone, Debug)]
pub(crate) struct Patch {
    fields: Vec<Field>,
    values: Details,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Person,
    GivenName,
    FamilyName,
    BirthDate,
    Employer,
    Position,
    Company,
    CompanyName,
    FoundedDate,
    LegalForm,
    LineOfBusiness,
    Identities,
    Phones,
    Mails,
    Addresses,
    ShowedInterest,
    Targeted,
    AcquisitionSource,
    AcquisitionCost,
    IntroducedBy,
}

impl Field {
    fn parse(path: &str) -> Option<Self> {
        Some(match path {
            "person" => Self::Person,
            "person.given_name" => Self::GivenName,
            "person.family_name" => Self::FamilyName,
            "person.birth_date" => Self::BirthDate,
            "person.employer" => Self::Employer,
            "person.position" => Self::Position,
            "company" => Self::Company,
            "company.name" => Self::CompanyName,
            "company.founded_date" => Self::FoundedDate,
            "company.legal_form" => Self::LegalForm,
            "company.line_of_business" => Self::LineOfBusiness,
            "identities" => Self::Identities,
            "phones" => Self::Phones,
            "mails" => Self::Mails,
            "addresses" => Self::Addresses,
            "showed_interest" => Self::ShowedInterest,
            "targeted" => Self::Targeted,
            "acquisition_source" => Self::AcquisitionSource,
            "acquisition_cost" => Self::AcquisitionCost,
            "introduced_by" => Self::IntroducedBy,
            _ => return None,
        })
    }

    /// The kind of customer that has this field; none for those that all have.
    fn kind(self) -> Option<Kind> {
        match self {
            Self::Person | Self::GivenName | Self::FamilyName | Self::BirthDate | Self::Employer | Self::Position => {
                Some(Kind::Person)
            }
            Self::Company | Self::CompanyName | Self::FoundedDate | Self::LegalForm | Self::LineOfBusiness => {
                Some(Kind::Company)
            }
            Self::Identities
            | Self::Phones
            | Self::Mails
            | Self::Addresses
            | Self::ShowedInterest
            | Self::Targeted
            | Self::AcquisitionSource
            | Self::AcquisitionCost
            | Self::IntroducedBy => None,
        }
    }

    /// Sets this field of `to` as it is in `from`.
    fn copy(self, from: &pb::Customer, to: &mut pb::Customer) {
        match self {
            Self::Person | Self::Company => to.kind.clone_from(&from.kind),
            Self::GivenName | Self::FamilyName | Self::BirthDate | Self::Employer | Self::Position => {
                let from = match &from.kind {
                    Some(Basics::Person(person)) => person,
                    _ => &pb::Person::default(),
                };
                let to = to.kind.get_or_insert_with(|| Basics::Person(pb::Person::default()));
                if let Basics::Person(to) = to {
                    match self {
                        Self::GivenName => to.given_name.clone_from(&from.given_name),
                        Self::FamilyName => to.family_name.clone_from(&from.family_name),
                        Self::BirthDate => to.birth_date.clone_from(&from.birth_date),
                        Self::Employer => to.employer.clone_from(&from.employer),
                        _ => to.position.clone_from(&from.position),
                    }
                }
            }
            Self::CompanyName | Self::FoundedDate | Self::LegalForm | Self::LineOfBusiness => {
                let from = match &from.kind {
                    Some(Basics::Company(company)) => company,
                    _ => &pb::Company::default(),
                };
                let to = to.kind.get_or_insert_with(|| Basics::Company(pb::Company::default()));
                if let Basics::Company(to) = to {
                    match self {
                        Self::CompanyName => to.name.clone_from(&from.name),
                        Self::FoundedDate => to.founded_date.clone_from(&from.founded_date),
                        Self::LegalForm => to.legal_form.clone_from(&from.legal_form),
                        _ => to.line_of_business.clone_from(&from.line_of_business),
                    }
                }
            }
            Self::Identities => to.identities.clone_from(&from.identities),
            Self::Phones => to.phones.clone_from(&from.phones),
            Self::Mails => to.mails.clone_from(&from.mails),
            Self::Addresses => to.addresses.clone_from(&from.addresses),
            Self::ShowedInterest => to.showed_interest = from.showed_interest,
            Self::Targeted => to.targeted = from.targeted,
            Self::AcquisitionSource => to.acquisition_source = from.acquisition_source,
            Self::AcquisitionCost => to.acquisition_cost.clone_from(&from.acquisition_cost),
            Self::IntroducedBy => to.introduced_by.clone_from(&from.introduced_by),
        }
    }
}

impl Patch {
    /// Reads the mask and checks the values that it names; the other fields of `customer` are not looked at.
    pub(crate) fn parse(
        check: &mut Check,
        customer: &pb::Customer,
        mask: Option<&prost_types::FieldMask>,
        now: Timestamp,
    ) -> Self {
        let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
        check.count("update_mask.paths", paths.len(), 1..=MAX_PATHS);
        let mut fields = Vec::with_capacity(paths.len().min(MAX_PATHS));
        let (mut kind, mut refused) = (None, false);
        for (index, path) in paths.iter().take(MAX_PATHS).enumerate() {
            let at = format!("update_mask.paths[{index}]");
            match Field::parse(path) {
                Some(field) => {
                    if let Some(of) = field.kind()
                        && *kind.get_or_insert(of) != of
                    {
                        check.fault(at, "names a field of a person and of a company: a customer is one of them");
                    } else if !fields.contains(&field) {
                        fields.push(field);
                    }
                }
                None => {
                    let top = path.split('.').next().unwrap_or_default();
                    match OUTPUT_ONLY.iter().find(|name| **name == top) {
                        Some(name) => check.fault(at, format!("names {name}, which is output only")),
                        None => check.fault(at, "is not a field that can be set"),
                    }
                    refused = true;
                }
            }
        }
        if refused {
            // Once, not with every path: the answer must fit into a header.
            check.fault("update_mask", ALLOWED);
        }
        let given = customer.kind.as_ref().map(|given| match given {
            Basics::Person(_) => Kind::Person,
            Basics::Company(_) => Kind::Company,
        });
        for field in &fields {
            // A field that is named and absent is cleared; a whole person or company that is absent is rather a mistake.
            let whole = matches!(field, Field::Person | Field::Company);
            if let Some(of) = field.kind()
                && given != Some(of)
                && (whole || given.is_some())
            {
                check.fault(format!("customer.{}", of.name()), "is named in update_mask and not set");
                break;
            }
        }
        let mut named = pb::Customer::default();
        for field in &fields {
            field.copy(customer, &mut named);
        }
        Self { fields, values: Details::parse_partly(check, "customer", &named, now) }
    }

    pub(crate) fn sets_identities(&self) -> bool {
        self.fields.contains(&Field::Identities)
    }

    /// Sets the fields. A person stays a person and a company a company.
    pub(crate) fn apply(&self, details: &mut Details) -> chassis::Result<()> {
        let kind = details.kind();
        if self.fields.iter().any(|field| field.kind().is_some_and(|of| of != kind)) {
            return Err(Error::invalid(
                "update_mask",
                format!("this customer is a {}, and its kind never changes", kind.name()),
            ));
        }
        for field in &self.fields {
            field.copy(self.values.as_proto(), details.as_proto_mut());
        }
        Ok(())
    }
}
