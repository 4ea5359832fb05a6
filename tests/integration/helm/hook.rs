//! `helm test`: the pod of the hook is run here, with the program, against a daemon that has the release's configuration and
//! the release's account. The servers that it starts are pods of the same cluster.

use std::process::{Command, Output};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::account::reaching;
use super::mounted::{Mounted, Sources};
use crate::support::daemon::{Daemon, text};
use crate::support::eventually;
use crate::support::helm::{Answer, Helm, Release, Rendered};
use crate::support::kube::kubelet::{starts, waits};
use crate::support::kube::{Cluster, Kubelet, Step};

/// An installed release, and the daemon that its pod would be.
struct Installed {
    release: Release,
    rendered: Rendered,
    daemon: Daemon,
    pods: Api<Pod>,
    claims: Api<PersistentVolumeClaim>,
    _mounted: Mounted,
    _kubelet: Kubelet,
}

impl Installed {
    /// Pods of servers do as the script says.
    async fn new(helm: &Helm, cluster: &Cluster, script: fn() -> Vec<Step>) -> Self {
        let release = Release::new(helm, cluster, "outpost").await;
        release.install("").unwrap();
        let rendered = release.render("");
        let is_hook = |pod: &Pod| pod.annotations().contains_key("helm.sh/hook");
        let script = move |pod: &Pod| if is_hook(pod) { vec![Step::Bind] } else { script() };
        let kubelet = Kubelet::start(cluster, &release.namespace, script).await;
        let kubeconfig = cluster.kubeconfig(&cluster.token_of(&release.namespace, "outpost").await);
        let mounted = reaching(&rendered, &Sources::of(&rendered.objects), &kubeconfig);
        let mut config = mounted.config();
        // These are the test's own.
        config.remove("state_dir");
        for section in ["http", "tasks"] {
            config.remove(section);
        }
        let mut daemon = Daemon::new(&config.to_string());
        daemon.set("usernames", None);
        daemon.set("passwords", None);
        daemon.spawn();
        daemon.up().await;
        eventually("it sees its servers", || async {
            daemon.admin("/readyz").send().await.ok().filter(|answer| answer.status().is_success())
        })
        .await;
        let admin = cluster.admin().await;
        let pods = Api::namespaced(admin.clone(), &release.namespace);
        let claims = Api::namespaced(admin, &release.namespace);
        Self { release, rendered, daemon, pods, claims, _mounted: mounted, _kubelet: kubelet }
    }

    /// What Helm says about the test of the release, and what the program said in it.
    async fn test(&self) -> (Answer, String) {
        let release = self.release.clone();
        let testing = tokio::task::spawn_blocking(move || release.test());
        let output = self.play_hook().await;
        let answer = testing.await.unwrap();
        assert_eq!(answer.is_ok(), output.status.success(), "{answer:?}");
        (answer, text(&output.stdout) + &text(&output.stderr))
    }

    /// Plays the kubelet of the hook's pod, once that is there.
    async fn play_hook(&self) -> Output {
        let pod = eventually("there is a pod of the test", || async {
            let all = self.pods.list(&ListParams::default()).await.unwrap();
            all.into_iter().find(|pod| pod.annotations().contains_key("helm.sh/hook"))
        })
        .await;
        let mounted = Mounted::pod(&pod, &Sources::of(&self.rendered.objects));
        let mut command = mounted.command(&[]);
        command.args(self.at_the_daemon(mounted.arguments()));
        let output = output(command).await;
        let phase = if output.status.success() { "Succeeded" } else { "Failed" };
        let status = Patch::Merge(json!({"status": {"phase": phase}}));
        self.pods.patch_status(&pod.name_any(), &PatchParams::default(), &status).await.unwrap();
        output
    }

    /// The arguments with the daemon's address in place of that of the service, which has to lead to the container.
    fn at_the_daemon(&self, arguments: Vec<String>) -> Vec<String> {
        let service = self.rendered.of_kind("Service").find(|one| one["metadata"]["name"] == "outpost").unwrap();
        let port = &service["spec"]["ports"][0];
        let container = &self.rendered.only("Deployment")["spec"]["template"]["spec"]["containers"][0];
        let is_meant = |one: &&Value| one["name"] == port["targetPort"] || one["containerPort"] == port["targetPort"];
        let target = container["ports"].as_array().unwrap().iter().find(is_meant).unwrap();
        assert!(self.rendered.config().contains(&format!("listen = \"0.0.0.0:{}\"", target["containerPort"])));
        let url = format!("http://outpost.{}:{}", self.release.namespace, port["port"]);
        assert!(arguments.iter().any(|argument| argument.contains(&url)), "{url}: {arguments:?}");
        arguments.iter().map(|argument| argument.replace(&url, &self.daemon.url)).collect()
    }

    /// Nothing of a server is left, but for its volume.
    async fn assert_is_tidy(&self) {
        assert_eq!(self.daemon.rows().await, [json!(null); 0]);
        let claims = self.claims.list(&ListParams::default()).await.unwrap();
        let of_users = claims.iter().filter(|claim| claim.name_any() != "outpost").count();
        assert_eq!(of_users, 1, "the chart switches claims on");
    }
}

async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn helm_test_starts_a_server_and_stops_it() {
    let (Some(helm), Some(cluster)) = (Helm::engine(), Cluster::shared().await) else { return };
    let installed = Installed::new(&helm, cluster, starts).await;
    let (answer, said) = installed.test().await;
    assert!(answer.is_ok(), "{answer:?}: {said}");
    installed.assert_is_tidy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn helm_test_fails_where_no_server_starts() {
    let (Some(helm), Some(cluster)) = (Helm::engine(), Cluster::shared().await) else { return };
    let pulls_nothing = || waits("InvalidImageName", "couldn't parse image reference");
    let installed = Installed::new(&helm, cluster, pulls_nothing).await;
    let (answer, said) = installed.test().await;
    assert!(answer.is_err() && said.contains("image"), "{answer:?}: {said}");
    installed.assert_is_tidy().await;
}
