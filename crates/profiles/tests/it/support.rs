//! One profiles service on a database of its own, with scripted peers beside it.
use chassis::{
    Clock,
    peers::Channel,
    testing::{Backend, TempDb, TestServer, noon},
};
use profiles::Config;
use proto::profiles::v1::{self as pb, profiles_client::ProfilesClient};

use crate::peers::{FakeComplaints, FakeScoring};

pub(crate) type Client = ProfilesClient<Channel>;

pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) client: Client,
    pub(crate) scoring: FakeScoring,
    pub(crate) complaints: FakeComplaints,
    pub(crate) server: TestServer,
    pub(crate) db: TempDb,
}

impl World {
    pub(crate) async fn new(backend: Backend) -> Self {
        let peers = (FakeScoring::default(), FakeComplaints::default());
        Self::start(Clock::mock(noon()), TempDb::new(backend).await, peers).await
    }

    async fn start(clock: Clock, db: TempDb, (scoring, complaints): (FakeScoring, FakeComplaints)) -> Self {
        let config = Config { database_url: db.url().into(), ..Config::default() };
        let server = TestServer::start(clock.clone(), &[], |context| {
            vec![
                profiles::service(config, context.clone()),
                scoring.clone().service(context),
                complaints.clone().service(context),
            ]
        })
        .await;
        let client = ProfilesClient::new(server.channel());
        Self { clock, client, scoring, complaints, server, db }
    }

    /// Another replica on the same database, which stands for another process.
    pub(crate) async fn replica(&self) -> TestServer {
        let config = Config { database_url: self.db.url().into(), ..Config::default() };
        let peers = (self.scoring.clone(), self.complaints.clone());
        TestServer::start(self.clock.clone(), &[], |context| {
            vec![profiles::service(config, context.clone()), peers.0.service(context), peers.1.service(context)]
        })
        .await
    }

    /// Ends the service as SIGTERM would and starts it again.
    pub(crate) async fn restart(self, while_down: impl FnOnce(&FakeScoring, &FakeComplaints)) -> Self {
        self.server.stop().await.unwrap();
        while_down(&self.scoring, &self.complaints);
        Self::start(self.clock, self.db, (self.scoring, self.complaints)).await
    }

    pub(crate) async fn create(&mut self, customer: pb::Customer) -> pb::Customer {
        let request_id = format!("create-{}", self.server.context.ids.next());
        let request = pb::CreateCustomerRequest { request_id, customer: Some(customer) };
        self.client.create_customer(request).await.unwrap().into_inner().customer.unwrap()
    }

    pub(crate) async fn get(&mut self, customer_id: &str) -> pb::Customer {
        let request = pb::GetCustomerRequest { customer_id: customer_id.to_owned(), view: 0 };
        self.client.get_customer(request).await.unwrap().into_inner().customer.unwrap()
    }

    pub(crate) async fn ensure(&mut self, ids: &[&str]) -> Vec<pb::EnsuredCustomer> {
        let items = ids.iter().map(|id| item(id)).collect();
        let request = pb::EnsureCustomersRequest { items };
        self.client.ensure_customers(request).await.unwrap().into_inner().customers
    }
}

pub(crate) fn identity(id: &str) -> pb::ExternalIdentity {
    pb::ExternalIdentity { system: "shop".into(), id: id.into() }
}

pub(crate) fn item(id: &str) -> pb::EnsureCustomer {
    pb::EnsureCustomer { identity: Some(identity(id)), customer: None }
}

pub(crate) fn person(given_name: &str, family_name: &str) -> pb::Customer {
    let person = pb::Person {
        given_name: given_name.into(),
        family_name: family_name.into(),
        birth_date: "1980-02-29".into(),
        ..Default::default()
    };
    pb::Customer { kind: Some(pb::customer::Kind::Person(person)), ..Default::default() }
}

pub(crate) fn company(name: &str) -> pb::Customer {
    let company = pb::Company { name: name.into(), ..Default::default() };
    pb::Customer { kind: Some(pb::customer::Kind::Company(company)), ..Default::default() }
}

/// Everything that a caller can set.
pub(crate) fn full_person() -> pb::Customer {
    pb::Customer {
        identities: vec![identity("p-1"), pb::ExternalIdentity { system: "crm.eu".into(), id: "Ä 7".into() }],
        phones: vec!["+441632960000".into()],
        mails: vec!["Ann.Lee@Example.ORG".into()],
        addresses: vec![pb::Address {
            lines: vec!["1 High Street".into()],
            locality: "Leeds".into(),
            postal_code: "LS1 1AA".into(),
            region_code: "GB".into(),
        }],
        showed_interest: true,
        targeted: true,
        acquisition_source: pb::AcquisitionSource::Club.into(),
        acquisition_cost: Some(proto::common::v1::Money { currency_code: "USD".into(), minor_units: 1250 }),
        ..person("Ann", "Lee")
    }
}
