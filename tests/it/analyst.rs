//! What an analyst does: makes customers up or brings a file, fits, holds out, exports.
use std::{collections::BTreeMap, io::BufRead, path::Path, time::Duration};

use chassis::{db_tests, testing::Backend};
use clientele::client::request;
use e2e::{
    cdnow,
    program::{Databases, Process, free_port},
    world::World,
};
use proto::scoring::v1 as scoring;
use serde_json::Value;

use crate::{PROGRAM, terminal::told};

db_tests!(
    made_up_customers_are_imported_fitted_held_out_and_exported,
    the_invoices_of_a_shop_import_with_one_command_line,
);

/// The rows of a CSV file without quoted fields, by column.
fn table(path: &Path) -> Vec<BTreeMap<String, String>> {
    let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    let mut lines = file.lines().map(Result::unwrap);
    let header: Vec<String> = lines.next().unwrap().split(',').map(str::to_owned).collect();
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            assert_eq!(fields.len(), header.len(), "{line}");
            header.iter().cloned().zip(fields.into_iter().map(str::to_owned)).collect()
        })
        .collect()
}

/// An amount with two digits, in cents.
fn cents(amount: &str) -> i64 {
    let (whole, rest) = amount.split_once('.').unwrap();
    assert_eq!(rest.len(), 2, "{amount}");
    format!("{whole}{rest}").parse().unwrap()
}

async fn made_up_customers_are_imported_fitted_held_out_and_exported(backend: Backend) {
    let world = World::start(backend, cdnow::clock()).await;
    let server = world.server.url();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (file, scores, again) = (path("made-up.csv"), path("scores.csv"), path("again.csv"));
    // To the day before the services' own.
    told(&["generate", &file, "--customers", "2000", "--start", "1997-01-01", "--days", "545", "--seed", "7"]).await;
    let rows = table(Path::new(&file));
    let columns = ["--customer", "customer", "--time", "time", "--amount", "amount", "--id", "id"];
    let import = [&["import", "purchases", &file, "--json", "--server", &server][..], &columns].concat();
    let outcome: Value = serde_json::from_str(&told(&import).await).unwrap();
    assert_eq!(
        (outcome["recorded"].as_u64().unwrap(), outcome["customers"].as_u64()),
        (rows.len() as u64, Some(2_000))
    );

    // The parameters that went in come out, within their intervals.
    let fitted: Value = serde_json::from_str(&told(&["fit", "--json", "--server", &server]).await).unwrap();
    let mbg = &fitted["fit"]["models"][1];
    assert_eq!(mbg["kind"], "MODEL_KIND_MBG_NBD");
    for (parameter, put_in) in mbg["parameters"].as_array().unwrap().iter().zip([0.525, 6.183, 0.891, 1.614]) {
        let (value, error) = (parameter["value"].as_f64().unwrap(), parameter["standardError"].as_f64().unwrap());
        assert!((value - put_in).abs() < 4.0 * error, "{parameter} of {put_in}");
    }
    let models = told(&["models", "--server", &server]).await;
    for word in ["BG/NBD", "MBG/NBD", "Pareto/NBD", "Gamma-Gamma", "95 %", "starts that agree"] {
        assert!(models.contains(word), "{word}: {models}");
    }
    let held_out = told(&["holdout", "--until", "1997-09-30", "--server", &server]).await;
    for word in ["MBG/NBD", "RMSE", "top tenth", "1997-09-30"] {
        assert!(held_out.contains(word), "{word}: {held_out}");
    }
    told(&["rank", "--server", &server]).await;

    let export = |file: &str| -> Vec<String> {
        let words =
            ["export", "scores", file, "--identity", "import", "--as-of", "1998-06-30T13:00:00Z", "--server", &server];
        words.map(str::to_owned).to_vec()
    };
    let said = told(&export(&scores).iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert!(said.starts_with("2,000 customers as of 1998-06-30T13:00:00Z"), "{said}");
    let exported = table(Path::new(&scores));
    assert_eq!(exported.len(), 2_000);
    assert_eq!(
        exported.iter().map(|row| cents(&row["sales"])).sum::<i64>(),
        rows.iter().map(|row| cents(&row["amount"])).sum::<i64>()
    );
    let mut ids: Vec<u32> = exported.iter().map(|row| row["external_id"].parse().unwrap()).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(1..=2_000));
    for row in exported.iter().step_by(97) {
        let request_of_one = scoring::GetScoreRequest { customer_id: row["customer_id"].clone(), ..Default::default() };
        let score =
            world.client.scoring().get_score(request(request_of_one)).await.unwrap().into_inner().score.unwrap();
        let standing = score.standing.as_ref().unwrap();
        assert_eq!(format!("TIER_{}", row["tier"]), standing.tier().as_str_name());
        assert_eq!(format!("RELATIONSHIP_{}", row["relationship"]), standing.relationship().as_str_name());
        assert_eq!(cents(&row["lifetime_value"]), score.lifetime_value.unwrap().minor_units);
        assert_eq!(row["p_alive"], format!("{:.6}", score.p_alive));
    }
    // The same moment once more is the same file.
    told(&export(&again).iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert!(std::fs::read(&scores).unwrap() == std::fs::read(&again).unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "nothing half done lies about");
}

/// The file is not ours to ship; it is read where somebody put it.
const RETAIL: &str = "CLIENTELE_TEST_ONLINE_RETAIL";

/// How long the whole file may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(600);

async fn the_invoices_of_a_shop_import_with_one_command_line(backend: Backend) {
    #[allow(clippy::disallowed_methods, reason = "where a file lies is the machine's to say")]
    let Some(file) = std::env::var_os(RETAIL).map(|file| file.into_string().unwrap()) else {
        println!(
            "not run: the figures of Online Retail; {RETAIL} names no online_retail.csv.gz (UCI \"Online Retail\")"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let databases = Databases::new(backend).await;
    let mut process = Process::new(PROGRAM, &[], free_port(), folder.path()).with("CLIENTELE_SCORING__CURRENCY", "GBP");
    for (variable, value) in databases.variables() {
        process = process.with(variable, value);
    }
    process.start().await;
    let server = process.url();
    let rejects = folder.path().join("rejected.csv").display().to_string();
    let import = |skip: &str| -> Vec<String> {
        let words = [
            "import",
            "purchases",
            &file,
            "--customer",
            "CustomerID",
            "--time",
            "InvoiceDate",
            "--amount",
            "UnitPrice",
            "--quantity",
            "Quantity",
            "--id",
            "InvoiceNo",
            "--currency",
            "GBP",
            "--skip",
            skip,
            "--rejects",
            &rejects,
            "--json",
            "--server",
            &server,
        ];
        words.map(str::to_owned).to_vec()
    };
    let run = async |words: Vec<String>| -> Value {
        let output = tokio::time::timeout(PATIENCE, told(&words.iter().map(String::as_str).collect::<Vec<_>>())).await;
        serde_json::from_str(&output.unwrap()).unwrap()
    };
    let outcome = run(import("no-customer,returns,zero")).await;
    assert_eq!(outcome["rows"], 541_909);
    assert_eq!((outcome["recorded"].as_u64(), outcome["customers"].as_u64()), (Some(397_884), Some(4_338)));
    assert_eq!(outcome["skipped"], serde_json::json!({ "no_customer": 135_080, "returns": 8_905, "zero": 40 }));
    assert_eq!((outcome["rejected"].as_u64(), outcome["rounded"].as_u64()), (Some(0), Some(4)));

    // Without a model, by what was realised.
    let ranked = told(&["rank", "--server", &server]).await;
    assert!(ranked.contains("4,338 customers ranked") && ranked.contains("realised value alone"), "{ranked}");
    let pyramid: Value =
        serde_json::from_str(&told(&["pyramid", "--realised", "--json", "--server", &server]).await).unwrap();
    let tiers = pyramid["tiers"].as_array().unwrap();
    let shares: Vec<String> =
        tiers.iter().map(|tier| format!("{:.1}", tier["revenueShare"].as_f64().unwrap() * 100.0)).collect();
    assert_eq!(shares, ["32.0", "42.6", "17.6", "7.8"]);
    // 8,911,407.904 to the tenth of a penny; each line rounded to the penny, the roundings cancel but for 0.004.
    assert_eq!(tiers.iter().map(|tier| tier["revenue"]["minorUnits"].as_i64().unwrap()).sum::<i64>(), 891_140_790);
    let scores = folder.path().join("scores.csv");
    told(&["export", "scores", scores.to_str().unwrap(), "--server", &server]).await;
    let days: Vec<u32> = table(&scores).iter().map(|row| row["occasions"].parse().unwrap()).collect();
    let count = |from: u32, to: u32| days.iter().filter(|days| (from..=to).contains(days)).count();
    assert_eq!([count(1, 1), count(2, 3), count(4, u32::MAX)], [1_548, 1_375, 1_415]);

    // With returns and gifts, by the same ids: what was left out comes on top, and nothing twice.
    let outcome = run(import("no-customer")).await;
    assert_eq!((outcome["unchanged"].as_u64(), outcome["recorded"].as_u64()), (Some(397_884), Some(8_945)));
    assert_eq!((outcome["skipped"]["returns"].as_u64(), outcome["replaced"].as_u64()), (Some(0), Some(0)));
    assert_eq!(process.terminate().await.code(), Some(0), "{}", process.log());
}
