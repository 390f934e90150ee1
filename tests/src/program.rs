//! The program in processes of its own, which can be killed.
use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use chassis::testing::{Backend, DEADLINE, TempDb, eventually};
use clientele::client::{Client, SERVICES};
use tempfile::TempDir;
use tokio::time::Instant;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// A command of the program, with nothing of this process's configuration.
pub fn command(binary: &str) -> Command {
    let mut command = Command::new(binary);
    command
        .stdin(Stdio::null())
        .env("CLIENTELE_TELEMETRY__LOG_FILTER", "warn")
        .env_remove("CLIENTELE_SERVER")
        .env_remove("CLIENTELE_CONFIG")
        .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
    command
}

/// A process that dies with the test that started it.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts a command.
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// How it ended, if it has by then.
    pub async fn ends_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let begin = Instant::now();
        loop {
            let ended = self.0.try_wait().unwrap();
            if ended.is_some() || begin.elapsed() >= limit {
                return ended;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// SIGKILL: no word of farewell.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    fn signal(&self, name: &str) {
        let told = Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap();
        assert!(told.success());
    }

    /// SIGINT, as by Ctrl-C.
    pub fn interrupt(&self) {
        self.signal("-INT");
    }

    /// SIGTERM, and how it ended.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("-TERM");
        self.ends_within(DEADLINE).await.expect("it drains in time")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end.
pub async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// A port that nobody has, below those that systems give to outgoing connections. It must be known before the process that takes it starts,
/// since its peers are told.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 200).unwrap() * 50;
    loop {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A serving process that can be started again and again as it was.
#[derive(Debug)]
pub struct Process {
    binary: &'static str,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    log: PathBuf,
    port: u16,
    running: Option<Running>,
}

impl Process {
    /// Not started yet. `folder` takes its data and its log.
    pub fn new(binary: &'static str, services: &[&str], port: u16, folder: &Path) -> Self {
        let mut arguments = vec!["serve".to_owned()];
        arguments.extend(services.iter().map(|name| (*name).to_owned()));
        arguments.extend(["--listen".to_owned(), format!("127.0.0.1:{port}")]);
        arguments.extend(["--data-dir".to_owned(), folder.join("data").display().to_string()]);
        let log = folder.join(format!("{port}.log"));
        Self { binary, arguments, environment: BTreeMap::new(), log, port, running: None }
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts it, and does not wait.
    pub fn spawn(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let mut command = command(self.binary);
        command.args(&self.arguments).envs(&self.environment).stdout(log.try_clone().unwrap()).stderr(log);
        self.running = Some(Running::start(&mut command));
    }

    /// Waits until all its services serve.
    pub async fn serves(&mut self) {
        let channel = chassis::peers::channel("server", &self.url(), None).unwrap();
        let health = HealthClient::new(channel);
        let running = self.running.as_mut().unwrap();
        eventually("the process serves", || {
            let ended = running.0.try_wait().unwrap();
            assert!(ended.is_none(), "it ended with {ended:?}: {}", std::fs::read_to_string(&self.log).unwrap());
            let mut health = health.clone();
            async move {
                let request = HealthCheckRequest { service: String::new() };
                health.check(request).await.is_ok_and(|reply| reply.into_inner().status == 1)
            }
        })
        .await;
    }

    /// Starts it and waits until it serves.
    pub async fn start(&mut self) {
        self.spawn();
        self.serves().await;
    }

    /// SIGKILL: no word of farewell.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// SIGTERM, and how it ended.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.running.take().unwrap().terminate().await
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// The variable that names a service's database.
pub fn database_variable(service: &str) -> String {
    format!("CLIENTELE_{}__DATABASE_URL", service.to_uppercase())
}

/// Databases for processes: files of their own on SQLite, which need none named.
#[derive(Debug)]
pub struct Databases(BTreeMap<&'static str, TempDb>);

impl Databases {
    /// One for each service.
    pub async fn new(backend: Backend) -> Self {
        let mut databases = BTreeMap::new();
        if backend == Backend::Postgres {
            for name in SERVICES {
                databases.insert(name, TempDb::new(backend).await);
            }
        }
        Self(databases)
    }

    /// The variables that name them.
    pub fn variables(&self) -> impl Iterator<Item = (String, String)> {
        self.0.iter().map(|(name, database)| (database_variable(name), database.url().to_owned()))
    }
}

/// Every service in processes of its own, each with its own data.
#[derive(Debug)]
pub struct Split {
    /// The processes of each service: its replicas.
    pub processes: BTreeMap<&'static str, Vec<Process>>,
    /// Clients that reach each service by the name that its peers know: whichever replica is there.
    pub client: Client,
    // Last, so that they outlive the processes.
    _databases: Databases,
    _folder: TempDir,
}

impl Split {
    /// Starts all. `replicas` names services that have more than one; `environment` is for every process.
    pub async fn start(
        binary: &'static str,
        backend: Backend,
        replicas: &[(&str, usize)],
        environment: &[(&str, String)],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let databases = Databases::new(backend).await;
        let mut ports = BTreeMap::new();
        let mut urls = BTreeMap::new();
        for name in SERVICES {
            let count = replicas.iter().find(|(service, _)| *service == name).map_or(1, |(_, count)| *count);
            let own: Vec<u16> = (0..count).map(|_| free_port()).collect();
            let front = if count == 1 { own[0] } else { balance(own.clone()).await };
            urls.insert(name, format!("http://127.0.0.1:{front}"));
            ports.insert(name, own);
        }
        let process = |name: &'static str, port: u16| {
            // Each data folder is its service's own, as on machines of their own.
            let home = folder.path().join(name);
            std::fs::create_dir_all(&home).unwrap();
            let mut process = Process::new(binary, &[name], port, &home);
            for (variable, value) in databases.variables() {
                process = process.with(variable, value);
            }
            for (peer, url) in urls.iter().filter(|(peer, _)| **peer != name) {
                process = process.with(format!("CLIENTELE_PEERS__{}", peer.to_uppercase()), url);
            }
            for (variable, value) in environment {
                process = process.with(*variable, value);
            }
            process
        };
        let mut processes: BTreeMap<_, Vec<_>> = ports
            .iter()
            .map(|(name, ports)| (*name, ports.iter().map(|port| process(name, *port)).collect()))
            .collect();
        // All at once: in which order services come up must not matter.
        processes.values_mut().flatten().for_each(Process::spawn);
        for process in processes.values_mut().flatten() {
            process.serves().await;
        }
        let servers: Vec<_> = urls.iter().map(|(name, url)| format!("{name}={url}")).collect();
        let client = Client::new(&servers).unwrap();
        Self { processes, client, _databases: databases, _folder: folder }
    }

    /// A process of a service.
    pub fn process(&mut self, service: &str, replica: usize) -> &mut Process {
        &mut self.processes.get_mut(service).unwrap()[replica]
    }

    /// What all have logged.
    pub fn logs(&self) -> String {
        self.processes.values().flatten().map(Process::log).collect()
    }
}

/// One address for several processes on this machine: each connection goes to the next that is there.
async fn balance(ports: Vec<u16>) -> u16 {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let front = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut next = 0;
        while let Ok((mut caller, _)) = listener.accept().await {
            next += 1;
            for turn in 0..ports.len() {
                let port = ports[(next + turn) % ports.len()];
                if let Ok(mut replica) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
                    tokio::spawn(async move {
                        let _ = tokio::io::copy_bidirectional(&mut caller, &mut replica).await;
                    });
                    break;
                }
            }
        }
    });
    front
}
