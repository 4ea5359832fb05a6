//! `outpost service …`

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{json, table, time};
use super::{BAD_CONFIGURATION, Context, FAILED, Failure, Outcome};
use crate::admin::{self, ServerSummary, Until, parse_length};
use crate::model::{Server, Uid, UsageFilter, printable};
use crate::store::{Search, Store};

/// How long `stop` waits for the daemon to end what it asked for.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many servers that ended are shown.
const LONGEST: i64 = 1000;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Show the servers that exist.
    List {
        /// Only those of this hub.
        #[arg(long)]
        hub: Option<String>,
        /// Show the last servers that ended instead, the newest first.
        #[arg(long)]
        ended: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Stop servers and wait until they are gone. The running daemon does it, or the next one that is started.
    Stop(Stop),
    /// Change when a server's time is over.
    Extend(Extend),
}

#[derive(Args)]
pub(super) struct Stop {
    /// The servers' ids, as `outpost service list` shows them.
    #[arg(value_name = "ID", required_unless_present_any = ["hub", "all"])]
    ids: Vec<String>,
    /// All servers of this hub.
    #[arg(long, conflicts_with_all = ["ids", "all"])]
    hub: Option<String>,
    /// All servers.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Do not wait until they are gone.
    #[arg(long)]
    no_wait: bool,
}

#[derive(Args)]
pub(super) struct Extend {
    /// The server's id, as `outpost service list` shows it.
    id: String,
    #[command(flatten)]
    end: End,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct End {
    /// So much longer than now agreed, for example 2h; than now, if that is over or there is no end.
    #[arg(long, value_name = "LENGTH", value_parser = parse_length)]
    by: Option<TimeDelta>,
    /// Until this time: 2026-12-01 (midnight, UTC) or 2026-12-01T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = UsageFilter::parse_time)]
    until: Option<DateTime<Utc>>,
    /// Without an end.
    #[arg(long)]
    no_end: bool,
}

pub(super) async fn run(context: &Context, command: Command) -> Outcome {
    let store = context.existing_store().await?;
    match command {
        Command::List { hub, ended: true, json } => ended(&store, hub, json).await,
        Command::List { hub, ended: false, json } => list(&store, hub.as_deref(), json).await,
        Command::Stop(arguments) => stop(context, &store, arguments).await,
        Command::Extend(arguments) => extend(context, &store, arguments).await,
    }
}

async fn list(store: &Store, hub: Option<&str>, as_json: bool) -> Outcome {
    let servers: Vec<Server> =
        store.servers().await?.into_iter().filter(|server| hub.is_none_or(|hub| *server.id.hub == *hub)).collect();
    if as_json {
        return json(&servers.iter().map(ServerSummary::from).collect::<Vec<_>>());
    }
    let rows = servers.iter().map(|server| {
        vec![
            server.uid.to_string(),
            server.id.hub.to_string(),
            server.user.to_string(),
            server.id.name.to_string(),
            server.phase.as_str().to_owned(),
            server.address.to_string(),
            server.tunnel.state.to_string(),
            server.handle.spawner.to_string(),
            server.flavor.as_deref().unwrap_or_default().to_owned(),
            time(server.start_date),
            server.end_date.map(time).unwrap_or_default(),
        ]
    });
    table(
        &[
            "ID",
            "HUB",
            "USER",
            "NAME",
            "PHASE",
            "ADDRESS",
            "TUNNEL",
            "BACKEND",
            "FLAVOR",
            "STARTED (UTC)",
            "ENDS (UTC)",
        ],
        rows,
        "There are no servers.",
    );
    Ok(())
}

async fn ended(store: &Store, hub: Option<String>, as_json: bool) -> Outcome {
    let servers = store.past_servers(&Search { hub, ..Search::default() }, None, LONGEST).await?;
    if as_json {
        return json(&servers);
    }
    let rows = servers.into_iter().map(|server| {
        let (outcome, reason) = (server.outcome.unwrap_or_default(), server.reason.unwrap_or_default());
        vec![server.id, server.hub, server.user, server.name, outcome, time(server.ended_at), reason]
    });
    table(&["ID", "HUB", "USER", "NAME", "OUTCOME", "ENDED (UTC)", "REASON"], rows, "No server has ended yet.");
    Ok(())
}

/// Reads an id of the command line.
fn uid(id: &str) -> Result<Uid, Failure> {
    Uid::parse(id).ok_or_else(|| {
        let text = format!("{:?} is no server id; `outpost service list` shows them", printable(id));
        Failure(BAD_CONFIGURATION, text)
    })
}

async fn extend(context: &Context, store: &Store, arguments: Extend) -> Outcome {
    let until = match (arguments.end.by, arguments.end.until) {
        (Some(by), _) => Until::By(by),
        (_, Some(date)) => Until::Date(date),
        _ => Until::Open,
    };
    let end = context.admin(store).extend_server(&uid(&arguments.id)?, until).await?;
    if arguments.json {
        return json(&json!({ "id": arguments.id, "end_date": end }));
    }
    match end {
        Some(end) => println!("The server may run until {} UTC.", time(end)),
        None => println!("The server may run without an end."),
    }
    Ok(())
}

async fn stop(context: &Context, store: &Store, arguments: Stop) -> Outcome {
    let servers = store.servers().await?;
    let mut chosen: Vec<&Server> = Vec::new();
    for id in &arguments.ids {
        let id = uid(id)?;
        let server = servers.iter().find(|server| server.uid == id);
        chosen.push(server.ok_or_else(|| Failure(FAILED, format!("there is no server {id}")))?);
    }
    if arguments.all || arguments.hub.is_some() {
        chosen =
            servers.iter().filter(|server| arguments.hub.as_deref().is_none_or(|hub| *server.id.hub == *hub)).collect();
    }
    if chosen.is_empty()
        && let Some(hub) = &arguments.hub
        && !store.hubs().await?.iter().any(|row| row.name == *hub)
    {
        return Err(Failure(
            FAILED,
            format!("there is no hub {:?}; `outpost hub list` shows those there are", printable(hub)),
        ));
    }
    let admin = context.admin(store);
    for server in &chosen {
        match admin.stop_server(server).await {
            Ok(()) | Err(admin::Error::Missing(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if arguments.no_wait || chosen.is_empty() {
        println!("Servers being stopped: {}", chosen.len());
        return Ok(());
    }
    let begun = Instant::now();
    eprintln!("Waiting for the daemon to stop {}.", chosen.len());
    loop {
        let left = store.servers().await?;
        let left = chosen.iter().filter(|server| left.iter().any(|row| row.uid == server.uid)).count();
        if left == 0 {
            println!("Servers stopped: {}", chosen.len());
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            let text =
                format!("{left} servers are not gone yet. They are marked: the daemon stops them, when it runs.");
            return Err(Failure(FAILED, text));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
