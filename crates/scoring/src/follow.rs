//! What scoring keeps of profiles: who is there, and whether they showed interest or were chosen.
use std::{collections::HashMap, sync::Arc};

use chassis::{
    Context, Db, Error, Result, Tx,
    feed::{self, Change, Newest},
    parse::Check,
    peers::{self, Channel},
    server::MAX_MESSAGE_BYTES,
};
use proto::{
    profiles::v1::{self as profiles, profiles_client::ProfilesClient},
    scoring::v1 as pb,
};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    attributes::Attributes,
    estimate,
    in_force::Scorer,
    ledger::Profile,
    score::Facts,
    standing::{self, Customer},
    store,
};

/// Customers that profiles answers for at a time.
const ASK_AT_ONCE: usize = 1_000;

/// Follows profiles until the service drains.
///
/// # Errors
/// `Invalid` where no address of profiles is configured.
pub fn spawn(context: &Context, db: &Db, scorer: &Arc<Scorer>) -> Result<()> {
    let scorer = Arc::clone(scorer);
    feed::spawn_follow::<feed::Customers, Error, _>(context, db, move |tx, changes| {
        Box::pin(apply(tx, Arc::clone(&scorer), changes))
    })
}

/// Keeps the newest news of each customer and announces those whose standing it changes.
async fn apply(tx: &Tx<'_>, scorer: Arc<Scorer>, changes: &[Change<profiles::Customer>]) -> Result<()> {
    let news = feed::newest(changes, |customer| Some((customer.customer_id.as_str(), customer.revision, customer)));
    let attributes: Vec<_> = news
        .iter()
        .map(|(id, news)| (*id, news.revision, Attributes::of(news.item, &scorer.terms.currency), news.authoritative))
        .collect();
    for authoritative in [false, true] {
        let some: Vec<_> = attributes.iter().filter(|(.., of)| *of == authoritative).collect();
        let some = some.into_iter().map(|(id, revision, attributes, _)| (*id, *revision, attributes));
        store::attribute::put(tx, some.collect::<Vec<_>>().into_iter(), authoritative).await?;
    }
    let ids: Vec<Uuid> = news.keys().copied().collect();
    let mut there = store::customer::lock(tx, &ids).await?;
    let mut moved = Vec::new();
    let in_force = scorer.in_force(&**tx).await?;
    // Where segments speak of the record, any news of it may move the customer.
    let any = in_force.segments.speaks_of_attributes();
    let unwritten = estimate::refresh(&**tx, &in_force, there.values_mut()).await?;
    for (id, Newest { item, revision, authoritative, .. }) in news {
        let mut facts = facts(item);
        match there.remove(&id) {
            None => moved.push(Customer::new(id, revision, facts)),
            Some(mut customer) => {
                facts.potential_minor = customer.facts.potential_minor;
                // The same revision may have come by asking, before the attributes came by the feed.
                let older = customer.profile_revision > revision && !authoritative;
                // Most changes of a record are of no concern here. A kept revision may be too low, not too high.
                let known = customer.profile_revision <= revision && customer.facts == facts && !any;
                if !older && !known {
                    customer.profile_revision = revision;
                    customer.facts = facts;
                } else if !unwritten.contains(&id) {
                    continue;
                }
                moved.push(customer);
            }
        }
    }
    estimate::refresh(&**tx, &in_force, moved.iter_mut().filter(|customer| customer.is_new)).await?;
    // The facts of those whose standing stays the same, too: announcing writes only whom it announces.
    store::customer::write(tx, moved.iter().filter(|customer| !customer.is_new)).await?;
    standing::announce(tx, &scorer, &mut moved, pb::ChangeCause::Profile).await?;
    Ok(())
}

fn profile(customer: &profiles::Customer) -> Option<(Uuid, Profile)> {
    let mut check = Check::new();
    let id = check.uuid("customer_id", &customer.customer_id);
    check.done().ok()?;
    Some((id, Profile { revision: customer.revision, facts: facts(customer) }))
}

fn facts(customer: &profiles::Customer) -> Facts {
    Facts { showed_interest: customer.showed_interest, targeted: customer.targeted, potential_minor: None }
}

/// Asks profiles who these customers are; `None` for one it does not know.
///
/// # Errors
/// `Peer` where it does not answer.
pub async fn ask(channel: Channel, ids: &[Uuid]) -> Result<HashMap<Uuid, Option<Profile>>> {
    let mut client = ProfilesClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let mut answers: HashMap<Uuid, Option<Profile>> = ids.iter().map(|id| (*id, None)).collect();
    let mut left: Vec<&[Uuid]> = ids.chunks(ASK_AT_ONCE).collect();
    while let Some(chunk) = left.pop() {
        let customer_ids = chunk.iter().map(Uuid::to_string).collect();
        let request = profiles::BatchGetCustomersRequest { customer_ids };
        let customers = match client.batch_get_customers(request).await {
            Ok(reply) => reply.into_inner().customers,
            // Long records: so many do not fit into one answer.
            Err(status) if status.code() == Code::InvalidArgument && chunk.len() > 1 => {
                let (first, second) = chunk.split_at(chunk.len() / 2);
                left.extend([first, second]);
                continue;
            }
            Err(status) => return Err(unanswered(&status)),
        };
        answers.extend(customers.iter().filter_map(profile).map(|(id, profile)| (id, Some(profile))));
    }
    Ok(answers)
}

fn unanswered(status: &Status) -> Error {
    peers::unanswered("profiles", status)
}
