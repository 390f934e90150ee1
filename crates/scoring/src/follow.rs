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
use tonic::Status;
use uuid::Uuid;

use crate::{
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
    let news =
        feed::newest(changes, |customer| Some((customer.customer_id.as_str(), customer.revision, facts(customer))));
    let ids: Vec<Uuid> = news.keys().copied().collect();
    let mut there = store::customer::lock(tx, &ids).await?;
    let mut moved = Vec::new();
    for (id, Newest { item: facts, revision, authoritative, .. }) in news {
        match there.remove(&id) {
            None => moved.push(Customer::new(id, revision, facts)),
            Some(customer) if customer.profile_revision >= revision && !authoritative => {}
            // Most changes of a record, our own standing on it above all, are of no concern here. A kept revision may be too low, not too high.
            Some(customer) if customer.profile_revision <= revision && customer.facts == facts => {}
            Some(mut customer) => {
                customer.profile_revision = revision;
                customer.facts = facts;
                moved.push(customer);
            }
        }
    }
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
    Facts { showed_interest: customer.showed_interest, targeted: customer.targeted }
}

/// Asks profiles who these customers are; `None` for one it does not know.
///
/// # Errors
/// `Peer` where it does not answer.
pub async fn ask(channel: Channel, ids: &[Uuid]) -> Result<HashMap<Uuid, Option<Profile>>> {
    let mut client = ProfilesClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let mut answers: HashMap<Uuid, Option<Profile>> = ids.iter().map(|id| (*id, None)).collect();
    for chunk in ids.chunks(ASK_AT_ONCE) {
        let customer_ids = chunk.iter().map(Uuid::to_string).collect();
        let request = profiles::BatchGetCustomersRequest { customer_ids };
        let reply = client.batch_get_customers(request).await.map_err(|status| unanswered(&status))?;
        answers
            .extend(reply.into_inner().customers.iter().filter_map(profile).map(|(id, profile)| (id, Some(profile))));
    }
    Ok(answers)
}

fn unanswered(status: &Status) -> Error {
    peers::unanswered("profiles", status)
}
