//! Scores that go out: broken off and gone on with.
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chassis::testing::{Backend, eventually};
use e2e::{
    calls::{buy, customers},
    cdnow,
    program::{self, Running},
    world::World,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    PROGRAM,
    terminal::{At, run},
};

/// An address before the server that lets no answer through from when a file is there, until it is opened again.
async fn gate(server: String, file: PathBuf, open: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((caller, _)) = listener.accept().await {
            let server = TcpStream::connect(server.trim_start_matches("http://")).await.unwrap();
            let ((mut from_caller, mut to_caller), (mut from_server, mut to_server)) =
                (caller.into_split(), server.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut from_caller, &mut to_server).await });
            let (file, open) = (file.clone(), open.clone());
            tokio::spawn(async move {
                let mut bytes = vec![0; 65_536];
                while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
                    if file.exists() && !open.load(Ordering::Relaxed) {
                        std::future::pending::<()>().await;
                    }
                    if to_caller.write_all(&bytes[..count]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    url
}

fn exists(path: &Path) -> impl Future<Output = bool> {
    std::future::ready(path.exists())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_is_killed_is_gone_on_with_as_of_the_same_moment() {
    let world = World::start(Backend::Sqlite, cdnow::clock()).await;
    cdnow::load(&world.client).await;
    cdnow::fit_and_rank(&world.client).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (file, part, note) = (path("scores.csv"), path("scores.csv.part"), path("scores.csv.part.json"));
    std::fs::write(&file, "the one before").unwrap();
    let open = Arc::new(AtomicBool::new(false));
    let at = At(gate(world.server.url(), note.clone(), open.clone()).await);

    let mut command = program::command(PROGRAM);
    command.args(["export", "scores", file.to_str().unwrap(), "--server", &at.0]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut exporter = Running::start(&mut command);
    eventually("the first page is written", || exists(&note)).await;
    exporter.kill();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "the one before", "nobody ever reads half a file");
    let begun = std::fs::read(&part).unwrap();
    assert_eq!(begun.iter().filter(|byte| **byte == b'\n').count(), 1_001);

    // It goes on, an hour later and with a new purchase behind, as of when it began.
    open.store(true, Ordering::Relaxed);
    world.clock.advance(jiff::SignedDuration::from_hours(1));
    let last = customers(&world.client).await.into_iter().map(|customer| customer.customer_id).max().unwrap();
    buy(&world.client, &last, "late", 100_000).await;
    let export = format!("export scores {}", file.display());
    let said = at.told(&export, &[]).await;
    assert!(said.starts_with("2,357 customers as of 1998-06-30T14:00:00Z"), "{said}");
    assert!(said.contains("1,000 of them had been written before it broke off"), "{said}");
    assert!(!part.exists() && !note.exists());
    let whole = std::fs::read(&file).unwrap();
    assert!(whole.starts_with(&begun));
    let other = path("whole.csv");
    at.told(&format!("export scores {} --as-of 1998-06-30T14:00:00Z", other.display()), &[]).await;
    assert!(whole == std::fs::read(&other).unwrap(), "the same as in one go");

    // What does not fit any more begins anew: other models, and another question.
    let break_off = || {
        std::fs::write(&part, &begun).unwrap();
        let token = "nonsense";
        let reached =
            serde_json::json!({ "page_token": token, "customers": 1_000, "bytes": begun.len(), "model_id": "" });
        let asked = serde_json::json!({ "server": [&at.0], "as_of": "1998-06-29", "identity": null });
        let note_of = serde_json::json!({ "asked": asked, "reached": reached, "saved_us": 0 });
        std::fs::write(&note, note_of.to_string()).unwrap();
    };
    break_off();
    let said = at.told(&format!("{export} --as-of 1998-06-29"), &[]).await;
    assert!(said.contains("did not fit any more") && said.starts_with("2,357 customers"), "{said}");
    break_off();
    let json = at.json(&format!("{export} --as-of 1998-06-29 --anew"), &[]).await;
    assert_eq!((&json["customers"], &json["before"]), (&2_357.into(), &0.into()), "{json}");
    break_off();
    let json = at.json(&format!("{export} --as-of 1998-06-29 --identity cdnow"), &[]).await;
    assert_eq!((&json["customers"], &json["before"]), (&2_357.into(), &0.into()), "{json}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.lines().next().unwrap().ends_with(",external_id") && text.lines().count() == 2_358);
    // Written all the same, and not without a word.
    let line = format!("{export} --as-of 1998-06-29 --identity nosuch --server {}", at.0);
    let output = run(&line.split(' ').collect::<Vec<_>>()).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && errors.contains("nobody is known in a system \"nosuch\""), "{errors}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing half done lies about");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_cannot_be_written_or_asked_for_says_so() {
    let world = World::start(Backend::Sqlite, cdnow::clock()).await;
    let at = At(world.server.url());
    let wrong = at.refused("export scores nowhere/scores.csv", &[]).await;
    assert!(wrong.contains("cannot write nowhere/scores.csv.part"), "{wrong}");
    let wrong = at.refused("export scores - --as-of yesterday", &[]).await;
    assert!(wrong.contains("--as-of yesterday: is not a moment such as 1998-06-30T12:00:00Z"), "{wrong}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scores.csv");
    let wrong = at.refused(&format!("export scores {} --as-of 2030-01-01", file.display()), &[]).await;
    assert!(wrong.contains("as_of") && wrong.contains("future"), "{wrong}");
    assert!(!wrong.contains("go on"), "there is nothing to go on with: {wrong}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    // Nobody is there yet: a header alone, and no error.
    assert_eq!(at.told("export scores -", &[]).await.lines().count(), 1);
    let locked = std::fs::File::create(folder.path().join("scores.csv.part")).unwrap();
    locked.lock().unwrap();
    let wrong = at.refused(&format!("export scores {}", file.display()), &[]).await;
    assert!(wrong.contains("another export is writing"), "{wrong}");
    drop(locked);
    // A busy machine has its pauses; the second run waits for nobody.
    tokio::time::timeout(Duration::from_secs(60), at.told(&format!("export scores {}", file.display()), &[]))
        .await
        .unwrap();
}
