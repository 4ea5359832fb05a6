//! To which servers a hub is asked for tunnels: `ssh_recreate_at_start`.

use serde_json::{Value, json};

use super::expression::{Expression, Purpose, Variables};
use crate::hub::Recreate;
use crate::model::Server;

/// The servers that a hub is asked for tunnels to.
#[derive(Clone, Debug, PartialEq)]
pub enum WantedTunnels {
    /// All or none.
    Always(bool),
    /// Those for which the expression is true.
    When(Box<Expression>),
}

impl WantedTunnels {
    /// Compiles the setting.
    ///
    /// # Errors
    /// A sentence: the expression is none.
    pub fn parse(setting: &Recreate) -> Result<Self, String> {
        Ok(match setting {
            Recreate::Always(always) => Self::Always(*always),
            Recreate::When(source) => Self::When(Box::new(Expression::parse(source, Purpose::Tunnel)?)),
        })
    }

    /// Whether the hub is asked for the tunnel to a server of a user in these groups.
    ///
    /// # Errors
    /// Why the expression gives neither true nor false, for the log.
    pub fn has(&self, server: &Server, groups: &[String]) -> Result<bool, String> {
        let expression = match self {
            Self::Always(always) => return Ok(*always),
            Self::When(expression) => expression,
        };
        let mut variables = Variables::default();
        variables.set("hub", &(&*server.id.hub).into());
        variables.set("server", &described(server, groups));
        expression.holds(&variables)
    }
}

/// A server as expressions see it.
fn described(server: &Server, groups: &[String]) -> Value {
    json!({
        "name": &*server.id.name,
        "user": &*server.user,
        "groups": groups,
        "flavor": server.flavor.as_deref().unwrap_or_default(),
        "backend": &*server.handle.spawner,
        "address": &*server.address,
        "asynchronous": server.asynchronous,
        "start_date": server.start_date.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
    })
}

/// A server to try expressions on.
pub(super) fn sample() -> Value {
    json!({
        "name": "name", "user": "user", "groups": ["group"], "flavor": "flavor", "backend": "backend",
        "address": "host:8888", "asynchronous": true, "start_date": "2026-01-01T00:00:00Z",
    })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use rstest::rstest;

    use super::*;
    use crate::model::{Handle, Need, Phase, ServerId, Tunnel, Uid};

    fn server() -> Server {
        let start_date = DateTime::from_timestamp_secs(1_800_000_000).unwrap();
        Server {
            uid: Uid::generate(),
            id: ServerId::new("hub1", "lab", "0"),
            user_id: 7,
            user: "ada".into(),
            flavor: Some("gpu".into()),
            need: Need::default(),
            runtime: None,
            phase: Phase::Running,
            generation: 1,
            owner: "me".into(),
            handle: Handle { spawner: "cluster".into(), state: Value::Null },
            asynchronous: true,
            address: "10.1.2.3:8888".into(),
            target: "".into(),
            tunnel: Tunnel::default(),
            exit: None,
            start_date,
            end_date: None,
            last_update: start_date,
        }
    }

    fn wanted(source: &str) -> Result<WantedTunnels, String> {
        WantedTunnels::parse(&Recreate::When(source.to_owned()))
    }

    #[rstest]
    #[case("true", true)]
    #[case("hub == 'hub1' && server.user == 'ada' && server.name == 'lab'", true)]
    #[case("server.backend != 'cluster'", false)]
    #[case("'staff' in server.groups && server.flavor == 'gpu'", true)]
    #[case("server.address.startsWith('10.') && server.asynchronous", true)]
    #[case("server.start_date < '2026-12-01'", false)]
    fn expressions_choose(#[case] source: &str, #[case] expected: bool) {
        assert_eq!(wanted(source).unwrap().has(&server(), &["staff".to_owned()]), Ok(expected), "{source}");
    }

    #[test]
    fn mistakes_are_told_and_failures_are_none() {
        for source in ["server.user", "user == 'x'", "server.user ==", "hub.name == 'x'"] {
            assert!(wanted(source).unwrap_err().contains(source), "{source}");
        }
        let fails = wanted("server.no == 'x'").unwrap().has(&server(), &[]);
        assert!(fails.unwrap_err().contains("is not there"));
        assert_eq!(WantedTunnels::parse(&Recreate::Always(false)).unwrap().has(&server(), &[]), Ok(false));
    }

    #[test]
    fn the_sample_has_all_keys() {
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&sample()), keys(&described(&server(), &[])));
    }
}
