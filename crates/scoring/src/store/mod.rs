//! Every query. sea-orm stays in here.
pub mod attribute;
pub mod customer;
pub mod dealings;
pub mod in_force;
pub mod operation;
pub mod payment;
pub mod potential;
pub mod purchase;
pub mod rows;
pub mod segment;
pub mod service_cost;
pub mod transition;
pub mod writers;
