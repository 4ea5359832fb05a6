//! `outpost check-config --cluster`.

use super::output::table;
use super::{FAILED, Failure, Outcome};
use crate::config::Config;
use crate::spawner::SpawnerSettings;
use crate::spawner::kubernetes::check;

/// Asks each cluster for the rights that its backend needs, and prints them.
pub(super) async fn check(config: &Config) -> Outcome {
    let mut mistakes = Vec::new();
    for (name, settings) in &config.spawners {
        let SpawnerSettings::Kubernetes(settings) = settings else { continue };
        println!("\nWhat [spawners.{name}] needs in its cluster:");
        let rights = match check::check(settings).await {
            Ok(rights) => rights,
            Err(mistake) => {
                mistakes.push(format!("spawners.{name}: {mistake}"));
                continue;
            }
        };
        let rows = rights.iter().map(|right| {
            let place = right.namespace.clone().unwrap_or_else(|| "(all)".to_owned());
            let allowed = if right.allowed { "yes" } else { "NO" };
            [allowed, right.verb, &right.resource, &place, right.reason].map(str::to_owned).to_vec()
        });
        table(&["ALLOWED", "VERB", "RESOURCE", "NAMESPACE", "WHAT FOR"], rows, "nothing");
        let missing = rights.iter().filter(|right| !right.allowed).map(|right| {
            let place = right.namespace.as_ref().map(|name| format!(" in {name}")).unwrap_or_default();
            format!("spawners.{name}: the cluster does not allow Outpost to {} {}{place}", right.verb, right.resource)
        });
        mistakes.extend(missing);
    }
    if mistakes.is_empty() { Ok(()) } else { Err(Failure(FAILED, mistakes.join("\n"))) }
}
