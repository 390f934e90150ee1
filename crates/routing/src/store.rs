//! Every query and every table of the service.
mod contact;
mod customer;
mod setup;

pub(crate) use contact::{contact_page, contacts_snapshot, find_contact, insert_contact};
pub(crate) use customer::{apply_complaints, apply_customers, apply_standings, drop_lost_complaints, view_snapshot};
pub(crate) use setup::{
    channel_count, channel_exists, find_channel, find_queue, insert_channel, insert_queue, list_channels, list_queues,
    lock_setup, point_key, publish_setup, queue_count, seed_or_check, update_channel, update_queue,
};

/// Changes of contacts, as `WatchContacts` serves them.
pub(crate) const CONTACTS: &str = "contacts";
/// Changes of what decisions are made from, for every replica's view.
pub(crate) const VIEW: &str = "view";
