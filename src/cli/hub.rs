//! `outpost hub …`

mod ssh_key;

use clap::Subcommand;
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::output::{json, table};
use super::{Context, Outcome};
use crate::admin::{Credential, hubs};
use crate::store::Store;

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
    /// Show the hubs and how many passwords and SSH keys each has.
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
    /// Remove a hub, its passwords and its SSH keys. Refused while it has servers.
    Remove {
        /// The hub's name.
        name: String,
        /// Forget only where its API was seen; the next start tells anew. The hub stays.
        #[arg(long)]
        only_api_url: bool,
    },
    /// SSH keys that hubs forward with.
    #[command(subcommand)]
    SshKey(ssh_key::Command),
}

pub(super) async fn run(context: &Context, command: Command) -> Outcome {
    if let Command::SshKey(command) = command {
        return ssh_key::run(context, command).await;
    }
    let store = match command {
        Command::Add { .. } => context.store().await?,
        _ => context.existing_store().await?,
    };
    let admin = context.admin(&store);
    match command {
        Command::Add { name, json } => print_credential(context, &admin.add_hub(&name).await?, json),
        Command::List { json } => list(&store, json).await,
        Command::Rotate { name, now, json } => {
            let credential = admin.rotate_hub(&name, now).await?;
            if !now {
                eprintln!("The password before stays valid until the next rotation.");
            }
            if credential.others > 0 {
                eprintln!(
                    "Passwords of this hub in the configuration or in the variable `passwords` stay valid ({}); take them \
                     out there.",
                    credential.others
                );
            }
            print_credential(context, &credential, json)
        }
        Command::Remove { name, only_api_url: true } => {
            admin.forget_api_url(&name).await?;
            println!(
                "The API of hub {name:?} is taken from its next start. A running Outpost notices when it is restarted."
            );
            Ok(())
        }
        Command::Remove { name, only_api_url: false } => {
            admin.remove_hub(&name).await?;
            println!("Hub {name:?} is removed; its passwords and SSH keys are not valid any more.");
            Ok(())
        }
        Command::SshKey(_) => Ok(()),
    }
}

fn print_credential(context: &Context, credential: &Credential, as_json: bool) -> Outcome {
    let (name, password) = (credential.hub.as_str(), credential.password.expose_secret());
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
    let hubs = hubs(store).await?;
    if as_json {
        return json(&hubs);
    }
    let rows = hubs.into_iter().map(|hub| {
        let api_url = hub.api_url.unwrap_or_else(|| "-".to_owned());
        vec![hub.hub, hub.passwords.to_string(), hub.ssh_keys.to_string(), hub.servers.to_string(), api_url]
    });
    table(
        &["HUB", "PASSWORDS", "SSH KEYS", "SERVERS", "API SEEN AT"],
        rows,
        "There are no hubs yet; `outpost hub add NAME` makes one.",
    );
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
