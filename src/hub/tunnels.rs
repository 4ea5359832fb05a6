//! Asking hubs for tunnels: after an asynchronous start, and for all running servers after a restart.
//!
//! The plugin's `setuptunnel` ends the user's server if it fails on the hub's side, so that nobody may be asked who does not
//! tunnel.

use std::time::Duration;

use serde_json::json;

use super::{Callbacks, Called, Hub, Recreate, RecreateBy, Settings, authorized, chain};
use crate::metrics::CallLabels;

/// The questions' name in metrics.
pub(super) const CALL: &str = "tunnel";

/// How long one question may take: the plugin runs several `ssh` commands, with up to 16 s in all.
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);

/// What JupyterHub puts into each of its answers, and nothing between it and us does.
const FROM_HUB: &str = "x-jupyterhub-version";

/// What a hub said to one question for tunnels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asked {
    /// The tunnel is there, or will be.
    Made,
    /// It does not know the server, or not with this token, as this HTTP status says: it is not asked again.
    Refused(u16),
    /// It could not do it just now, as this HTTP status says. The plugin stops the server then.
    Failed(u16),
    /// It did not answer, or somebody before it did, with this HTTP status.
    Silent(Option<u16>),
}

impl Asked {
    /// What an answer with this status means, which JupyterHub itself gave or something before it.
    const fn of(status: u16, from_hub: bool) -> Self {
        match status {
            200..=299 => Self::Made,
            401 | 403 | 404 if from_hub => Self::Refused(status),
            401 | 403 | 404 | 429 | 502..=504 => Self::Silent(Some(status)),
            _ => Self::Failed(status),
        }
    }
}

impl Settings {
    /// Checks what is said about tunnels after a restart, but for the expression.
    pub(super) fn check_recreation(&self) -> Result<(), String> {
        if self.ssh_recreate == RecreateBy::Server {
            return Ok(());
        }
        if self.dial.is_some() {
            return Err("ssh_recreate: \"hub\" asks for tunnels to all servers, and with `dial` they are reached without; leave it out"
                .to_owned());
        }
        let needed = "is needed with ssh_recreate = \"hub\"";
        match self.ssh_recreate_system.as_deref() {
            None => return Err(format!("ssh_recreate_system: {needed}: the name of this site on the hub")),
            Some("" | "." | "..") => return Err("ssh_recreate_system: is no name of a site".to_owned()),
            Some(_) => {}
        }
        if self.ssh_recreate_token.is_none() {
            return Err(format!(
                "ssh_recreate_token: {needed}: where the token of a service of the hub is that has the scope \
                 custom:sshnode:restart"
            ));
        }
        match self.ssh_recreate_at_start {
            Some(Recreate::When(_)) => {
                Err("ssh_recreate_at_start: has to be true or false with ssh_recreate = \"hub\", which \
                 is one question for all servers"
                    .to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl Hub {
    /// Asks the hub to make its tunnel to `address` (`host:port`) after an asynchronous start, if it wants that.
    pub async fn setup_tunnel(&self, callbacks: &Callbacks, address: &str) -> Called {
        match &callbacks.tunnel {
            Some(url) if self.settings.setup_tunnel => {
                self.post(CALL, callbacks, url, &callbacks.token, &json!({ "service": address }), 5).await
            }
            _ => Called::Ok,
        }
    }

    /// Asks the hub once for its tunnel to `address` (`host:port`), beside the calls that events go through: whoever asks bounds
    /// how many there are. `None`: the server has no URL for it that may be called.
    pub async fn ask_for_tunnel(&self, callbacks: &Callbacks, address: &str) -> Option<Asked> {
        let url = callbacks.tunnel.clone()?;
        let client = callbacks.client.as_ref().unwrap_or(&self.client);
        let request = authorized(client.post(url), &callbacks.token);
        Some(self.ask(request.map(|request| request.json(&json!({ "service": address })))).await)
    }

    /// Asks the hub once for the tunnels to all its servers of this site. `None`: it is not known where, or the token cannot be
    /// read, as the log says.
    pub async fn ask_for_all_tunnels(&self) -> Option<Asked> {
        let mut url = self.api_url()?;
        let token = self.settings.ssh_recreate_token.as_ref()?.read();
        let told =
            |mistake: &String| tracing::error!(hub.name = ?self.name, mistake, "ssh_recreate_token cannot be read");
        let token = token.inspect_err(told).ok()?;
        let system = self.settings.ssh_recreate_system.as_deref()?;
        url.path_segments_mut().ok()?.pop_if_empty().extend(["recreateforward", system]);
        Some(self.ask(authorized(self.client.get(url), &token)).await)
    }

    async fn ask(&self, request: Option<reqwest::RequestBuilder>) -> Asked {
        let asked = match request {
            None => Asked::Refused(401),
            Some(request) => match request.timeout(TIMEOUT).send().await {
                Ok(answer) => Asked::of(answer.status().as_u16(), answer.headers().contains_key(FROM_HUB)),
                Err(error) => {
                    // Without the URL, which holds the user's name. There may be as many of them as servers.
                    let error = error.without_url();
                    tracing::debug!(hub.name = ?self.name, error = %chain(&error), "a hub could not be asked for a tunnel");
                    Asked::Silent(None)
                }
            },
        };
        let outcome = match asked {
            Asked::Made => "ok",
            Asked::Refused(_) => "refused",
            Asked::Failed(_) | Asked::Silent(_) => "failed",
        };
        self.metrics.hub_calls.get_or_create(&CallLabels { hub: self.name.to_string(), call: CALL, outcome }).inc();
        asked
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::config::Secret;

    #[rstest]
    #[case(204, Asked::Made, Asked::Made)]
    #[case(202, Asked::Made, Asked::Made)]
    #[case(401, Asked::Refused(401), Asked::Silent(Some(401)))]
    #[case(403, Asked::Refused(403), Asked::Silent(Some(403)))]
    #[case(404, Asked::Refused(404), Asked::Silent(Some(404)))]
    #[case(307, Asked::Failed(307), Asked::Failed(307))]
    #[case(400, Asked::Failed(400), Asked::Failed(400))]
    #[case(500, Asked::Failed(500), Asked::Failed(500))]
    #[case(429, Asked::Silent(Some(429)), Asked::Silent(Some(429)))]
    #[case(503, Asked::Silent(Some(503)), Asked::Silent(Some(503)))]
    fn answers(#[case] status: u16, #[case] of_hub: Asked, #[case] of_others: Asked) {
        assert_eq!((Asked::of(status, true), Asked::of(status, false)), (of_hub, of_others));
    }

    #[test]
    fn one_question_for_all_needs_a_name_and_a_token() {
        let mut settings = Settings { ssh_recreate: RecreateBy::Hub, ..Settings::default() };
        assert!(settings.check().unwrap_err().starts_with("ssh_recreate_system: is needed"));
        settings.ssh_recreate_system = Some("..".to_owned());
        assert!(settings.check().unwrap_err().contains("no name"));
        settings.ssh_recreate_system = Some("site".to_owned());
        assert!(settings.check().unwrap_err().starts_with("ssh_recreate_token: is needed"));
        settings.ssh_recreate_token = Some(Secret::Env("TOKEN".to_owned()));
        assert_eq!(settings.check(), Ok(()));
        let dial = "[dial]\nto = 'hub:22'\nuser = 'outpost'\nkey = { file = '/k' }";
        settings.dial = toml::from_str::<Settings>(dial).unwrap().dial;
        assert!(settings.check().unwrap_err().starts_with("ssh_recreate: \"hub\" asks"));
        settings.dial = None;
        settings.ssh_recreate_at_start = Some(Recreate::When("true".to_owned()));
        assert!(settings.check().unwrap_err().starts_with("ssh_recreate_at_start"));
    }
}
