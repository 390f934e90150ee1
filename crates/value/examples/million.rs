//! A million made-up customers: what fitting and valuing them costs, in seconds of processor time of one thread.
//!
//! ```sh
//! cargo run --release -p value --example million                              # a million
//! cargo run --release -p value --example million -- --customers 50000 --out summaries.csv
//! cargo run --release -p value --example million -- --from summaries.csv      # any others, times in weeks
//! ```

use std::{
    error::Error,
    fs::File,
    io::{BufWriter, Write},
};

use value::{
    BgNbd, Fit, GammaGamma, History, Independence, MbgNbd, Model, Occasion, Parameters, ParetoNbd, Spend, Summary,
    Valuer, choose, clv,
    generate::{Plan, Population},
};

/// The horizon of expected occasions, in weeks.
const WEEKS: f64 = 39.0;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut customers, mut from, mut out) = (1_000_000, None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or("every option takes a value")?;
        match argument.as_str() {
            "--customers" => customers = value.parse()?,
            "--from" => from = Some(value),
            "--out" => out = Some(value),
            _ => return Err(format!("{argument} is none of --customers, --from, --out").into()),
        }
    }
    let customers = match from {
        Some(path) => read(&path)?,
        None => timed("generate and summarise", || make(customers))?,
    };
    if let Some(path) = out {
        write(&path, &customers)?;
    }

    let histories = || customers.iter().map(|(history, _)| (*history, 1));
    let bg = timed("fit BG/NBD", || BgNbd::fit(histories()))?.map(Model::from);
    print(&bg);
    let mbg = timed("fit MBG/NBD", || MbgNbd::fit(histories()))?.map(Model::from);
    print(&mbg);
    let pareto = timed("fit Pareto/NBD", || ParetoNbd::fit(histories()))?.map(Model::from);
    print(&pareto);
    let spends = || customers.iter().map(|(_, spend)| (*spend, 1));
    let spend = timed("fit Gamma-Gamma", || GammaGamma::fit(spends()))?;
    print(&spend);
    let independence = Independence::of(spends());
    println!(
        "           correlation of frequency and spend {:?}: {:?}",
        independence.correlation, independence.verdict
    );
    println!("           of the buying models, {} is chosen", choose([bg, mbg, pareto])?.model.name());

    for (model, months) in [(bg.model, 12), (bg.model, 36), (mbg.model, 12), (pareto.model, 12)] {
        let terms = clv::Terms::new(months, 0.01, 1.0)?;
        let what = format!("{}: P(alive), E[X({WEEKS})] and CLV over {months} months of all", model.name());
        let (alive, occasions, worth) = timed(&what, || {
            let valuer = Valuer::new(model, spend.model, terms, WEEKS);
            customers.iter().fold((0.0, 0.0, 0.0), |(alive, occasions, worth), (history, spend)| {
                let found = valuer.value(history, spend);
                (alive + found.p_alive, occasions + found.expected_occasions, worth + found.lifetime_value)
            })
        });
        println!("           {alive:.3} alive, {occasions:.3} occasions, worth {worth:.2}");
    }
    Ok(())
}

/// CDNOW's customers, but all of two years' standing or one, as they come in the first year.
fn make(customers: u64) -> Result<Vec<(Summary, Spend)>, value::Error> {
    let truth = BgNbd::new(Parameters { r: 0.243, alpha: 4.414, a: 0.793, b: 2.426 })?;
    let plan = Plan { customers, arrival_days: 365, days: 2 * 365, seed: 1 };
    let population = Population::new(truth, GammaGamma::new(6.25, 3.74, 15.44)?, plan)?;
    let mut made = Vec::new();
    for number in 0..customers {
        made.extend(History::new(population.customer(number).map(Occasion::from))?.summary(2 * 365 - 1));
    }
    Ok(made)
}

const HEADER: &str = "frequency,recency,T,monetary_value";

fn write(path: &str, customers: &[(Summary, Spend)]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "{HEADER}")?;
    for (history, spend) in customers {
        writeln!(file, "{},{},{},{}", history.x(), history.t_x(), history.t(), spend.mean())?;
    }
    file.flush()
}

fn read(path: &str) -> Result<Vec<(Summary, Spend)>, Box<dyn Error>> {
    let text = std::fs::read_to_string(path)?;
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Err(format!("the first line of {path} must be {HEADER}").into());
    }
    let mut customers = Vec::new();
    for line in lines {
        let [x, last, now, mean] = line.split(',').collect::<Vec<_>>()[..] else {
            return Err(format!("{line} has not four columns").into());
        };
        let (x, mean): (f64, f64) = (x.parse()?, mean.parse()?);
        let spend = if x > 0.0 && mean > 0.0 { Spend::new(x as u32, mean)? } else { Spend::NONE };
        customers.push((Summary::new(x as u32, last.parse()?, now.parse()?)?, spend));
    }
    Ok(customers)
}

fn print<M>(fit: &Fit<M>) {
    for estimate in fit.estimates() {
        let error = estimate.standard_error().map_or("unknown".to_owned(), |error| format!("{error:.6}"));
        println!("           {:5} {:.6}, standard error {error}", estimate.name(), estimate.value());
    }
    println!(
        "           log-likelihood {:.9} per customer; {} of {} starts agree, {} iterations over all",
        fit.log_likelihood / fit.customers as f64,
        fit.agreeing,
        fit.starts,
        fit.iterations,
    );
}

/// Runs it and prints what it took.
fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let before = cpu_seconds();
    let result = run();
    println!("{:8.3} s  {what}", cpu_seconds() - before);
    result
}

/// Processor time of this thread, from Linux; elsewhere the time on the wall.
fn cpu_seconds() -> f64 {
    let nanoseconds = std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    #[allow(clippy::disallowed_methods)] // It measures.
    nanoseconds.map_or_else(
        || std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |wall| wall.as_secs_f64()),
        |ns| ns / 1e9,
    )
}
