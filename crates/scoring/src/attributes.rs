//! What scoring follows of a customer's record besides purchases, and nothing else of it.
//!
//! Birth date, names, addresses below the country, phones and mails never get here: no figure of this service can rest on a protected attribute,
//! or on one that stands for it. What may be read stands in [`Attributes::of`]; a test goes through every field of the record and fails for
//! a new one until somebody has decided.
use proto::profiles::v1::{self as profiles, customer::Kind};
use uuid::Uuid;

/// What is known of a customer besides purchases. Texts are empty where not known, in lower case, without white space around.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Person or company.
    pub kind: profiles::CustomerKind,
    /// Of a person.
    pub employer: String,
    /// Of a person.
    pub position: String,
    /// Of a company.
    pub line_of_business: String,
    /// Of a company.
    pub legal_form: String,
    /// Country of the first address, ISO 3166-1 alpha-2.
    pub region: String,
    /// How they were found.
    pub source: profiles::AcquisitionSource,
    /// What finding them cost, in minor units of the books' currency; absent where not known or in another one.
    pub acquisition_cost_minor: Option<i64>,
    /// The customer who introduced them.
    pub introduced_by: Option<Uuid>,
}

impl Attributes {
    /// What may be read of a record.
    pub fn of(customer: &profiles::Customer, currency: &str) -> Self {
        let plain = |text: &str| text.trim().to_lowercase();
        let mut attributes = Self {
            region: customer.addresses.first().map(|address| address.region_code.clone()).unwrap_or_default(),
            source: customer.acquisition_source(),
            acquisition_cost_minor: customer
                .acquisition_cost
                .as_ref()
                .filter(|cost| cost.currency_code == currency)
                .map(|cost| cost.minor_units),
            introduced_by: Uuid::parse_str(&customer.introduced_by).ok(),
            ..Self::default()
        };
        match &customer.kind {
            Some(Kind::Person(person)) => {
                attributes.kind = profiles::CustomerKind::Person;
                attributes.employer = plain(&person.employer);
                attributes.position = plain(&person.position);
            }
            Some(Kind::Company(company)) => {
                attributes.kind = profiles::CustomerKind::Company;
                attributes.line_of_business = plain(&company.line_of_business);
                attributes.legal_form = plain(&company.legal_form);
            }
            None => {}
        }
        attributes
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::{
        DescriptorPool, DynamicMessage, Kind as Type, MessageDescriptor, ReflectMessage, Value, prost::Message,
    };

    use super::*;

    /// Every field of a record that scoring may read.
    const ALLOWED: [&str; 10] = [
        "Customer.acquisition_cost",
        "Customer.acquisition_source",
        "Customer.introduced_by",
        "Address.region_code",
        "Money.currency_code",
        "Money.minor_units",
        "Person.employer",
        "Person.position",
        "Company.line_of_business",
        "Company.legal_form",
    ];

    fn record(company: bool) -> DynamicMessage {
        let pool = DescriptorPool::decode(proto::DESCRIPTORS).unwrap();
        let descriptor = pool.get_message_by_name("clientele.profiles.v1.Customer").unwrap();
        let kind = if company { "person" } else { "company" };
        fill(&descriptor, kind, &|_| true, 1)
    }

    /// A message with every field set that is asked for, but for one of the oneof.
    fn fill(descriptor: &MessageDescriptor, without: &str, set: &dyn Fn(&str) -> bool, number: i64) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        for field in descriptor.fields().filter(|field| field.name() != without) {
            let path = format!("{}.{}", descriptor.name(), field.name());
            let value = match field.kind() {
                Type::Message(inner) => Value::Message(fill(&inner, without, set, number)),
                _ if !set(&path) => continue,
                Type::Bool => Value::Bool(number % 2 == 1),
                Type::Enum(_) => Value::EnumNumber(number as i32),
                Type::Int32 => Value::I32(number as i32),
                Type::Int64 => Value::I64(number),
                Type::Double => Value::F64(number as f64),
                Type::String if field.name() == "introduced_by" => Value::String(Uuid::from_u128(9).to_string()),
                Type::String if field.name() == "currency_code" => Value::String("USD".into()),
                Type::String => Value::String(format!("text {number}")),
                kind => panic!("{path}: decide how a test fills {kind:?}"),
            };
            message.set_field(&field, if field.is_list() { Value::List(vec![value]) } else { value });
        }
        message
    }

    fn read(message: &DynamicMessage) -> Attributes {
        Attributes::of(&prost::Message::decode(message.encode_to_vec().as_slice()).unwrap(), "USD")
    }

    #[test]
    fn nothing_but_what_is_allowed_is_read_of_a_record_whatever_fields_it_has() {
        for without in ["person", "company"] {
            let full = record(without == "person");
            let descriptor = full.descriptor();
            // Everything that is not allowed says something else, or nothing: what is read stays the same.
            for number in [2, 3] {
                let mut other = fill(&descriptor, without, &|path| !ALLOWED.contains(&path), number);
                let allowed = fill(&descriptor, without, &|path| ALLOWED.contains(&path), 1);
                other.merge(allowed.encode_to_vec().as_slice()).unwrap();
                // Lists are appended to by a merge; the first address counts.
                let addresses = allowed.get_field_by_name("addresses").unwrap().into_owned();
                other.set_field_by_name("addresses", addresses);
                assert_eq!(read(&other), read(&full), "without {without}");
            }
            assert_eq!(read(&fill(&descriptor, without, &|path| ALLOWED.contains(&path), 1)), read(&full));
        }
    }

    #[test]
    fn what_is_allowed_is_read() {
        let person = read(&record(false));
        assert_eq!((person.kind, person.employer.as_str()), (profiles::CustomerKind::Person, "text 1"));
        assert_eq!((person.acquisition_cost_minor, person.introduced_by), (Some(1), Some(Uuid::from_u128(9))));
        let company = read(&record(true));
        assert_eq!((company.line_of_business.as_str(), company.region.as_str()), ("text 1", "text 1"));
        assert_eq!(company.source, profiles::AcquisitionSource::DoorToDoor);
    }

    #[test]
    fn a_cost_in_another_currency_is_not_known() {
        let cost = proto::common::v1::Money { currency_code: "EUR".into(), minor_units: 5 };
        let customer = profiles::Customer { acquisition_cost: Some(cost), ..Default::default() };
        assert_eq!(Attributes::of(&customer, "USD").acquisition_cost_minor, None);
    }
}
