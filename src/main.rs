//! The command line. Exit status: 0 done, 1 refused or mistakes found, 2 wrong use.

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Parser, Subcommand};
use penstock::admin::queue::{self, command::QueueCommand};
use penstock::admin::{adopt, check, complain, demo, say, serve, trace, user};
use penstock::config::{self, Auth, example};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A mail-submission appliance: 250 means on disk.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run. SIGTERM and SIGINT drain and end, SIGHUP reads certificates, users, the secret of SCRAM and local recipients
    /// again, SIGUSR1 logs the totals
    Serve {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Say what is wrong with a configuration and how to mend it
    Check {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Print an example configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look after the spool
    #[command(subcommand)]
    Spool(SpoolCommand),
    /// Add, remove and list users. A running server notices by itself
    #[command(subcommand)]
    User(UserCommand),
    /// Look into the queue and change it, while the server runs
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Where is my message? From acceptance to the next server's answer
    Trace(trace::Arguments),
    /// List every metric that [admin] serves, with its labels and what it counts
    Metrics,
    /// Run on loopback with nothing to configure, everything in one folder
    Demo {
        /// The folder; made if missing, kept if there
        #[arg(long, value_name = "DIRECTORY", default_value = "penstock-demo")]
        directory: PathBuf,
        /// Listen on 2525, 2587 and 2465 plus this; writes the folder's penstock.toml anew
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=60_000))]
        port_offset: Option<u16>,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Print a commented configuration to begin with: `check` says what it still needs
    Example {
        /// Which one
        #[arg(default_value = "general", value_parser = example_names())]
        name: String,
    },
}

#[derive(Subcommand)]
enum SpoolCommand {
    /// Take over what the spool of another machine, which is dead, has left to deliver. Neither server may run
    Adopt {
        /// The configuration of this machine
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The other machine's spool
        directory: PathBuf,
    },
}

#[derive(Subcommand)]
enum UserCommand {
    /// Add a user or change a user's password, which is asked for or read from standard input
    Add {
        /// The configuration, whose [auth] names the users file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Keep what SCRAM needs too, as with scram = true in [auth]; who has it keeps it without this
        #[arg(long)]
        scram: bool,
        /// The user
        name: String,
    },
    /// Remove a user
    Remove {
        /// The configuration, whose [auth] names the users file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The user
        name: String,
    },
    /// List all users; SCRAM behind a tab marks those who have its keys
    List {
        /// The configuration, whose [auth] names the users file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

fn example_names() -> PossibleValuesParser {
    PossibleValuesParser::new(
        example::EXAMPLES.iter().map(|example| PossibleValue::new(example.name).help(example.about)),
    )
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve { config } => {
            serve::block_signals();
            serve::serve(&config, || ())
        }
        Command::Check { config } => check::check(&config),
        Command::Config(ConfigCommand::Example { name }) => print_example(&name),
        Command::Spool(SpoolCommand::Adopt { config, directory }) => match take_over(&config, &directory) {
            Ok(whole) => whole,
            Err(error) => {
                complain(&format!("penstock: {}\n", error.trim_end()));
                ExitCode::FAILURE
            }
        },
        Command::User(command) => match users(&command) {
            Ok(text) => print(&text),
            Err(error) => {
                complain(&format!("penstock: {}\n", error.trim_end()));
                ExitCode::FAILURE
            }
        },
        Command::Queue(command) => match command.request() {
            Ok((server, request)) => queue::run(&server, &request),
            Err(error) => {
                complain(&format!("penstock: {error}\n"));
                ExitCode::from(2)
            }
        },
        Command::Trace(arguments) => trace::trace(&arguments),
        Command::Metrics => print(&penstock::metrics::table::list()),
        Command::Demo { directory, port_offset } => {
            serve::block_signals();
            demo::demo(&directory, port_offset)
        }
    }
}

fn print_example(name: &str) -> ExitCode {
    // The argument parser lets known names through only.
    example::find(name).map_or(ExitCode::FAILURE, |example| print(example.text))
}

fn print(text: &str) -> ExitCode {
    if say(text) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Adopts another machine's spool and prints each message's old and new queue id. What could not be adopted is a failure.
/// Errors: one line with a remedy.
fn take_over(config: &Path, directory: &Path) -> Result<ExitCode, String> {
    let loaded = config::load(config).map_err(|notices| format!("the configuration has mistakes:\n{notices}"))?;
    let adopt::Adopted { messages, left } =
        adopt::adopt(&loaded.config.spool, loaded.config.trace.retention_days, directory)?;
    let mut text: String = messages.iter().map(|(theirs, ours)| format!("{theirs} is {ours}\n")).collect();
    text.push_str(&format!("{} messages adopted\n", messages.len()));
    left.iter().for_each(|why| complain(&format!("penstock: left there: {why}\n")));
    say(&text);
    Ok(if left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Does what `penstock user` is asked to. Returns what to print. Errors: one line with a remedy.
fn users(command: &UserCommand) -> Result<String, String> {
    match command {
        UserCommand::Add { config, scram, name } => {
            let mut auth = auth(config)?;
            auth.scram |= *scram;
            let account = user::account(&auth, name)?;
            let password = user::read_password(&account)?;
            let (added, keys) = user::add(&auth, name, &password)?;
            if let Some(warning) = user::weakness(&password) {
                complain(&format!("penstock: {warning}\n"));
            }
            let keys = match keys {
                user::ScramKeys::None => "",
                user::ScramKeys::Made => ", and SCRAM keys",
                user::ScramKeys::Renewed => ", and new SCRAM keys, as before",
                user::ScramKeys::Missed => {
                    complain(
                        "penstock: warning: all others have SCRAM keys; without --scram for this user too SCRAM is not \
                         offered\n",
                    );
                    ""
                }
            };
            match added {
                user::Added::New => Ok(format!("{account} added{keys}\n")),
                user::Added::Changed => Ok(format!("{account} has a new password{keys}\n")),
            }
        }
        UserCommand::Remove { config, name } => {
            let auth = auth(config)?;
            user::remove(&auth, name)?;
            Ok(format!("{} removed\n", user::account(&auth, name)?))
        }
        UserCommand::List { config } => {
            let line = |user: user::Listed| user.name + if user.scram { "\tSCRAM\n" } else { "\n" };
            Ok(user::list(&auth(config)?)?.into_iter().map(line).collect())
        }
    }
}

/// The `[auth]` of a configuration, which need be without mistakes in the text of this section only: the first user is often
/// added before there is a certificate, and a user who has to go, or is braked, cannot wait until the rest is mended.
fn auth(file: &Path) -> Result<Auth, String> {
    let mistakes = |notices| format!("the configuration has mistakes:\n{notices}");
    let (auth, notices) = config::load_auth(file).map_err(mistakes)?;
    if auth.is_some() && notices.has_mistakes() {
        complain(&format!("penstock: warning: outside [auth] {}", mistakes(notices)));
    }
    auth.ok_or_else(|| format!("{} has no [auth]; add it with users_file = \"users\"", file.display()))
}
