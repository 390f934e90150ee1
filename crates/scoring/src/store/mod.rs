//! Every query. sea-orm stays in here.
pub mod customer;
pub mod in_force;
pub mod operation;
pub mod purchase;
