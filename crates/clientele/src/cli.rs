//! Commands and flags.
use std::{io::IsTerminal, net::SocketAddr, path::PathBuf};

use chassis::{Clock, config::Secret, peers::Access, telemetry};
use clap::{Args, Parser, Subcommand};
use proto::scoring::v1 as scoring;

use crate::{
    bench,
    client::{Client, DEFAULT_SERVER, Error, Result},
    commands, config,
    config::Config,
    demo, export, folder, generate, import, report, serve, view,
};

/// Customer value management: what each customer is worth, how a contact is handled because of it, and complaints by value.
#[derive(Debug, Parser)]
#[command(name = "clientele", version, max_term_width = 110, after_help = "Begin with: clientele demo")]
struct Cli {
    #[command(flatten)]
    process: Process,
    #[command(subcommand)]
    command: Command,
}

/// Configuration of a serving process.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Of commands that serve")]
struct Process {
    /// Configuration file (TOML)
    #[arg(long, global = true, value_name = "FILE", env = "CLIENTELE_CONFIG")]
    config: Option<PathBuf>,
    /// Set one configuration key; may be given many times
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything on this machine, load real purchases, and show what comes of it
    Demo(DemoArgs),
    /// Serve all services in one process, or only those named
    Serve(ServeArgs),
    /// Measure this build against bare baselines, in paired rounds (takes some minutes)
    Bench {
        /// Print the medians as JSON
        #[arg(long)]
        json: bool,
        /// Measure these alone
        #[arg(long, value_name = "FIGURE", value_delimiter = ',')]
        only: Vec<bench::Figure>,
        /// Export no traces and no measurements, to see what that costs
        #[arg(long)]
        untraced: bool,
    },
    /// Print the effective configuration, secrets masked
    Config {
        /// Print every key with its default and comment instead
        #[arg(long)]
        defaults: bool,
    },
    /// Import a file through the public API
    #[command(subcommand)]
    Import(Box<Import>),
    /// Fit the models of buying and spending
    Fit {
        /// Count purchases up to this day only
        #[arg(long, value_name = "DATE", value_parser = commands::date)]
        as_of: Option<scoring::Date>,
        /// Keep the fit without using it for scores
        #[arg(long)]
        trial: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Rank all customers and set the cut-offs of the tiers, in force from then on
    Rank {
        /// Count purchases up to this day only; the cut-offs that come of it are in force all the same
        #[arg(long, value_name = "DATE", value_parser = commands::date)]
        as_of: Option<scoring::Date>,
        #[command(flatten)]
        target: Target,
    },
    /// Show the fitted models
    Models {
        #[command(flatten)]
        target: Target,
    },
    /// Hold the models against the future: fit them up to a day and compare with what came after it
    Holdout {
        /// The last day to fit on
        #[arg(long, value_name = "DATE", value_parser = commands::date)]
        until: scoring::Date,
        /// The last day to compare with; left out, today
        #[arg(long, value_name = "DATE", value_parser = commands::date)]
        as_of: Option<scoring::Date>,
        #[command(flatten)]
        target: Target,
    },
    /// Make up customers who buy till they leave, as CSV that `import purchases` takes
    Generate(generate::Args),
    /// Write what is known as files
    #[command(subcommand)]
    Export(Export),
    /// Write one page of charts and tables (HTML) that needs nothing else to be looked at
    Report(report::Args),
    /// Show the customer pyramid of the last ranking
    Pyramid {
        /// Order by what was realised so far instead of lifetime value; so it is, too, where the last ranking had no models
        #[arg(long)]
        realised: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Show one customer: record, score with its reasons, open complaints
    Customer {
        /// The customer's id, or SYSTEM:ID of an external identity
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Decide for one contact: channel, queue, target times, what to say
    Decide {
        /// The customer's id, or SYSTEM:ID, or a phone number (+…), or a mail address
        who: String,
        /// inquiry, order, routine, support, complaint or cancel
        #[arg(long, default_value = "inquiry")]
        purpose: String,
        /// The channel they arrived in; leave out for an outbound contact
        #[arg(long, value_name = "CHANNEL")]
        channel: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Show who moved between relationships, stages and tiers, and what became of each tier's customers
    Transitions {
        /// The first day; left out, since the first record
        #[arg(long, value_name = "DATE", value_parser = commands::date)]
        from: Option<scoring::Date>,
        /// The day after the last; left out, until now
        #[arg(long, value_name = "DATE", value_parser = commands::date)]
        to: Option<scoring::Date>,
        #[command(flatten)]
        target: Target,
    },
    /// Group customers by expression, or by likeness
    #[command(subcommand)]
    Segment(commands::Segment),
    /// File and handle complaints
    #[command(subcommand)]
    Complaint(commands::Complaint),
    /// Ask whether a server is serving; exits with 1 where it is not (for probes)
    Health {
        /// profiles, scoring, routing or complaints; none asks for all that run there
        service: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Follow what changes, as it changes
    Watch {
        /// scores, customers, contacts, complaints or segment
        feed: commands::Feed,
        /// Of segment: which one; none means all of them
        segment: Option<String>,
        /// Go on after this cursor
        // Of every 64 cursors one begins with a hyphen.
        #[arg(long, allow_hyphen_values = true)]
        cursor: Option<String>,
        /// Skip the snapshot
        #[arg(long)]
        only_new: bool,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// profiles, scoring, routing, complaints; none means all
    services: Vec<String>,
    /// Address and port to listen on
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Folder of the SQLite files
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Allow plain text on an address that others can reach
    #[arg(long)]
    insecure: bool,
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// Folder of the demo's SQLite files
    #[arg(long, default_value = "clientele-demo")]
    data_dir: PathBuf,
    /// Address and port to listen on
    #[arg(long, default_value = "127.0.0.1:7100")]
    listen: SocketAddr,
    /// End after the tables instead of going on serving
    #[arg(long)]
    exit: bool,
}

/// Where the services are and how to answer.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server and answer")]
pub struct Target {
    /// The server: a URL for all services, or NAME=URL for one of them (may be given many times)
    #[arg(long, value_name = "URL", default_value = DEFAULT_SERVER, env = "CLIENTELE_SERVER")]
    pub server: Vec<String>,
    /// PEM file of the authority that signs the server's certificate, for https; public authorities are known
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Token to present, where the server asks for one; better given in the environment, where no list of processes shows it
    #[arg(long, value_name = "TOKEN", env = "CLIENTELE_TOKEN", hide_env_values = true, value_parser = secret)]
    pub token: Option<Secret>,
    /// Print the answer as protobuf JSON instead of tables, 64-bit integers as numbers
    #[arg(long)]
    pub json: bool,
}

impl Target {
    /// Clients of the services.
    ///
    /// # Errors
    /// A URL that is none; a file that cannot be read.
    pub fn client(&self) -> Result<Client> {
        let ca = self
            .ca
            .as_ref()
            .map(|path| {
                std::fs::read_to_string(path).map_err(|error| Error::new(format!("--ca {}: {error}", path.display())))
            })
            .transpose()?;
        Client::with(&self.server, &Access { ca, token: self.token.clone().unwrap_or_default() })
    }
}

#[derive(Debug, Subcommand)]
enum Import {
    /// Import purchases from any delimited file; safe to run again
    Purchases(import::PurchasesArgs),
    /// Import what serving customers cost, which lowers what they are worth; safe to run again
    Costs(import::CostsArgs),
    /// Import invoices and what was paid of them, which tells who pays late; safe to run again
    // clap wraps everything but this line.
    #[command(
        override_usage = "clientele import payments [OPTIONS] --customer <COL> --id <COL> --issued <COL> --due <COL>\n\
              \x20                                 --amount <COL> <FILE>"
    )]
    Payments(import::PaymentsArgs),
}

#[derive(Debug, Subcommand)]
enum Export {
    /// Write every customer's scores of one moment as CSV
    Scores(export::Args),
}

/// Runs the command that the process was started with.
///
/// # Errors
/// What to tell the person who typed it.
pub async fn run() -> Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Command::Demo(args) => {
            let mut overrides = overrides(&cli.process)?;
            overrides.push(("server.listen".to_owned(), args.listen.to_string()));
            overrides.push(("data_dir".to_owned(), args.data_dir.display().to_string()));
            let mut config = load(&cli.process, overrides)?;
            // The tables are the demo's output: the services' own lines would only stand between them.
            if config.telemetry.log_filter == load(&cli.process, Vec::new())?.telemetry.log_filter {
                config.telemetry.log_filter = "warn".to_owned();
            }
            let guard = init_telemetry(&config)?;
            let result = demo::run(config, args.exit).await;
            guard.shutdown();
            result
        }
        Command::Serve(args) => {
            let mut overrides = overrides(&cli.process)?;
            if let Some(listen) = args.listen {
                overrides.push(("server.listen".to_owned(), listen.to_string()));
            }
            if let Some(data_dir) = &args.data_dir {
                overrides.push(("data_dir".to_owned(), data_dir.display().to_string()));
            }
            if args.insecure {
                overrides.push(("server.insecure".to_owned(), "true".to_owned()));
            }
            let mut config = load(&cli.process, overrides)?;
            if let ([one], "clientele") = (args.services.as_slice(), config.telemetry.service.as_str()) {
                config.telemetry.service.clone_from(one);
            }
            folder::refuse_the_demos(&config.data_dir)?;
            let guard = init_telemetry(&config)?;
            let result = serve::start(config, Clock::system(), &args.services, serve::signalled()).await;
            let result = match result {
                Ok(running) => {
                    tracing::info!(address = %running.address, "listening");
                    running.ended().await
                }
                Err(error) => Err(error),
            };
            guard.shutdown();
            Ok(result?)
        }
        Command::Bench { json, only, untraced } => {
            let mut config = load(&cli.process, overrides(&cli.process)?)?;
            // Lines about each purchase would measure the terminal.
            config.telemetry.log_filter = "warn".to_owned();
            // It calls itself, on loopback, and measures calls rather than tokens.
            config.auth = chassis::auth::Config::default();
            let collector = bench::Collector::start().await?;
            // Tracing is on, as in production, unless what it costs is the question.
            config.telemetry.otlp_endpoint =
                (!untraced).then(|| config.telemetry.otlp_endpoint.unwrap_or(collector.endpoint.clone()));
            let guard = init_telemetry(&config)?;
            let result = bench::run(config, json, &only).await;
            guard.shutdown();
            result
        }
        Command::Config { defaults } => {
            if defaults {
                view::line(config::defaults());
            } else {
                let config = load(&cli.process, overrides(&cli.process)?)?;
                view::line(chassis::config::print(&config));
            }
            Ok(())
        }
        Command::Import(of) => match *of {
            Import::Purchases(args) => import::purchases(args).await,
            Import::Costs(args) => import::costs(args).await,
            Import::Payments(args) => import::payments(args).await,
        },
        Command::Fit { as_of, trial, target } => commands::fit(&target, as_of, trial).await,
        Command::Rank { as_of, target } => commands::rank(&target, as_of).await,
        Command::Models { target } => commands::models(&target).await,
        Command::Holdout { until, as_of, target } => commands::hold_out(&target, until, as_of).await,
        Command::Generate(args) => generate::run(&args, &Clock::system()),
        Command::Export(Export::Scores(args)) => export::scores(args).await,
        Command::Report(args) => report::run(args).await,
        Command::Pyramid { realised, target } => commands::pyramid(&target, realised).await,
        Command::Customer { id, target } => commands::customer(&target, &id).await,
        Command::Decide { who, purpose, channel, target } => {
            commands::decide(&target, &who, &purpose, channel.as_deref()).await
        }
        Command::Transitions { from, to, target } => commands::transitions(&target, from, to).await,
        Command::Segment(command) => commands::segment(command).await,
        Command::Complaint(command) => commands::complaint(command).await,
        Command::Health { service, target } => commands::health(&target, service.as_deref()).await,
        Command::Watch { feed, segment, cursor, only_new, target } => {
            commands::watch(&target, feed, segment, cursor.as_deref().unwrap_or_default(), only_new).await
        }
    }
}

#[allow(clippy::unnecessary_wraps, reason = "what a parser of values looks like")]
fn secret(text: &str) -> std::result::Result<Secret, String> {
    Ok(Secret::new(text))
}

fn overrides(process: &Process) -> Result<Vec<(String, String)>> {
    process
        .set
        .iter()
        .map(|set| {
            let (key, value) =
                set.split_once('=').ok_or_else(|| Error::new(format!("--set {set}: must be KEY=VALUE")))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

fn load(process: &Process, overrides: Vec<(String, String)>) -> Result<Config> {
    let sources = chassis::config::Sources::from_process(config::defaults(), process.config.clone(), overrides);
    chassis::config::load(&sources).map_err(|errors| Error::new(errors.to_string()))
}

fn init_telemetry(config: &Config) -> Result<telemetry::Guard> {
    telemetry::init(&config.telemetry).map_err(|error| Error::new(error.to_string()))
}

/// Whether a progress bar would be seen.
pub fn shows_progress() -> bool {
    std::io::stderr().is_terminal()
}
