//! Waiting for targets named on the command line: no document, no hub, no Kafka.

use std::sync::Arc;

use chassis::secret::SecretStore;
use chassis::{Context, Exit, Failure, SecretValue};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval_at, sleep_until};

use super::args::WaitArgs;
use super::board::{Board, short};
use super::drive::{Link, Rhythm, Signal, Update, drive};
use super::report::{EVERY, Reporter};
use super::{login, target, timing};
use crate::probe::{Password, Probe, State};

/// The namespace of Secrets that are written without one; only the folder counts then.
const OWN: &str = "default";

/// Waits until every target is ready.
pub(super) async fn wait(args: &WaitArgs, context: &Context) -> Result<(), Failure> {
    let reporter = Reporter::new(args.output, args.quiet);
    let limits = timing(args, context)?;
    let (secrets, namespace) = store(args, context).await;
    let targets = targets(args, &secrets, namespace.as_deref())?;
    if targets.is_empty() {
        return Err(Failure::usage(
            "nothing to wait for: give a target such as --tcp host:port, or --module with documents; see --help",
        ));
    }

    let secrets = Arc::new(secrets);
    let (told, mut updates) = mpsc::channel(16);
    let (_signals, heard) = watch::channel(Signal::new(Link::Direct));
    let rhythm = Rhythm { polling: true, interval: limits.interval };
    let begun = Instant::now();
    let mut board = Board::new(targets.iter().map(|probe| (probe.to_string(), None)), begun);
    let mut drivers = tokio::task::JoinSet::new();
    for (index, probe) in targets.into_iter().enumerate() {
        drivers.spawn(drive(index, probe, secrets.clone(), rhythm, heard.clone(), told.clone()));
    }

    let mut remind = interval_at(begun + EVERY, EVERY);
    loop {
        let deadline = async {
            match limits.timeout {
                Some(timeout) => sleep_until(begun + timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // A target that is ready at the deadline is ready.
            biased;
            Some(update) = updates.recv() => {
                hear(update, &mut board, reporter, args.fail_fast)?;
                if board.is_open() {
                    reporter.done(&board, Instant::now());
                    return Ok(());
                }
            }
            () = context.shutdown.requested() => return Err(super::stopped(&board)),
            () = deadline => {
                let (now, timeout) = (Instant::now(), limits.timeout.unwrap_or_default());
                reporter.ended(&board, "timeout", now);
                let why = format!("the deadline of {} passed", short(timeout));
                return Err(Failure::new(Exit::Deadline, board.verdict(&why, now)));
            }
            _ = remind.tick() => reporter.still(&board, Instant::now()),
        }
    }
}

/// Notes what a look saw; fails when the target will never be ready.
fn hear(update: Update, board: &mut Board, reporter: Reporter, fail_fast: bool) -> Result<(), Failure> {
    let now = Instant::now();
    match update.seen {
        Ok(evidence) => {
            if board.met(update.index) {
                reporter.released(board.entry(update.index), &evidence, &update.cause, now);
            }
        }
        Err(seen) => {
            let hopeless = seen.never || (fail_fast && seen.state == State::Denied);
            if board.not_yet(update.index, seen, now) {
                reporter.changed(board.entry(update.index), now);
            }
            if hopeless {
                reporter.ended(board, "never", now);
                let line = board.entry(update.index).line(now);
                return Err(Failure::new(
                    Exit::NeverWorks,
                    format!("will not become ready by itself: {line}"),
                ));
            }
        }
    }
    Ok(())
}

/// The store of Secrets, and the namespace of those that are written without one.
async fn store(args: &WaitArgs, context: &Context) -> (SecretStore, Option<String>) {
    let secrets = context.secrets(OWN);
    let namespace = match &secrets {
        SecretStore::Root(_) => None,
        // Who waits for no Secret does not even read a kubeconfig.
        SecretStore::Reader(reader) if reads_secrets(args) => {
            // Where nothing can be asked, reading says why.
            reader.namespace().await.or_else(|| Some(OWN.to_owned()))
        }
        _ => Some(OWN.to_owned()),
    };
    (secrets, namespace)
}

fn reads_secrets(args: &WaitArgs) -> bool {
    !args.secret.is_empty() || !args.password_secret.is_empty()
}

fn targets(args: &WaitArgs, secrets: &SecretStore, namespace: Option<&str>) -> Result<Vec<Probe>, Failure> {
    let mut targets = Vec::new();
    let mut parse = |flag: &str, texts: &[String], parse: &dyn Fn(&str) -> Result<Probe, String>| {
        for text in texts {
            targets.push(parse(text).map_err(|error| Failure::usage(format!("{flag}: {error}")))?);
        }
        Ok::<(), Failure>(())
    };
    parse("--tcp", &args.tcp, &target::tcp)?;
    parse("--http", &args.http, &target::http)?;
    parse("--grpc", &args.grpc, &target::grpc)?;
    parse("--keycloak", &args.keycloak, &target::keycloak)?;
    parse("--kafka", &args.kafka, &target::kafka)?;
    parse("--secret", &args.secret, &|text| target::secret(text, namespace))?;
    targets.extend(logins(args, namespace)?.into_iter().map(Probe::Login));

    if reads_secrets(args) && matches!(secrets, SecretStore::None) {
        return Err(Failure::usage(
            "--secret, --password-secret: nothing says where Secrets are: set ROLLCALL_SECRETS_DIR or ROLLCALL_SECRETS_ROOT",
        ));
    }
    Ok(targets)
}

/// The `--postgres` targets with their passwords: from the flag that belongs to each, from the address itself, or from
/// PGPASSWORD.
fn logins(args: &WaitArgs, namespace: Option<&str>) -> Result<Vec<crate::probe::Login>, Failure> {
    let files = args.password_file.iter().map(|path| Ok(Password::File(path.clone())));
    let keys =
        args.password_secret.iter().map(|text| target::secret_key(text, namespace).map(Password::Secret));
    let given = files
        .chain(keys)
        .collect::<Result<Vec<_>, String>>()
        .map_err(|error| Failure::usage(format!("--password-secret: {error}")))?;
    if given.len() > 1 && given.len() != args.postgres.len() || !given.is_empty() && args.postgres.is_empty()
    {
        return Err(Failure::usage(format!(
            "--password-file, --password-secret: {} given for {} --postgres; give one for all, or one for each in their order",
            given.len(),
            args.postgres.len()
        )));
    }
    let from_environment = std::env::var("PGPASSWORD").ok().filter(|password| !password.is_empty());
    let mut logins = Vec::new();
    for (i, address) in args.postgres.iter().enumerate() {
        let parsed =
            login::parsed(address).map_err(|error| Failure::usage(format!("--postgres: {error}")))?;
        let mut login = parsed.login;
        if login.password != Password::None {
            tracing::warn!(
                "--postgres {login}: holds a password, which everybody on this machine can read in the process list; use PGPASSWORD, --password-file or --password-secret"
            );
        }
        if !parsed.ignored.is_empty() {
            tracing::warn!(
                "--postgres {login}: parameters that say nothing about reaching it are ignored: {}",
                parsed.ignored.join(", ")
            );
        }
        if let Some(password) = given.get(i).or_else(|| given.first()) {
            login.password = password.clone();
        } else if let (Password::None, Some(password)) = (&login.password, &from_environment) {
            login.password = Password::Given(SecretValue::new(password.clone()));
        }
        logins.push(login);
    }
    Ok(logins)
}
