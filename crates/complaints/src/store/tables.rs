//! The tables as sea-orm sees them; their columns are explained by `complaint.rs` and the migrations.
#![allow(unreachable_pub, reason = "sea-orm's derives make public what they derive")]

pub(crate) mod complaint {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "complaint")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub complaint_id: Uuid,
        pub customer_id: Uuid,
        pub cause_id: String,
        pub severity: i32,
        pub description: String,
        pub state: i32,
        pub owner_id: String,
        pub escalation_level: i32,
        pub tier: i32,
        pub allowed_micros: i64,
        pub floor_micros: i64,
        pub elapsed_micros: i64,
        pub running_since: Option<i64>,
        pub due_time: i64,
        pub sweep_time: i64,
        pub swept: i32,
        pub breached: bool,
        pub answer: String,
        pub customer_word: i32,
        pub create_time: i64,
        pub update_time: i64,
        pub revision: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod step {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "step")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub complaint_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub number: i64,
        pub time: i64,
        pub action: String,
        pub state: i32,
        pub actor_id: String,
        pub note: String,
        pub owner_id: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod cause {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "cause")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub cause_id: String,
        pub parent_id: String,
        pub display_name: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod customer {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "customer")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub customer_id: Uuid,
        pub tier: i32,
        pub revision: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
