//! What happened in contacts: recorded, read, listed, watched.
use chassis::{
    Error, Result,
    feed::{self, Source},
    idempotency::{self, Key},
    page::Page,
    parse::Check,
};
use proto::routing::v1 as pb;

use super::Api;
use crate::{contact::Contact, store};

/// Contacts on a page where the caller does not say.
const DEFAULT_PAGE: i32 = 50;

impl Api {
    pub(super) async fn record(&self, request: pb::RecordContactRequest) -> Result<pb::RecordContactResponse> {
        let mut check = Check::new();
        let key = Key::parse(&mut check, "RecordContact", &request.request_id, &request);
        let (id, now) = (self.context.ids.next(), self.context.clock.now());
        let contact = Contact::parse(&mut check, request.contact.as_ref(), id, now);
        check.done()?;
        let (key, contact) = (&key, &contact);
        self.db
            .run_tx("record_contact", |tx| {
                Box::pin(async move {
                    if let Some(reply) = idempotency::replay(tx, key).await? {
                        return Ok(reply);
                    }
                    if !store::channel_exists(tx, &contact.channel_id).await? {
                        return Err(Error::not_found("channel", &contact.channel_id));
                    }
                    if let Some(queue_id) = &contact.queue_id {
                        let queue = store::find_queue(&**tx, queue_id).await?;
                        let queue = queue.ok_or_else(|| Error::not_found("queue", queue_id))?;
                        if queue.channel_id != contact.channel_id {
                            return Err(Error::invalid("contact.queue_id", "is not a queue of this channel"));
                        }
                    }
                    store::insert_contact(tx, contact).await?;
                    let message = contact.clone().into_proto();
                    tx.publish(store::CONTACTS, contact.id, &message);
                    idempotency::record(tx, key, pb::RecordContactResponse { contact: Some(message) }).await
                })
            })
            .await
    }

    pub(super) async fn get(&self, request: pb::GetContactRequest) -> Result<pb::GetContactResponse> {
        let mut check = Check::new();
        let id = check.uuid("contact_id", &request.contact_id);
        check.done()?;
        let contact = store::find_contact(&self.db, id).await?.ok_or_else(|| Error::not_found("contact", id))?;
        Ok(pb::GetContactResponse { contact: Some(contact.into_proto()) })
    }

    pub(super) async fn list(&self, request: pb::ListContactsRequest) -> Result<pb::ListContactsResponse> {
        let mut check = Check::new();
        let customer_id = check.optional_uuid("customer_id", &request.customer_id);
        let filter = pb::ListContactsRequest { customer_id: request.customer_id, ..Default::default() };
        let (size, token) = (request.page_size, &request.page_token);
        let page = Page::parse(&mut check, "ListContacts", &filter, size, DEFAULT_PAGE, token);
        check.done()?;
        let page = page?;
        let contacts = store::contact_page(&self.db, customer_id, &page).await?;
        let key = |contact: &Contact| (contact.arrive.as_microsecond(), contact.id);
        let (contacts, next_page_token) = page.fill(contacts, key, |contact| contact.clone().into_proto())?;
        Ok(pb::ListContactsResponse { contacts, next_page_token })
    }

    pub(super) async fn watch(&self, request: pb::WatchContactsRequest) -> Result<feed::Answers<feed::Contacts>> {
        let source = Source {
            db: self.db.clone(),
            topic: store::CONTACTS,
            snapshot: store::contacts_snapshot,
            shutdown: self.context.shutdown.clone(),
        };
        feed::serve::<feed::Contacts>(source, &request.cursor, request.only_new, |_| ()).await
    }
}
