//! Replicas of scoring as processes of their own, which can be killed: this very test program, told to serve. Their clock stands still and is moved
//! for all of them at once, so that days of silence pass in seconds.
use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use chassis::{
    Clock,
    testing::{TempDb, eventually},
};
use jiff::{SignedDuration, Timestamp};
use proptest::{
    prelude::RngExt,
    test_runner::{RngAlgorithm, TestRng},
};
use proto::scoring::v1::scoring_client::ScoringClient;

use crate::stand::{self, Client, FakeProfiles, id};

const FOLDER: &str = "CLIENTELE_REPLICA_FOLDER";
const DATABASE: &str = "CLIENTELE_REPLICA_DATABASE";
const NAME: &str = "CLIENTELE_REPLICA_NAME";
/// How soon a replica sees that the clock was moved: replicas differ by as much, as in real life.
const TICK: Duration = Duration::from_millis(2);
/// Customers that profiles knows, from 1 on.
pub(crate) const KNOWN: u128 = 6_000;

/// Not a test by itself: the processes that tests start and kill run this and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_when_told_to() {
    let told = |name: &str| {
        #[allow(clippy::disallowed_methods, reason = "a process is told its part by its environment")]
        std::env::var(name).ok()
    };
    let (Some(folder), Some(url), Some(name)) = (told(FOLDER), told(DATABASE), told(NAME)) else { return };
    // Whoever started it holds the other end: with them it ends, whatever happens to them.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
    let folder = PathBuf::from(folder);
    let clock = Clock::mock(read_time(&folder));
    tokio::spawn({
        let (clock, folder) = (clock.clone(), folder.clone());
        async move {
            loop {
                clock.set(read_time(&folder));
                tokio::time::sleep(TICK).await;
            }
        }
    });
    let profiles = FakeProfiles::default();
    profiles.know((1..=KNOWN).map(id));
    let config = scoring::Config { database_url: url.as_str().into(), ..scoring::Config::default() };
    let server = stand::start(&config, &clock, &profiles).await;
    write_whole(&folder.join(name), &server.url());
    std::future::pending().await
}

fn read_time(folder: &Path) -> Timestamp {
    fs::read_to_string(folder.join("now")).unwrap().parse().unwrap()
}

/// Writes a file that nobody sees half written.
fn write_whole(path: &Path, text: &str) {
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, text).unwrap();
    fs::rename(&unfinished, path).unwrap();
}

/// Randomness that can be had again: `CLIENTELE_TEST_SEED` takes the number that a failed test printed. When a process is hit is
/// still for the machine to say.
#[derive(Clone)]
pub(crate) struct Random(TestRng);

impl Random {
    /// Of another number in each run, unless it is given.
    pub(crate) fn seeded() -> Self {
        #[allow(clippy::disallowed_methods, reason = "a variable of the test suite")]
        let given = std::env::var("CLIENTELE_TEST_SEED").ok();
        let seed = given.map_or(std::process::id(), |seed| seed.parse().unwrap());
        println!("CLIENTELE_TEST_SEED={seed}");
        Self::of(seed)
    }

    fn of(seed: u32) -> Self {
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&seed.to_le_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    /// A sequence of its own for somebody else.
    pub(crate) fn branch(&mut self) -> Self {
        Self::of(self.0.random())
    }

    /// From 0 to `end`, without it.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0.random_range(0..end)
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A moment to wait for, up to so many milliseconds.
    pub(crate) fn moment(&mut self, most_ms: u64) -> Duration {
        Duration::from_micros(self.below(most_ms * 1_000))
    }
}

/// Two replicas on one database, either of which may be gone at any time.
#[derive(Clone)]
pub(crate) struct Replicas(Arc<Shared>);

struct Shared {
    folder: tempfile::TempDir,
    url: String,
    now: Mutex<Timestamp>,
    processes: [Mutex<Process>; 2],
}

#[derive(Default)]
struct Process {
    child: Option<Child>,
    /// How often it was started.
    generation: u32,
    /// While it serves.
    client: Option<Client>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Process {
    fn kill(&mut self) {
        self.client = None;
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Replicas {
    /// None runs yet.
    pub(crate) fn new(db: &TempDb, now: Timestamp) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_whole(&folder.path().join("now"), &now.to_string());
        Self(Arc::new(Shared { folder, url: db.url().into(), now: Mutex::new(now), processes: Default::default() }))
    }

    /// Starts one, and does not wait.
    pub(crate) fn spawn(&self, number: usize) {
        let mut process = self.0.processes[number].lock().unwrap();
        process.generation += 1;
        let name = format!("{number}-{}", process.generation);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "replica::serves_when_told_to", "--nocapture"])
            .env(FOLDER, self.0.folder.path())
            .env(DATABASE, &self.0.url)
            .env(NAME, &name)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(self.0.folder.path().join(format!("{name}.log"))).unwrap())
            .spawn()
            .unwrap();
        process.child = Some(child);
    }

    /// Starts one and waits until it serves.
    pub(crate) async fn start(&self, number: usize) {
        self.spawn(number);
        self.serves(number).await;
    }

    /// Waits until one serves.
    pub(crate) async fn serves(&self, number: usize) {
        let (folder, process) = (self.0.folder.path(), &self.0.processes[number]);
        let name = format!("{number}-{}", process.lock().unwrap().generation);
        let name = &name;
        eventually("the replica serves", || async move {
            let mut process = process.lock().unwrap();
            let ended = process.child.as_mut().unwrap().try_wait().unwrap();
            let log = || fs::read_to_string(folder.join(format!("{name}.log"))).unwrap();
            assert!(ended.is_none(), "replica {name} ended by itself: {ended:?} {}", log());
            let Ok(url) = fs::read_to_string(folder.join(name)) else { return false };
            let channel = chassis::peers::channel("server", &url, None).unwrap();
            let client = ScoringClient::new(channel).max_decoding_message_size(chassis::server::MAX_MESSAGE_BYTES);
            process.client = Some(client);
            true
        })
        .await;
    }

    /// SIGKILL: no word of farewell. It must not have ended by itself.
    pub(crate) fn kill(&self, number: usize) {
        let mut process = self.0.processes[number].lock().unwrap();
        let ended = process.child.as_mut().unwrap().try_wait().unwrap();
        let log = self.0.folder.path().join(format!("{number}-{}.log", process.generation));
        assert!(ended.is_none(), "replica {number} ended by itself: {ended:?} {}", fs::read_to_string(log).unwrap());
        process.kill();
    }

    /// A client of this one, while it serves.
    pub(crate) fn client(&self, number: usize) -> Option<Client> {
        self.0.processes[number].lock().unwrap().client.clone()
    }

    /// A client of either; waits while there is none.
    pub(crate) async fn either(&self, random: &mut Random) -> Client {
        let first = usize::from(random.chance(50));
        loop {
            if let Some(client) = self.client(first).or_else(|| self.client(1 - first)) {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What their clock reads.
    pub(crate) fn now(&self) -> Timestamp {
        *self.0.now.lock().unwrap()
    }

    /// Moves their clock.
    pub(crate) fn advance(&self, by: SignedDuration) {
        let mut now = self.0.now.lock().unwrap();
        *now = now.checked_add(by).unwrap();
        write_whole(&self.0.folder.path().join("now"), &now.to_string());
    }
}
