//! `outpost hub …`

use clap::Subcommand;
use serde_json::json;

use super::output::{json, table};
use super::{Context, FAILED, Failure, Outcome};
use crate::auth::{generate_password, hash_password};
use crate::store::{Source, Store};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a credential for a JupyterHub; print it once, with what to paste into jupyterhub_config.py.
    Add {
        /// The hub's name: the user name of its credential.
        name: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the hubs and how many passwords are valid for each.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a new password. The one before stays valid, those before it do not; `--now` ends that one too.
    Rotate {
        /// The hub's name.
        name: String,
        /// Only the new password is valid from now on.
        #[arg(long)]
        now: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove a hub and its passwords. Refused while it has servers.
    Remove {
        /// The hub's name.
        name: String,
        /// Forget only where its API was seen; the next start tells anew. The hub stays.
        #[arg(long)]
        only_api_url: bool,
    },
}

pub(super) async fn run(context: &Context, command: Command) -> Outcome {
    let store = match command {
        Command::Add { .. } => context.store().await?,
        _ => context.existing_store().await?,
    };
    match command {
        Command::Add { name, json } => add(context, &store, &name, json).await,
        Command::List { json } => list(&store, json).await,
        Command::Rotate { name, now, json } => {
            known(&store, &name).await?;
            let password = new_password(&store, &name, if now { 1 } else { 2 }).await?;
            if !now {
                eprintln!("The password before stays valid until the next rotation.");
            }
            let others = store
                .passwords()
                .await?
                .iter()
                .filter(|row| row.hub == name && row.source != Source::Cli.as_str())
                .count();
            if others > 0 {
                eprintln!(
                    "Passwords of this hub in the configuration or in the variable `passwords` stay valid ({others}); take them \
                     out there."
                );
            }
            print_credential(context, &name, &password, json)
        }
        Command::Remove { name, only_api_url: true } => {
            known(&store, &name).await?;
            store.unpin_api_url(&name).await?;
            println!(
                "The API of hub {name:?} is taken from its next start. A running Outpost notices when it is restarted."
            );
            Ok(())
        }
        Command::Remove { name, only_api_url: false } => remove(context, &store, &name).await,
    }
}

async fn add(context: &Context, store: &Store, name: &str, as_json: bool) -> Outcome {
    crate::hub::check_name(name).map_err(|mistake| Failure(super::BAD_CONFIGURATION, mistake))?;
    store.add_hub(name).await?;
    if store.passwords().await?.iter().any(|row| row.hub == name) {
        return Err(Failure(
            FAILED,
            format!("hub {name:?} has a password already; `outpost hub rotate` makes a new one"),
        ));
    }
    let password = new_password(store, name, 2).await?;
    print_credential(context, name, &password, as_json)
}

async fn new_password(store: &Store, name: &str, keep: usize) -> Result<String, Failure> {
    let password = generate_password();
    let hash = tokio::task::block_in_place(|| hash_password(&password))?;
    store.add_password(name, Source::Cli, &hash, keep).await?;
    Ok(password)
}

async fn known(store: &Store, name: &str) -> Outcome {
    let known = store.hubs().await?.iter().any(|hub| hub.name == name);
    known
        .then_some(())
        .ok_or_else(|| Failure(FAILED, format!("there is no hub {name:?}; `outpost hub list` shows those there are")))
}

fn print_credential(context: &Context, name: &str, password: &str, as_json: bool) -> Outcome {
    context.say_where();
    if as_json {
        return json(&json!({ "hub": name, "password": password }));
    }
    let http = &context.config.http;
    let scheme = if http.tls_cert.is_some() { "https" } else { "http" };
    print!("{}", snippet(name, password, &format!("{scheme}://{}{}", http.listen, http.base_path)));
    Ok(())
}

/// What to paste into `jupyterhub_config.py`.
pub(super) fn snippet(name: &str, password: &str, url: &str) -> String {
    format!(
        "    # JupyterHub: pip install jupyterhub-outpostspawner, then in jupyterhub_config.py\n\
         \x20   import base64\n\
         \x20   c.JupyterHub.spawner_class = \"outpostspawner.OutpostSpawner\"\n\
         \x20   c.OutpostSpawner.request_url = \"{url}/services\"  # as the hub reaches this machine\n\
         \x20   credential = base64.b64encode({}.encode()).decode()\n\
         \x20   c.OutpostSpawner.request_headers = {{\n\
         \x20       \"Content-Type\": \"application/json\",\n\
         \x20       \"Accept\": \"application/json\",\n\
         \x20       \"Authorization\": f\"Basic {{credential}}\",\n\
         \x20   }}\n",
        python_string(&format!("{name}:{password}"))
    )
}

/// A text as a Python literal.
fn python_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

async fn list(store: &Store, as_json: bool) -> Outcome {
    let (hubs, passwords, servers) = (store.hubs().await?, store.passwords().await?, store.servers().await?);
    let rows = hubs.into_iter().map(|hub| {
        let valid = passwords.iter().filter(|row| row.hub == hub.name).count();
        let running = servers.iter().filter(|server| *server.id.hub == *hub.name).count();
        (hub, valid, running)
    });
    if as_json {
        let rows: Vec<_> = rows
            .map(|(hub, valid, running)| json!({ "hub": hub.name, "passwords": valid, "servers": running, "api_url": hub.api_url }))
            .collect();
        return json(&rows);
    }
    let rows = rows.map(|(hub, valid, running)| {
        vec![hub.name, valid.to_string(), running.to_string(), hub.api_url.unwrap_or_else(|| "-".to_owned())]
    });
    table(
        &["HUB", "PASSWORDS", "SERVERS", "API SEEN AT"],
        rows,
        "There are no hubs yet; `outpost hub add NAME` makes one.",
    );
    Ok(())
}

async fn remove(context: &Context, store: &Store, name: &str) -> Outcome {
    known(store, name).await?;
    if context.config.hubs.contains_key(name) {
        return Err(Failure(FAILED, format!("hub {name:?} is in the configuration; remove [hubs.{name}] there first")));
    }
    if store.passwords().await?.iter().any(|row| row.hub == name && row.source == Source::Env.as_str()) {
        let text = format!(
            "hub {name:?} is in the variables `usernames` and `passwords` of the daemon; take it out there first"
        );
        return Err(Failure(FAILED, text));
    }
    let servers = store.servers().await?.iter().filter(|server| *server.id.hub == *name).count();
    if servers > 0 {
        let text = format!("hub {name:?} has {servers} servers; stop them first: `outpost service stop --hub {name}`");
        return Err(Failure(FAILED, text));
    }
    store.remove_hub(name).await?;
    println!("Hub {name:?} is removed; its passwords are not valid any more.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_snippet_is_python_whatever_the_name() {
        insta::assert_snapshot!(snippet("ju\"py\\x", "secret", "https://outpost:8443"), @r#"
            # JupyterHub: pip install jupyterhub-outpostspawner, then in jupyterhub_config.py
            import base64
            c.JupyterHub.spawner_class = "outpostspawner.OutpostSpawner"
            c.OutpostSpawner.request_url = "https://outpost:8443/services"  # as the hub reaches this machine
            credential = base64.b64encode("ju\"py\\x:secret".encode()).decode()
            c.OutpostSpawner.request_headers = {
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Authorization": f"Basic {credential}",
            }
        "#);
    }
}
