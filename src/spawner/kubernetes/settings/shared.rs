//! Volumes that users of the same name on several hubs would share.

use serde_json::{Map, Value};

use super::Settings;

impl Settings {
    /// The options in which a directory or a claim is a user's by the name alone, which a user of another hub can have, too.
    pub fn shared_volumes(&self) -> impl Iterator<Item = &'static str> {
        ["volumes", "volume_mounts"].into_iter().filter(|key| {
            let is_shared = |options: &Map<String, Value>| options.get(*key).is_some_and(|value| is_shared(value, ""));
            is_shared(&self.options) || self.overrides().any(|options| is_shared(&options))
        })
    }
}

/// Whether a text in here has a field of the user and none of the hub. Names of volumes and where they are mounted do not matter.
fn is_shared(value: &Value, key: &str) -> bool {
    match value {
        Value::String(text) if !["name", "mountPath", "mount_path"].contains(&key) => {
            let mut fields = text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(field, _)| field);
            fields.clone().any(|field| field.contains("user"))
                && !fields.any(|field| ["hub", "pod_name", "pvc_name", "uid"].contains(&field))
        }
        Value::Array(list) => list.iter().any(|value| is_shared(value, key)),
        Value::Object(object) => object.iter().any(|(key, value)| is_shared(value, key)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "claim-{username}"}}]}), &["volumes"])]
    #[case(json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "{pvc_name}"}}]}), &[])]
    #[case(json!({"volumes": {"home": {"name": "volume-{user_server}", "emptyDir": {}}}}), &[])]
    #[case(json!({"volume_mounts": [{"name": "v", "mountPath": "/home/{username}", "subPath": "{hub}/{username}"}]}), &[])]
    #[case(json!({"volume_mounts": [{"name": "v", "mountPath": "/home", "subPath": "{userid}"}]}), &["volume_mounts"])]
    #[case(json!({"profile_list": [{"display_name": "p", "kubespawner_override":
        {"volume_mounts": [{"name": "v", "mountPath": "/home", "subPath": "{username}"}]}}]}), &["volume_mounts"])]
    fn volumes_of_a_name_are_shared(#[case] settings: Value, #[case] expected: &[&str]) {
        let settings: Settings = serde_json::from_value(settings).unwrap();
        assert_eq!(settings.shared_volumes().collect::<Vec<_>>(), expected);
    }
}
