//! Finding or creating the customers of many identities at once, without a single query: what is known goes in, what is to be written comes out.
use std::collections::HashMap;

use chassis::{Error, Ids, parse::Check};
use jiff::Timestamp;
use proto::profiles::v1 as pb;
use uuid::Uuid;

use crate::customer::{Customer, Details, Identity};

/// Items in one call: a transaction of some milliseconds, and a message far below the size limit.
pub(crate) const MAX_ITEMS: usize = 1_000;

/// An identity, and what to create where it is not there. The details have the identity already.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) identity: Identity,
    details: Details,
}

impl Item {
    pub(crate) fn parse_all(check: &mut Check, items: &[pb::EnsureCustomer], now: Timestamp) -> Vec<Self> {
        check.count("items", items.len(), 1..=MAX_ITEMS);
        let items = items.iter().take(MAX_ITEMS).enumerate();
        items.map(|(index, item)| Self::parse(check, &format!("items[{index}]"), item, now)).collect()
    }

    fn parse(check: &mut Check, path: &str, item: &pb::EnsureCustomer, now: Timestamp) -> Self {
        let identity = Identity::parse(check, &format!("{path}.identity"), item.identity.as_ref());
        let mut details = match &item.customer {
            Some(customer) => Details::parse(check, &format!("{path}.customer"), customer, now),
            None => Details::unknown_person(),
        };
        if !details.add_identity(&identity) {
            check.fault(format!("{path}.customer.identities"), "has too many items; 50 with `identity` are allowed");
        }
        Self { identity, details }
    }
}

/// What to answer and what to write for it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) replies: Vec<pb::EnsuredCustomer>,
    pub(crate) new: Vec<Customer>,
}

/// Every identity that the items could give to a customer: what must be looked up before planning.
pub(crate) fn identities(items: &[Item]) -> Vec<Identity> {
    items.iter().flat_map(|item| item.details.identities()).collect()
}

/// Where the items name an introducer first.
pub(crate) fn introducer_path(items: &[Item], introducer: Uuid) -> String {
    let index = items.iter().position(|item| item.details.introduced_by() == Some(introducer)).unwrap_or_default();
    format!("items[{index}].customer.introduced_by")
}

/// Goes through the items in order; what an item creates, the later ones find.
///
/// # Errors
/// `AlreadyExists` where a further identity of a customer to create belongs to another.
pub(crate) fn plan(
    items: &[Item],
    mut known: HashMap<Identity, Uuid>,
    ids: &Ids,
    now: Timestamp,
) -> chassis::Result<Plan> {
    let mut new: Vec<Customer> = Vec::new();
    let mut replies = Vec::with_capacity(items.len());
    // The ids made here sort after all others: a binary search tells them.
    let created = |new: &[Customer], id: Uuid| new.binary_search_by_key(&id, |customer| customer.id).is_ok();
    for item in items {
        let id = match known.get(&item.identity) {
            Some(id) => *id,
            None => {
                let id = ids.next();
                for identity in item.details.identities() {
                    if let Some(owner) = known.insert(identity, id) {
                        return Err(taken(owner));
                    }
                }
                new.push(Customer::new(id, item.details.clone(), now));
                id
            }
        };
        replies.push(pb::EnsuredCustomer { customer_id: id.to_string(), created: created(&new, id) });
    }
    Ok(Plan { replies, new })
}

/// An identity belongs to another customer, who is named; the identity itself is personal.
pub(crate) fn taken(owner: Uuid) -> Error {
    Error::AlreadyExists { what: "customer with one of these identities", id: owner.to_string() }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use chassis::{Clock, testing::noon};
    use proptest::prelude::*;

    use super::*;

    fn identity(id: &str) -> pb::ExternalIdentity {
        pb::ExternalIdentity { system: "shop".into(), id: id.into() }
    }

    fn item(id: &str, further: &[&str]) -> pb::EnsureCustomer {
        let customer = (!further.is_empty()).then(|| pb::Customer {
            kind: Some(pb::customer::Kind::Person(pb::Person::default())),
            identities: further.iter().map(|id| identity(id)).collect(),
            ..Default::default()
        });
        pb::EnsureCustomer { identity: Some(identity(id)), customer }
    }

    fn run(items: &[pb::EnsureCustomer]) -> chassis::Result<Plan> {
        let mut check = Check::new();
        let items = Item::parse_all(&mut check, items, noon());
        check.done()?;
        plan(&items, HashMap::new(), &Ids::new(Clock::mock(noon())), noon())
    }

    #[test]
    fn an_item_finds_what_an_earlier_one_created_by_a_further_identity() {
        let plan = run(&[item("a", &["a", "b"]), item("b", &[]), item("a", &[])]).unwrap();
        assert_eq!(plan.new.len(), 1);
        assert_eq!(plan.new[0].details.identities().len(), 2);
        assert!(plan.replies.iter().all(|reply| reply.created && reply.customer_id == plan.new[0].id.to_string()));
    }

    #[test]
    fn a_further_identity_of_another_customer_is_refused() {
        assert!(matches!(run(&[item("a", &[]), item("b", &["a"])]), Err(Error::AlreadyExists { .. })));
    }

    proptest! {
        #[test]
        fn each_identity_gets_one_customer_whatever_the_batch(batch in prop::collection::vec("[a-e]{1,2}", 1..40)) {
            let items: Vec<_> = batch.iter().map(|id| item(id, &[])).collect();
            let plan = run(&items).unwrap();
            let distinct: HashSet<_> = batch.iter().collect();
            prop_assert_eq!(plan.new.len(), distinct.len());
            let by_id: HashMap<_, _> = batch.iter().zip(&plan.replies).map(|(id, reply)| (id, &reply.customer_id)).collect();
            prop_assert!(batch.iter().zip(&plan.replies).all(|(id, reply)| by_id[id] == &reply.customer_id));
        }
    }
}
