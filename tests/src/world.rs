//! All services on one server of this process, each with its own database, over real sockets.
use std::collections::BTreeMap;

use chassis::{
    Clock, Context, Service,
    testing::{Backend, TempDb, TestServer},
};
use clientele::client::{Client, SERVICES};

/// An address where nobody answers: the port of a service that no machine has had for decades.
pub const DEAD: &str = "http://127.0.0.1:1";

/// The services and what they keep.
#[derive(Debug)]
pub struct World {
    /// Where they run. First, so that it ends before its databases do.
    pub server: TestServer,
    /// Clients of all of them.
    pub client: Client,
    /// Their clock.
    pub clock: Clock,
    databases: BTreeMap<&'static str, TempDb>,
}

impl World {
    /// All four, on new databases.
    pub async fn start(backend: Backend, clock: Clock) -> Self {
        let mut databases = BTreeMap::new();
        for name in SERVICES {
            databases.insert(name, TempDb::new(backend).await);
        }
        Self::on(databases, clock, &SERVICES).await
    }

    /// Ends all, and starts those named again on the same databases. They look for the others where nobody is.
    pub async fn restart(self, names: &[&str]) -> Self {
        let Self { server, client, clock, databases } = self;
        drop(client);
        server.stop().await.unwrap();
        Self::on(databases, clock, names).await
    }

    async fn on(databases: BTreeMap<&'static str, TempDb>, clock: Clock, names: &[&str]) -> Self {
        let away: Vec<_> =
            SERVICES.into_iter().filter(|name| !names.contains(name)).map(|name| (name, DEAD.to_owned())).collect();
        let mount = |context: &Context| names.iter().map(|name| mount(name, databases[name].url(), context)).collect();
        let server = TestServer::start(clock.clone(), &away, mount).await;
        let client = Client::new(&[server.url()]).unwrap();
        Self { server, client, clock, databases }
    }
}

fn mount(name: &str, url: &str, context: &Context) -> Service {
    let (database_url, context) = (url.into(), context.clone());
    match name {
        "profiles" => profiles::service(profiles::Config { database_url, ..profiles::Config::default() }, context),
        "scoring" => scoring::service(scoring::Config { database_url, ..scoring::Config::default() }, context),
        "routing" => routing::service(routing::Config { database_url, ..routing::Config::default() }, context),
        "complaints" => {
            complaints::service(complaints::Config { database_url, ..complaints::Config::default() }, context)
        }
        _ => panic!("no service {name}"),
    }
}
