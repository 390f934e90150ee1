//! The page of charts in a real browser.
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use chassis::testing::Backend;
use e2e::{
    calls::{buy_on, customers, ensure},
    cdnow, program,
    world::World,
};
use jiff::SignedDuration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::PROGRAM;

/// The narrowest phone that is still sold, in CSS pixels.
const PHONE: u32 = 360;
/// What the page has, whatever the data.
const SECTIONS: [&str; 8] =
    ["pyramid", "concentration", "stages", "transitions", "tracking", "alive", "models", "segments"];
/// Charts of the sample: two pyramids, concentration, three of standings, three of moves, two of tracking, P(alive).
const CHARTS: usize = 12;
/// How long the customers have had to move.
const DAYS: i64 = 40;

/// Writes the page of the CDNOW sample and of the weeks after it, in which somebody new came and somebody bought again.
async fn page(folder: &Path) -> String {
    let world = World::start(Backend::Sqlite, cdnow::clock()).await;
    cdnow::load(&world.client).await;
    cdnow::fit_and_rank(&world.client).await;
    world.clock.advance(SignedDuration::from_hours(24 * DAYS));
    let known = customers(&world.client).await.swap_remove(0).customer_id;
    let new = ensure(&world.client, &["new"]).await.swap_remove(0);
    for id in [known, new] {
        buy_on(&world.client, "1998-08-01", &id, &id, 5_000).await;
    }
    let file = folder.join("report.html");
    let mut command = program::command(PROGRAM);
    command.args(["report", file.to_str().unwrap(), "--title", "CDNOW & <b>friends</b>", "--until", "1997-09-30"]);
    command.args(["--server", &world.server.url()]);
    let output = program::output(command).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read_to_string(file).unwrap()
}

/// A browser on this machine, by the names that systems give it.
fn browser() -> Option<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "where programs lie is the machine's to say")]
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name))).find(|file| file.is_file())
}

/// Looks at the page in a frame as wide as a phone, and writes what it sees where `--dump-dom` shows it.
const LOOK: &str = r#"<!doctype html><html><head><title>look</title><link rel="icon" href="data:,"></head><body>
<iframe id="f" src="report.html" style="border:0;width:WIDTHpx;height:800px"></iframe><pre id="seen"></pre>
<script>
document.getElementById("f").addEventListener("load", () => {
  const page = document.getElementById("f").contentDocument;
  const charts = [...page.querySelectorAll("svg[role=img]")];
  const outside = () => charts.filter(c => [...c.querySelectorAll("text")].some(text => {
    const [box, of] = [text.getBoundingClientRect(), c.getBoundingClientRect()];
    return box.left < of.left - 1 || box.right > of.right + 1 || box.top < of.top - 1 || box.bottom > of.bottom + 1;
  })).map(c => c.getAttribute("aria-label"));
  // Every system has fonts of its own: none takes more room than the monospaced ones.
  const wideFont = seen => {
    charts.forEach(c => c.querySelectorAll("text").forEach(text => text.setAttribute("font-family", "monospace")));
    return seen();
  };
  document.getElementById("seen").textContent = "SEEN" + JSON.stringify({
    title: page.title,
    sections: [...page.querySelectorAll("section")].map(section => section.id),
    charts: charts.length,
    blank: charts.filter(chart => chart.getBoundingClientRect().width < 200 || chart.children.length < 5).length,
    unnamed: charts.filter(chart => !chart.getAttribute("aria-label")).length,
    wide: page.documentElement.scrollWidth,
    bold: page.querySelectorAll("b").length,
    text: Math.min(...charts.flatMap(c => [...c.querySelectorAll("text")].map(text => {
      const box = text.getBoundingClientRect();
      return text.hasAttribute("transform") ? box.width : box.height;
    }))),
    outside: outside(),
    outsideInWideFont: wideFont(outside),
  }) + "END";
});
</script></body></html>"#;

/// Serves the two pages, and nothing else.
async fn serve(report: String) -> String {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/look.html", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut caller, _)) = listener.accept().await {
            let mut head = vec![0; 8_192];
            let length = caller.read(&mut head).await.unwrap_or(0);
            let asked = String::from_utf8_lossy(&head[..length]).into_owned();
            let body = if asked.starts_with("GET /report.html ") {
                report.clone()
            } else {
                LOOK.replace("WIDTH", &PHONE.to_string())
            };
            let reply = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = caller.write_all(reply.as_bytes()).await;
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_is_one_page_that_a_phone_shows_without_scrolling_sideways() {
    let folder = tempfile::tempdir().unwrap();
    let html = page(folder.path()).await;
    // One file: it asks nobody for anything, and nothing in it runs.
    for word in ["<script", "<link rel=\"stylesheet", "@import", "url(", "<iframe", " src="] {
        assert!(!html.contains(word), "{word}");
    }
    let addresses = html.matches("http").count();
    assert_eq!(addresses, html.matches("http://www.w3.org/2000/svg").count() + html.matches("http-equiv").count());
    for section in SECTIONS {
        assert!(html.contains(&format!("<section id=\"{section}\">")), "{section}");
    }
    assert!(html.contains("-9595.0") || html.contains("Pareto/NBD"), "the models stand in the table");
    assert_eq!(html.matches("role=\"img\"").count(), CHARTS);
    assert!(!html.contains("NaN") && !html.contains(">inf"));
    // Every stage is in the funnel, also where nobody is in it, and the moves are those since the day after the first record.
    let section =
        |id: &str| html.split_once(&format!("<section id=\"{id}\">")).unwrap().1.split("</section>").next().unwrap();
    let funnel = section("stages").split("</svg>").next().unwrap();
    for stage in ["acquisition", "growth", "maturity", "decline", "departure"] {
        assert!(funnel.contains(stage), "{stage}: {funnel}");
    }
    let moves = section("transitions");
    assert!(moves.contains("From Wed 1998-07-01 00:00 UTC") && moves.contains("none yet"), "{moves}");
    assert!(moves.contains("<td>repeat</td>") && moves.contains("<td>important</td>"), "{moves}");

    let Some(browser) = browser() else {
        println!("not run: the report in a browser; there is no chromium on the PATH");
        return;
    };
    let url = serve(html).await;
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]);
    command.args(["--enable-logging=stderr", "--virtual-time-budget=10000", "--window-size=800,900", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", folder.path().join("browser").display())).arg(&url).stdin(Stdio::null());
    let output = program::output(command).await;
    let (seen, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let json = seen.split_once("SEEN").and_then(|(_, rest)| rest.split_once("END"));
    let json = json.unwrap_or_else(|| panic!("the browser saw nothing: {seen} {log}")).0.replace("&amp;", "&");
    let seen: serde_json::Value = serde_json::from_str(&json.replace("&lt;", "<").replace("&gt;", ">")).unwrap();
    assert_eq!(seen["title"], "CDNOW & <b>friends</b>");
    assert_eq!(seen["sections"], serde_json::json!(SECTIONS));
    assert_eq!((seen["charts"].as_u64(), seen["blank"].as_u64()), (Some(CHARTS as u64), Some(0)), "{seen}");
    assert_eq!((seen["unnamed"].as_u64(), seen["bold"].as_u64()), (Some(0), Some(0)), "{seen}");
    assert!(seen["wide"].as_u64().unwrap() <= u64::from(PHONE), "it scrolls sideways: {seen}");
    assert!(seen["text"].as_f64().unwrap() >= 9.0, "text too small to read: {seen}");
    for cut_off in ["outside", "outsideInWideFont"] {
        assert_eq!(seen[cut_off], serde_json::json!([]), "text that is cut off: {seen}");
    }
    assert!(!log.contains("CONSOLE"), "the browser complains: {log}");
}
