//! What a fit says of itself beyond its parameters, and what an operation was asked.
use sea_orm_migration::prelude::*;

pub(super) struct Models;

impl MigrationName for Models {
    fn name(&self) -> &str {
        "m0010_models"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Models {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Null in models fitted before this.
        let quality = Table::alter().table("model").add_column(ColumnDef::new("quality").text().null()).to_owned();
        manager.alter_table(quality).await?;
        // The request as it came; null in operations asked for before this.
        let request = ColumnDef::new("request").binary().null().take();
        manager.alter_table(Table::alter().table("operation").add_column(request).to_owned()).await
    }
}
