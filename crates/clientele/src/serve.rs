//! Starts services: all in one process by default, or the ones named, one per pod.
use std::{collections::HashMap, future::Future, net::SocketAddr, str::FromStr};

use chassis::{
    Clock, Context, Error,
    auth::Callers,
    config::DbUrl,
    peers::{Access, Peers},
    server::{self, Service},
};
use sqlx::sqlite::SqliteConnectOptions;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    client::SERVICES,
    config::{Config, NOT_ADMITTED},
    folder,
};

/// Services that are about to run or running.
#[derive(Debug)]
pub struct Running {
    /// Where they listen.
    pub address: SocketAddr,
    /// What they run in.
    pub context: Context,
    serving: JoinHandle<chassis::Result<()>>,
}

impl Running {
    /// Waits until the services have drained or one could not start.
    ///
    /// # Errors
    /// Why it ended.
    pub async fn ended(self) -> chassis::Result<()> {
        self.serving.await.map_err(|error| Error::Internal(format!("the server ended: {error}")))?
    }
}

/// Binds, then starts the named services on `clock`; `end` ends them.
///
/// # Errors
/// `Invalid` for an address, a name or a URL that cannot be used; for a data folder on which another process runs.
pub async fn start(
    config: Config,
    clock: Clock,
    names: &[String],
    end: impl Future<Output = ()> + Send + 'static,
) -> chassis::Result<Running> {
    let names = resolve(names)?;
    let locks = lock(&config, &names)?;
    let server_config = server_config(&config)?;
    let listener: TcpListener = server::bind(config.server.listen, &server_config).await?;
    let address = listener.local_addr().map_err(|error| Error::Internal(error.to_string()))?;
    let context = Context::new(clock, peers(&config, address, &names).await?);
    let services =
        names.iter().map(|name| mount(name, &config, &context, &locks)).collect::<chassis::Result<Vec<_>>>()?;
    let serving = server::serve(listener, server_config, context.clone(), services, end);
    let serving = tokio::spawn(async move {
        let _locks = locks;
        serving.await
    });
    Ok(Running { address, context, serving })
}

fn resolve(names: &[String]) -> chassis::Result<Vec<&'static str>> {
    if names.is_empty() {
        return Ok(SERVICES.to_vec());
    }
    names
        .iter()
        .map(|name| {
            SERVICES
                .into_iter()
                .find(|known| known == name)
                .ok_or_else(|| Error::invalid("SERVICE", format!("{name} is none; there are {}", SERVICES.join(", "))))
        })
        .collect()
}

fn server_config(config: &Config) -> chassis::Result<server::Config> {
    let (cert, key) = (&config.server.tls_cert_file, &config.server.tls_key_file);
    Ok(server::Config {
        tls: (!cert.as_os_str().is_empty()).then(|| (cert.clone(), key.clone())),
        insecure: config.server.insecure,
        drain_delay: std::time::Duration::from_secs(config.server.drain_delay_s),
        callers: Callers::new(&config.auth)?,
        ..server::Config::default()
    })
}

/// What every call to a peer is made with.
///
/// # Errors
/// `Invalid` naming the file that cannot be read.
pub async fn access(config: &Config) -> chassis::Result<Access> {
    let ca_file = &config.server.tls_ca_file;
    let ca = if ca_file.as_os_str().is_empty() {
        None
    } else {
        Some(tokio::fs::read_to_string(ca_file).await.map_err(|error| {
            Error::invalid("server.tls_ca_file", format!("cannot read {}: {error}", ca_file.display()))
        })?)
    };
    Ok(Access { ca, token: config.auth.token.clone() })
}

/// A peer that is not configured is looked for in this process, through a channel all the same.
async fn peers(config: &Config, address: SocketAddr, names: &[&'static str]) -> chassis::Result<Peers> {
    let access = access(config).await?;
    // An address for listening on all interfaces is none for calling.
    let own = if address.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], address.port())) } else { address };
    let own_url = match (config.server.tls_cert_file.as_os_str().is_empty(), config.server.tls_server_name.as_str()) {
        (true, _) => format!("http://{own}"),
        (false, "") => format!("https://{own}"),
        (false, name) => format!("https://{name}:{}", own.port()),
    };
    let mut channels = HashMap::new();
    for name in SERVICES {
        let key = format!("peers.{name}");
        let configured = config.peers.get(name).map(String::as_str).unwrap_or_default();
        if !configured.is_empty() {
            channels.insert(name.to_owned(), access.channel(&key, configured)?);
        } else if names.contains(&name) {
            if names.len() > 1 && !config.auth.admits_itself() {
                return Err(Error::invalid("auth.token", NOT_ADMITTED));
            }
            channels.insert(name.to_owned(), access.channel_at(&key, &own_url, own)?);
        }
        // One that is neither is missed by the service that needs it, and by no other.
    }
    Ok(Peers::new(channels))
}

fn mount(name: &str, config: &Config, context: &Context, locks: &folder::Locks) -> chassis::Result<Service> {
    let url = |configured: &DbUrl| {
        if !configured.is_empty() {
            return configured.clone();
        }
        let url = format!("sqlite:{}", folder::database(&config.data_dir, name).display());
        if locks.hold(name) { DbUrl::alone(url) } else { DbUrl::new(url) }
    };
    Ok(match name {
        "profiles" => {
            let mut own = config.profiles.clone();
            own.database_url = url(&own.database_url);
            profiles::service(own, context.clone())
        }
        "scoring" => {
            let mut own = config.scoring.clone();
            own.database_url = url(&own.database_url);
            scoring::service(own, context.clone())
        }
        "routing" => {
            let mut own = config.routing.clone();
            own.database_url = url(&own.database_url);
            routing::service(own, context.clone())
        }
        "complaints" => {
            let mut own = config.complaints.clone();
            own.database_url = url(&own.database_url);
            complaints::service(own, context.clone())
        }
        _ => return Err(Error::Internal(format!("no service {name}"))),
    })
}

/// Takes what lies in the data folder for this process, and shares the SQLite files that have an address of their own.
fn lock(config: &Config, names: &[&'static str]) -> chassis::Result<folder::Locks> {
    let url = |name: &str| match name {
        "profiles" => &config.profiles.database_url,
        "scoring" => &config.scoring.database_url,
        "routing" => &config.routing.database_url,
        _ => &config.complaints.database_url,
    };
    let (own, others): (Vec<_>, Vec<_>) = names.iter().copied().partition(|name| url(name).is_empty());
    let mut locks = folder::lock(&config.data_dir, &own)?;
    for name in others {
        // What is none is refused where it is opened.
        if let Ok(options) = SqliteConnectOptions::from_str(url(name).expose()) {
            locks.share(name, options.get_filename())?;
        }
    }
    Ok(locks)
}

/// Resolves on SIGTERM or Ctrl-C.
pub async fn signalled() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = interrupt => {}
                    _ = terminate.recv() => {}
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot listen for SIGTERM; only Ctrl-C drains");
                let _ = interrupt.await;
            }
        }
    }
    #[cfg(not(unix))]
    let _ = interrupt.await;
}
