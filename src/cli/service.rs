//! `outpost service …`

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{json, printable, table};
use super::{BAD_CONFIGURATION, Context, FAILED, Failure, Outcome};
use crate::model::{Server, Uid};
use crate::store::Store;

/// How long `stop` waits for the daemon to end what it asked for.
const PATIENCE: Duration = Duration::from_secs(120);

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

pub(super) async fn run(context: &Context, command: Command) -> Outcome {
    let store = context.existing_store().await?;
    match command {
        Command::List { hub, ended: true, json } => ended(&store, hub.as_deref(), json).await,
        Command::List { hub, ended: false, json } => list(&store, hub.as_deref(), json).await,
        Command::Stop(arguments) => stop(&store, arguments).await,
    }
}

async fn list(store: &Store, hub: Option<&str>, as_json: bool) -> Outcome {
    let servers: Vec<Server> =
        store.servers().await?.into_iter().filter(|server| hub.is_none_or(|hub| *server.id.hub == *hub)).collect();
    if as_json {
        let rows: Vec<_> = servers
            .iter()
            .map(|server| {
                json!({
                    "id": server.uid.as_str(), "hub": &*server.id.hub, "name": &*server.id.name, "start_id": &*server.id.start_id,
                    "user": &*server.user, "user_id": server.user_id, "phase": server.phase.as_str(), "address": &*server.address,
                    "spawner": &*server.handle.spawner, "flavor": server.flavor.as_deref(), "start_date": server.start_date,
                    "end_date": server.end_date, "last_update": server.last_update,
                    "exit_code": server.exit.as_ref().and_then(|exit| exit.code),
                    "reason": server.exit.as_ref().map(|exit| exit.reason.as_str()),
                })
            })
            .collect();
        return json(&rows);
    }
    let rows = servers.iter().map(|server| {
        vec![
            server.uid.to_string(),
            server.id.hub.to_string(),
            server.user.to_string(),
            server.id.name.to_string(),
            server.phase.as_str().to_owned(),
            server.address.to_string(),
            server.handle.spawner.to_string(),
            server.start_date.format("%Y-%m-%d %H:%M:%S").to_string(),
        ]
    });
    table(
        &["ID", "HUB", "USER", "NAME", "PHASE", "ADDRESS", "BACKEND", "STARTED (UTC)"],
        rows,
        "There are no servers.",
    );
    Ok(())
}

async fn ended(store: &Store, hub: Option<&str>, as_json: bool) -> Outcome {
    let rows: Vec<_> =
        store.history(1000).await?.into_iter().filter(|row| hub.is_none_or(|hub| row.hub == hub)).collect();
    if as_json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "id": row.uid, "hub": row.hub, "name": row.name, "start_id": row.start_id, "user": row.username,
                    "outcome": row.outcome, "exit_code": row.exit_code, "reason": row.reason, "start_date": row.start_date,
                    "ended_at": row.ended_at,
                })
            })
            .collect();
        return json(&rows);
    }
    let rows = rows.into_iter().map(|row| {
        vec![
            row.uid,
            row.hub,
            row.username,
            row.name,
            row.outcome,
            row.ended_at.format("%Y-%m-%d %H:%M:%S").to_string(),
            row.reason.unwrap_or_default(),
        ]
    });
    table(&["ID", "HUB", "USER", "NAME", "OUTCOME", "ENDED (UTC)", "REASON"], rows, "No server has ended yet.");
    Ok(())
}

async fn stop(store: &Store, arguments: Stop) -> Outcome {
    let servers = store.servers().await?;
    let mut chosen: Vec<&Server> = Vec::new();
    for id in &arguments.ids {
        let id = Uid::parse(id).ok_or_else(|| {
            Failure(
                BAD_CONFIGURATION,
                format!("{:?} is no server id; `outpost service list` shows them", printable(id)),
            )
        })?;
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
    for server in &chosen {
        store.request_stop(&server.uid).await?;
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
