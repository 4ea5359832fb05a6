//! A container as a process of this machine.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Secret};
use kube::ResourceExt as _;
use kube::api::Api;

use super::super::super::program::Program;
use super::Shared;
use super::play::{Played, running, status};

impl Shared {
    /// Runs the command and the arguments of the first container, with its environment and no other, until they end.
    pub(super) async fn run_process(&self, played: &Played) -> kube::Result<()> {
        self.readable(&played.pod).await?;
        let name = played.pod.name_any();
        let container = &played.pod.spec.as_ref().unwrap().containers[0];
        let home = self.dir.path().join(&name);
        std::fs::create_dir_all(&home).unwrap();
        let mut command = Command::new("env");
        let path = std::env::var("PATH").unwrap();
        command.arg("-i").arg(format!("PATH={path}")).arg(format!("HOME={}", home.display()));
        let variables = self.environment(container).await?;
        command.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
        let words = container.command.iter().chain(&container.args).flatten();
        command.args(words.map(|word| composed(word, &variables))).current_dir(&home);
        let process = Program::start(&command, &self.log_of(&name), None);
        self.patch(&name, status(played, "Running", &running(), true)).await?;
        while process.runs() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let code = process.kill();
        self.ended(played, code, if code == 0 { "Completed" } else { "Error" }).await
    }

    /// The container's variables, with what they refer to.
    async fn environment(&self, container: &Container) -> kube::Result<BTreeMap<String, String>> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut all = BTreeMap::new();
        for variable in container.env.iter().flatten() {
            let mut value = composed(variable.value.as_deref().unwrap_or_default(), &all);
            if let Some(reference) = variable.value_from.as_ref().and_then(|from| from.secret_key_ref.as_ref()) {
                let data = secrets.get(&reference.name).await?.data.unwrap_or_default();
                value = String::from_utf8(data[&reference.key].0.clone()).unwrap();
            }
            all.insert(variable.name.clone(), value);
        }
        Ok(all)
    }
}

/// The text with the values of variables in place of `$(NAME)`; `$$` stands for a dollar sign.
fn composed(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let reference = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        match reference.and_then(|(name, after)| Some((variables.get(name)?, after))) {
            Some((value, after)) => {
                out.push_str(value);
                rest = after;
            }
            None => {
                out.push('$');
                rest = after.strip_prefix('$').unwrap_or(after);
            }
        }
    }
    out + rest
}
