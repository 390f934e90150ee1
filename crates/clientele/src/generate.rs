//! `generate`: made-up customers who buy till they leave, as a file that `import purchases` takes. The same flags with the
//! same first day give the same file.
use std::{io::Write, path::PathBuf};

use chassis::Clock;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::{Span, civil, tz::TimeZone};
use proto::common::v1::Money;
use value::{
    BgNbd, GammaGamma, MbgNbd, Model, Parameters, ParetoNbd,
    generate::{Plan, Population, Purchase},
};

use crate::{
    cli::shows_progress,
    client::{Error, Result},
    commands,
    output::Output,
    view,
};

/// Rows between two looks at the progress bar: a fraction of a second.
const STEP: u64 = 50_000;

/// Flags of `generate`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The file to write; - writes to standard output
    file: PathBuf,
    /// Replace a file that is there already
    #[arg(long)]
    force: bool,
    /// How many customers
    #[arg(long, default_value_t = 2_357, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    customers: u64,
    /// Another seed, other customers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// First purchases are spread over so many days
    #[arg(long, default_value_t = 84, value_name = "DAYS")]
    arrival_days: u32,
    /// Days in all
    #[arg(long, default_value_t = 546)]
    days: u32,
    /// The first day; left out, the one from which the last day is yesterday
    #[arg(long, value_name = "DATE", value_parser = commands::civil_date)]
    start: Option<civil::Date>,
    /// Who buys how often and for how long
    #[arg(long, default_value = "mbg-nbd")]
    model: Kind,
    /// The model's parameters, time in weeks: r,alpha,a,b or for pareto-nbd r,alpha,s,beta; left out, those of the CDNOW sample
    #[arg(long, value_name = "P,P,P,P", value_parser = numbers::<4>)]
    parameters: Option<Numbers<4>>,
    /// Gamma-Gamma parameters p,q,gamma of what is paid, in major units; left out, those of the CDNOW sample
    #[arg(long, value_name = "P,Q,GAMMA", value_parser = numbers::<3>)]
    spend: Option<Numbers<3>>,
    /// ISO 4217 code of the amounts, which settles their digits
    #[arg(long, default_value = "USD", value_name = "C", value_parser = commands::currency)]
    currency: String,
}

/// A model of buying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// May leave after a repeat purchase (Fader, Hardie & Lee 2005)
    BgNbd,
    /// May leave after any purchase (Batislam et al. 2007)
    MbgNbd,
    /// May leave at any time (Schmittlein et al. 1987)
    ParetoNbd,
}

impl Kind {
    /// The parameters of the CDNOW sample, as the papers print them.
    fn cdnow(self) -> Numbers<4> {
        match self {
            Self::BgNbd => Numbers([0.243, 4.414, 0.793, 2.426]),
            Self::MbgNbd => Numbers([0.525, 6.183, 0.891, 1.614]),
            Self::ParetoNbd => Numbers([0.553, 10.578, 0.606, 11.669]),
        }
    }

    fn model(self, Numbers([r, alpha, third, fourth]): Numbers<4>) -> std::result::Result<Model, value::Error> {
        let parameters = Parameters { r, alpha, a: third, b: fourth };
        Ok(match self {
            Self::BgNbd => BgNbd::new(parameters)?.into(),
            Self::MbgNbd => MbgNbd::new(parameters)?.into(),
            Self::ParetoNbd => ParetoNbd::new(r, alpha, third, fourth)?.into(),
        })
    }
}

/// So many numbers in a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Numbers<const N: usize>([f64; N]);

/// What is paid on the CDNOW sample (Fader & Hardie 2013).
const CDNOW_SPEND: Numbers<3> = Numbers([6.25, 3.74, 15.44]);

fn numbers<const N: usize>(text: &str) -> std::result::Result<Numbers<N>, String> {
    let parsed: std::result::Result<Vec<f64>, _> = text.split(',').map(|number| number.trim().parse()).collect();
    let all = parsed.ok().and_then(|numbers| <[f64; N]>::try_from(numbers).ok());
    all.map(Numbers).ok_or_else(|| format!("must be {N} numbers such as 0.5,6.2, parted by commas"))
}

/// Customers like those of the CDNOW sample.
///
/// # Errors
/// A plan out of its ranges.
pub fn like_cdnow(plan: Plan) -> Result<Population> {
    population(Kind::MbgNbd, Kind::MbgNbd.cdnow(), CDNOW_SPEND, plan)
}

fn population(
    kind: Kind,
    parameters: Numbers<4>,
    Numbers([p, q, gamma]): Numbers<3>,
    plan: Plan,
) -> Result<Population> {
    let make = || Population::new(kind.model(parameters)?, GammaGamma::new(p, q, gamma)?, plan);
    make().map_err(|error| Error::new(error.to_string()))
}

/// The first day: as given, or so that the last one is yesterday by `clock`. A service takes no purchases that are still to come, and today's may be.
fn first_day(start: Option<civil::Date>, days: u32, clock: &Clock) -> Result<civil::Date> {
    let beyond = || Error::new(format!("--days {days}: more than the calendar has"));
    let yesterday = clock.now().to_zoned(TimeZone::UTC).date().yesterday().map_err(|_| beyond())?;
    let until_last = Span::new().try_days(i64::from(days) - 1).map_err(|_| beyond())?;
    let latest = yesterday.checked_sub(until_last).map_err(|_| beyond())?;
    match start {
        None => Ok(latest),
        Some(start) if start <= latest => Ok(start),
        Some(start) => Err(Error::new(format!(
            "--start {start}: the last of {days} days would not be over yet, and no service takes purchases that are still to come; with so \
             many --days, start on {latest} at the latest, or leave it out"
        ))),
    }
}

/// `generate`.
///
/// # Errors
/// Parameters out of their ranges; days that are still to come; a file that cannot be written.
pub fn run(args: &Args, clock: &Clock) -> Result<()> {
    let parameters = args.parameters.unwrap_or(args.model.cdnow());
    let Args { customers, arrival_days, days, seed, .. } = *args;
    let plan = Plan { customers, arrival_days, days, seed };
    let population = population(args.model, parameters, args.spend.unwrap_or(CDNOW_SPEND), plan)?;
    let start = first_day(args.start, days, clock)?;
    if args.file.is_file() && !args.force {
        return Err(Error::new(format!(
            "{} is there already; name another file, or --force to replace it",
            args.file.display()
        )));
    }
    let mut output = Output::create(&args.file)?;
    let bar = ProgressBar::new(customers);
    if let Ok(style) = ProgressStyle::with_template("  making up {bar:30} {percent:>3} % of the customers, {eta} left")
    {
        bar.set_style(style);
    }
    if !shows_progress() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let rows = write(&population, start, &args.currency, &mut output, &bar)?;
    bar.finish_and_clear();
    let to_stdout = output.is_stdout();
    output.finish()?;
    if !to_stdout {
        let file = args.file.display();
        view::line(format!(
            "{} of {}. Import them: clientele import purchases {file} --customer customer --time time \
             --amount amount --id id --currency {} --source made-up --system made-up",
            view::counted(rows, "purchase"),
            view::counted(customers, "customer"),
            args.currency
        ));
    }
    Ok(())
}

/// Writes the purchases in order of time; how many they were.
fn write(
    population: &Population,
    start: civil::Date,
    currency: &str,
    output: &mut Output,
    bar: &ProgressBar,
) -> Result<u64> {
    let customers = population.plan().customers;
    let failed = |error: std::io::Error| Error::new(format!("cannot write: {error}"));
    writeln!(output, "id,customer,time,amount").map_err(failed)?;
    let (mut rows, mut last) = (0, 0);
    for purchase in population.by_time(0..customers) {
        rows += 1;
        last = last.max(purchase.customer);
        if rows % STEP == 0 {
            // Who comes later has a higher number.
            bar.set_position(last);
        }
        let time = moment(start, &purchase)?;
        let amount = amount(purchase.value, currency);
        writeln!(output, "{rows},{},{time},{amount}", purchase.customer + 1).map_err(failed)?;
    }
    Ok(rows)
}

/// When a purchase was, to the second, as ISO 8601 in UTC.
fn moment(start: civil::Date, purchase: &Purchase) -> Result<String> {
    let beyond = || Error::new("the last day lies beyond the year 9999");
    let day = start.checked_add(Span::new().try_days(purchase.day).map_err(|_| beyond())?).map_err(|_| beyond())?;
    #[allow(clippy::cast_possible_truncation, reason = "the time of a day is within 0 and 1")]
    let seconds = ((purchase.time * 86_400.0) as i64).clamp(0, 86_399);
    Ok(format!("{day}T{:02}:{:02}:{:02}Z", seconds / 3_600, seconds / 60 % 60, seconds % 60))
}

/// An amount with the digits of its currency; at least the smallest coin, since nothing is no purchase.
fn amount(value: f64, currency: &str) -> String {
    let minor_units = minor_units(value, currency);
    let exponent = Money::exponent(currency);
    let unit = 10_i64.pow(exponent);
    let width = exponent as usize;
    if exponent == 0 {
        minor_units.to_string()
    } else {
        format!("{}.{:0width$}", minor_units / unit, minor_units % unit)
    }
}

/// A value in minor units of its currency, at least one.
pub fn minor_units(value: f64, currency: &str) -> i64 {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the conversion stops at the limits, and the service refuses such an amount by name"
    )]
    let units = (value * f64::from(10_u32.pow(Money::exponent(currency)))).round() as i64;
    units.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(file: PathBuf, more: &[&str]) -> Args {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            args: Args,
        }
        let base = ["generate", file.to_str().unwrap()];
        <Cli as clap::Parser>::try_parse_from(base.iter().chain(more)).unwrap().args
    }

    fn clock() -> Clock {
        Clock::mock("1998-07-01T08:00:00Z".parse().unwrap())
    }

    fn written(more: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("made-up.csv");
        run(&args(file.clone(), more), &clock()).unwrap();
        std::fs::read_to_string(file).unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_file_and_another_one_another() {
        let first = written(&[]);
        assert_eq!(first, written(&["--seed", "1"]));
        assert_ne!(first, written(&["--seed", "2"]));
        let rows: Vec<&str> = first.lines().collect();
        assert_eq!(rows[0], "id,customer,time,amount");
        // Like the sample: 2,357 customers with 6,919 purchases, give or take.
        assert!((6_000..8_000).contains(&rows.len()), "{}", rows.len());
        let times: Vec<&str> = rows[1..].iter().map(|row| row.split(',').nth(2).unwrap()).collect();
        assert!(times.is_sorted() && times[0].starts_with("1997-01-01T"));
    }

    #[test]
    fn the_last_day_is_yesterday_or_earlier() {
        let first = |start: Option<&str>, days| {
            let start = start.map(|day| day.parse().unwrap());
            first_day(start, days, &clock()).map(|day| day.to_string()).map_err(|error| error.to_string())
        };
        assert_eq!(first(None, 1).unwrap(), "1998-06-30");
        assert_eq!(first(None, 546).unwrap(), "1997-01-01");
        assert_eq!(first(Some("1990-05-01"), 546).unwrap(), "1990-05-01");
        assert_eq!(first(Some("1997-01-01"), 546).unwrap(), "1997-01-01");
        let wrong = first(Some("1997-01-02"), 546).unwrap_err();
        assert!(wrong.contains("--start 1997-01-02") && wrong.contains("1997-01-01 at the latest"), "{wrong}");
        assert!(first(None, u32::MAX).unwrap_err().contains("--days"));
    }

    #[test]
    fn every_model_and_currency_can_be_made_up() {
        for model in ["bg-nbd", "mbg-nbd", "pareto-nbd"] {
            assert!(written(&["--model", model, "--customers", "100"]).lines().count() > 100);
        }
        let yen = written(&["--currency", "JPY", "--spend", "6.25,3.74,1544", "--customers", "50"]);
        assert!(yen.lines().skip(1).all(|row| row.rsplit(',').next().unwrap().parse::<u64>().is_ok()));
        let dinars = written(&["--currency", "KWD", "--customers", "50"]);
        assert!(dinars.lines().skip(1).all(|row| row.rsplit_once('.').unwrap().1.len() == 3));
    }

    #[test]
    fn parameters_out_of_range_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("none.csv");
        let refused = |more: &[&str]| run(&args(file.clone(), more), &clock()).unwrap_err().to_string();
        std::fs::write(&file, "somebody's").unwrap();
        assert!(refused(&[]).contains("--force"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "somebody's");
        run(&args(file.clone(), &["--force", "--customers", "1"]), &clock()).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(refused(&["--parameters", "0,1,1,1"]).contains('r'));
        assert!(refused(&["--arrival-days", "600"]).contains("arrival_days"));
        assert!(numbers::<4>("1,2,3").is_err() && numbers::<3>("1,2,x").is_err());
        assert!(!file.exists());
    }
}
