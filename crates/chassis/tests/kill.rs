//! Publisher and followers as processes of their own, killed at random moments under load, many times: in the end the projection equals the
//! source exactly, nothing that was acknowledged is lost, and nothing ever came out of order.
//!
//! `CLIENTELE_TEST_KILLS` sets how often (default 20 on each database).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "roles are handed to the processes by their environment")]
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use chassis::{
    Context, Db,
    clock::Clock,
    feed,
    peers::Peers,
    server::{self, Config},
    testing::{Backend, TempDb, eventually, noon},
};
use jiff::SignedDuration;
use uuid::Uuid;

mod support;
use support::{Dice, Fake, bump, connect, contents, dawdle, ids, number, project};

chassis::db_tests!(whoever_is_killed_whenever_the_projection_equals_the_source);

const ROLE: &str = "CLIENTELE_KILL_ROLE";
/// More than one page of a snapshot, so that some are broken off.
const CUSTOMERS: usize = 1_200;
/// Those whose state changes: few, so that each changes often.
const BUSY: usize = 60;

/// What a process is told.
struct Part {
    role: String,
    source: String,
    target: String,
    folder: PathBuf,
    /// How often this role was started before.
    generation: u64,
}

impl Part {
    fn given() -> Option<Self> {
        let get = |name: &str| std::env::var(name).unwrap();
        let role = std::env::var(ROLE).ok()?;
        let (source, target) = (get("CLIENTELE_KILL_SOURCE"), get("CLIENTELE_KILL_TARGET"));
        let folder = get("CLIENTELE_KILL_FOLDER").into();
        Some(Self { role, source, target, folder, generation: get("CLIENTELE_KILL_GENERATION").parse().unwrap() })
    }
}

/// Not a test by itself: the processes that the test below starts and kills run this and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plays_its_part_when_given_one() {
    let Some(part) = Part::given() else { return };
    // Whoever started it holds the other end: with them it ends, whatever happens to them.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
    match part.role.as_str() {
        "publisher" => publish(part).await,
        _ => follow(part).await,
    }
}

/// Serves the feed at an address of its own, writes as fast as it can and says what was acknowledged, until told to be quiet.
async fn publish(part: Part) {
    let context = Context::new(Clock::system(), Peers::default());
    let db = support::connect_at(&part.source, &context.clock).await;
    let config = Config::default();
    let listener = server::bind("127.0.0.1:0".parse().unwrap(), &config).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = Fake::watching(db.clone(), context.shutdown.clone()).service();
    let serving = tokio::spawn(server::serve(listener, config, context, vec![service], std::future::pending()));
    std::fs::write(part.folder.join("address.new"), url).unwrap();
    std::fs::rename(part.folder.join("address.new"), part.folder.join("address")).unwrap();

    let busy: Arc<Vec<Uuid>> = Arc::new(ids(CUSTOMERS).into_iter().step_by(CUSTOMERS / BUSY).collect());
    let quiet = part.folder.join("quiet");
    let writers: Vec<_> = (0..6)
        .map(|writer| {
            let (db, busy, quiet) = (db.clone(), Arc::clone(&busy), quiet.clone());
            tokio::spawn(async move {
                let mut dice = Dice::new(part.generation * 100 + writer + 1);
                while !quiet.exists() {
                    write(&db, &busy, &mut dice).await;
                }
            })
        })
        .collect();
    // Now and then changes are kept so briefly that a follower which was down must start again with a snapshot.
    while part.generation % 4 == 3 && !quiet.exists() {
        feed::trim(&db, Duration::from_millis(500)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    println!("quiet");
    serving.await.unwrap().unwrap();
}

async fn write(db: &Db, busy: &[Uuid], dice: &mut Dice) {
    let mut batch: Vec<Uuid> = (0..=dice.roll(3)).map(|_| *dice.pick(busy)).collect();
    batch.sort_unstable();
    batch.dedup();
    let (before, after) = (dice.roll(20), dice.roll(20));
    let state = i64::try_from(dice.roll(1_000_000)).unwrap();
    let written = &batch;
    // No error may reach a writer: nothing but its own process is ever killed.
    let revisions = db
        .run_tx("write", |tx| {
            Box::pin(async move {
                dawdle(before).await;
                let revisions = support::bump_in(tx, written, state).await?;
                dawdle(after).await;
                Ok::<_, chassis::Error>(revisions)
            })
        })
        .await
        .unwrap();
    for (id, revision) in batch.iter().zip(revisions) {
        println!("ack {id} {revision}");
    }
    // Not to outrun the followers for ever, which share two cores with everything else.
    tokio::time::sleep(Duration::from_micros(500 + dice.roll(3_000))).await;
}

async fn follow(part: Part) {
    // Each generation's clock is an hour later, so that the lease of the one that was killed is over; the two replicas' clocks disagree,
    // so that they also take the lease from each other while both live.
    let hours = i64::try_from(part.generation).unwrap() + 1;
    let clock = Clock::starting_at(noon() + SignedDuration::from_hours(hours));
    let db = support::connect_at(&part.target, &clock).await;
    let context = Context::new(clock, Peers::default());
    let address = move || std::fs::read_to_string(part.folder.join("address")).ok();
    support::follow_scores(context, db, address, |tx, changes| project(tx, changes)).await;
}

/// The highest revision of each customer that was acknowledged, and whether the writers are done.
#[derive(Default)]
struct Heard {
    revisions: BTreeMap<Uuid, i64>,
    acknowledged: u64,
    quiet: bool,
}

struct Process {
    role: &'static str,
    generation: u64,
    child: Child,
}

impl Process {
    fn start(role: &'static str, generation: u64, play: &Play, heard: &Arc<Mutex<Heard>>) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "plays_its_part_when_given_one", "--nocapture"])
            .env(ROLE, role)
            .env("CLIENTELE_KILL_SOURCE", play.source.url())
            .env("CLIENTELE_KILL_TARGET", play.target.url())
            .env("CLIENTELE_KILL_FOLDER", play.folder.path())
            .env("CLIENTELE_KILL_GENERATION", generation.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, heard) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(heard));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut heard = heard.lock().unwrap();
                let words: Vec<&str> = line.split(' ').collect();
                if let ["ack", id, revision] = words[..]
                    && let (Ok(id), Ok(revision)) = (id.parse(), revision.parse::<i64>())
                {
                    heard.acknowledged += 1;
                    let highest = heard.revisions.entry(id).or_default();
                    *highest = revision.max(*highest);
                }
                heard.quiet |= line == "quiet";
            }
        });
        Self { role, generation, child }
    }

    /// SIGKILL. It must not have ended by itself.
    fn kill(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "{} {} ended by itself: {ended:?}", self.role, self.generation);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Play {
    source: TempDb,
    target: TempDb,
    folder: tempfile::TempDir,
}

async fn whoever_is_killed_whenever_the_projection_equals_the_source(backend: Backend) {
    let kills: u64 = std::env::var("CLIENTELE_TEST_KILLS").map_or(20, |kills| kills.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let play = Play { source: TempDb::new(backend).await, target: TempDb::new(backend).await, folder };
    let (source, target) = (connect(play.source.url()).await, connect(play.target.url()).await);
    for chunk in ids(CUSTOMERS).chunks(100) {
        bump(&source, chunk, 0).await.unwrap();
    }
    let heard = Arc::new(Mutex::new(Heard::default()));
    let mut processes: Vec<Process> = [("publisher", 0), ("follower", 0), ("other follower", 5)]
        .into_iter()
        .map(|(role, generation)| Process::start(role, generation, &play, &heard))
        .collect();

    let mut dice = Dice::new(u64::from(std::process::id()));
    let applied = "SELECT CAST(COALESCE(SUM(revision), 0) AS BIGINT) FROM projection";
    for kill in 0..kills {
        // Wherever everybody stands then: after few or many writes, and now and then after something was applied.
        let enough = heard.lock().unwrap().acknowledged + 1 + dice.roll(120);
        let heard_of = &heard;
        eventually("more was written", || async move { heard_of.lock().unwrap().acknowledged >= enough }).await;
        if kill % 3 == 0 {
            let (before, target) = (number(target.read(), applied).await, &target);
            eventually("something was applied", || async move { number(target.read(), applied).await > before }).await;
        }
        let chosen = usize::try_from(dice.roll(3)).unwrap();
        let process = &mut processes[chosen];
        process.kill();
        *process = Process::start(process.role, process.generation + 1, &play, &heard);
    }

    std::fs::write(play.folder.path().join("quiet"), "").unwrap();
    let heard_of = &heard;
    eventually("the writers are done", || async move { heard_of.lock().unwrap().quiet }).await;
    let (from, to) = (&source, &target);
    eventually("the projection equals the source", || async move {
        contents(from.read(), "customer").await == contents(to.read(), "projection").await
    })
    .await;
    for process in &mut processes {
        process.kill();
    }
    let written = contents(source.read(), "customer").await;
    let anomalies = number(target.read(), "SELECT COUNT(*) FROM anomaly").await;
    assert_eq!(anomalies, 0, "gaps, doubles or regressions");
    let heard = heard.lock().unwrap();
    assert!(heard.acknowledged > kills && written.len() == CUSTOMERS);
    for (id, revision) in &heard.revisions {
        assert!(written[id].0 >= *revision, "{id}: {revision} was acknowledged, {} is there", written[id].0);
    }
    println!("{backend:?}: {kills} kills, {} changes acknowledged", heard.acknowledged);
}
