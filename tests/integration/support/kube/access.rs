//! Who may do what in the cluster: accounts with roles, as a site's administrator makes them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{Api, PostParams};
use outpost::spawner::kubernetes::check::check;
use outpost::spawner::kubernetes::rights::{Rule, Scope, rules};
use outpost::spawner::kubernetes::settings::Settings;
use serde_json::{Value, json};

use super::{Cluster, create, read};
use crate::support::eventually;

const RBAC: &str = "rbac.authorization.k8s.io";

/// An account of the cluster.
pub struct Account {
    /// As the cluster knows it.
    pub user: String,
    /// A kubeconfig with its token.
    pub kubeconfig: PathBuf,
}

impl Cluster {
    /// The token of an account of the namespace that may do what the rules of a `Role` say.
    pub async fn token(&self, namespace: &str, rules: &Value) -> String {
        let name = self.account(namespace).await;
        self.allow(&name, namespace, Some(namespace), rules).await;
        self.token_of(namespace, &name).await
    }

    /// An account of the namespace `home` that may do what a backend with these settings says that it needs, and nothing else.
    pub async fn permitted(&self, home: &str, settings: &Settings) -> Account {
        let name = self.account(home).await;
        let mut places: BTreeMap<Option<String>, Vec<Value>> = BTreeMap::new();
        for Rule { scope, group, resource, verbs, .. } in rules(settings) {
            let rule = json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
            let scopes = match scope {
                Scope::Cluster => vec![None],
                Scope::Namespaces(names) => names.into_iter().map(Some).collect(),
            };
            scopes.into_iter().for_each(|place| places.entry(place).or_default().push(rule.clone()));
        }
        for (place, rules) in &places {
            self.allow(&name, home, place.as_deref(), &json!(rules)).await;
        }
        let account = Account {
            user: format!("system:serviceaccount:{home}:{name}"),
            kubeconfig: self.kubeconfig(&self.token_of(home, &name).await),
        };
        let settings = Settings { kubeconfig: Some(account.kubeconfig.clone()), ..settings.clone() };
        // The API server's view of roles lags by a moment.
        eventually("the roles are in force", || async {
            check(&settings).await.unwrap().iter().all(|right| right.allowed).then_some(())
        })
        .await;
        account
    }

    async fn account(&self, namespace: &str) -> String {
        let name = format!("outpost-{}", rand::random_range(0..u32::MAX));
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin().await, namespace);
        create(accounts, json!({"metadata": {"name": name}})).await;
        name
    }

    /// Binds a role with these rules, in a namespace or in the whole cluster, to an account of the namespace `home`.
    async fn allow(&self, name: &str, home: &str, place: Option<&str>, rules: &Value) {
        let admin = self.admin().await;
        let role = json!({"metadata": {"name": name}, "rules": rules});
        let binding = |kind: &str| {
            json!({
                "metadata": {"name": name},
                "roleRef": {"apiGroup": RBAC, "kind": kind, "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": home}],
            })
        };
        match place {
            Some(namespace) => {
                create::<Role>(Api::namespaced(admin.clone(), namespace), role).await;
                create::<RoleBinding>(Api::namespaced(admin, namespace), binding("Role")).await;
            }
            None => {
                create::<ClusterRole>(Api::all(admin.clone()), role).await;
                create::<ClusterRoleBinding>(Api::all(admin), binding("ClusterRole")).await;
            }
        }
    }

    /// A token of an account, as its pods have it.
    pub async fn token_of(&self, namespace: &str, name: &str) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin().await, namespace);
        let request: TokenRequest = read(json!({"metadata": {}, "spec": {"audiences": []}}));
        let request = accounts.create_token_request(name, &PostParams::default(), &request).await.unwrap();
        request.status.unwrap().token.unwrap()
    }
}
