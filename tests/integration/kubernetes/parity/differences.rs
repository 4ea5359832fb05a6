//! What Outpost makes otherwise than KubeSpawner, each with its reason, as a change of what KubeSpawner makes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{HUB, INSTALLATION, SPAWNER, UID};

type Difference = (&'static str, fn(&mut Value, &Value));

/// The objects, by their names in the output of the script.
const OBJECTS: [&str; 5] = ["pod", "claim", "service", "secret", "namespace"];

/// In the words of `docs/kubespawner.md`.
pub const DIFFERENCES: &[Difference] = &[
    ("Objects carry the labels that Outpost finds its own by.", our_labels),
    ("Objects say in which namespace they are, where KubeSpawner puts it into the URL only.", namespace),
    (
        "The image that is taken where nobody chose one names no registry: the cluster's nodes know theirs.",
        |theirs, _| {
            const IMAGE: &str = "jupyterhub/singleuser:latest";
            let from_registry =
                |value: &Value| value.as_str().is_some_and(|image| image.ends_with(&format!("/{IMAGE}")));
            let container = &mut theirs["pod"]["spec"]["containers"][0];
            if from_registry(&container["image"]) {
                container["image"] = json!(IMAGE);
                for name in ["JUPYTER_IMAGE", "JUPYTER_IMAGE_SPEC"] {
                    *variable(theirs, name).unwrap() = json!(IMAGE);
                }
            }
        },
    ),
    ("No annotation has the version of a Python package.", |theirs, _| {
        each(theirs, "annotations", |annotations| {
            annotations.shift_remove("hub.jupyter.org/kubespawner-version");
            annotations.shift_remove("hub.jupyter.org/jupyterhub-version");
        });
    }),
    ("Options cannot give another name of the user or of the server than the hub's.", |theirs, case| {
        if case["options"]["extra_labels"]["hub.jupyter.org/username"] == "another" {
            each(theirs, "labels", |labels| {
                labels.insert("hub.jupyter.org/username".into(), json!("o-neil---a803dedb"));
            });
            each(theirs, "annotations", |annotations| {
                annotations.insert("hub.jupyter.org/servername".into(), case["server"].clone());
            });
        }
    }),
    ("A hub's labels join those of the site and replace none.", |theirs, case| {
        if case["misc"]["extra_labels"]["site"] == "of-the-hub" {
            each(theirs, "labels", |labels| drop(labels.insert("site".into(), json!("its"))));
        }
    }),
    ("A hub's variables stand as they are, whatever KubeSpawner or Kubernetes would read in them.", |theirs, _| {
        if let Some(price) = variable(theirs, "PRICE") {
            *price = json!("{username} pays $$(HOME) $$$$5");
        }
    }),
    (
        "What a hub's options say about resources and places wins over a profile, since admission counted it.",
        |theirs, case| {
            if case["misc"]["node_selector"]["zone"] == "b" {
                *variable(theirs, "MEM_LIMIT").unwrap() = json!("2147483648");
                let spec = &mut theirs["pod"]["spec"];
                spec["containers"][0]["resources"]["limits"]["memory"] = json!("2147483648");
                spec["nodeSelector"]["zone"] = json!("b");
                spec["tolerations"].as_array_mut().unwrap().push(case["misc"]["tolerations"][0].clone());
            }
        },
    ),
    ("A name that is too long for a service is cut, with a hash behind it.", |theirs, _| {
        let name = &mut theirs["pod"]["metadata"]["name"];
        if name.as_str().is_some_and(|name| name.len() > 63) {
            *name = json!("a-user-whose-name-is-as-long-as-those---8e2e7e95--on---9e775f94");
        }
    }),
    ("A user's namespace says whose it is, and is not that of other users.", |theirs, case| {
        if let Some(metadata) = theirs.pointer_mut("/namespace/metadata") {
            metadata["labels"]["outpost.jupyter.org/hub"] = json!(HUB);
            metadata["annotations"]["hub.jupyter.org/username"] = case["user"].clone();
        }
    }),
    ("A pod has no variables with the services of others, unless `extra_pod_config` says so.", |theirs, _| {
        let spec = theirs["pod"]["spec"].as_object_mut().unwrap();
        spec.entry("enableServiceLinks").or_insert(json!(false));
    }),
    ("A claim has its class in its spec only, not also in an annotation of old.", |theirs, _| {
        each(theirs, "annotations", |annotations| {
            annotations.shift_remove("volume.beta.kubernetes.io/storage-class");
        });
    }),
    ("Amounts are texts, the form that the API server answers with.", |theirs, _| {
        for key in ["limits", "requests"] {
            if let Some(Value::Object(amounts)) = theirs.pointer_mut(&format!("/pod/spec/containers/0/resources/{key}"))
            {
                for amount in amounts.values_mut().filter(|amount| amount.is_number()) {
                    let number = amount.as_f64().unwrap();
                    *amount = json!(number.to_string());
                }
            }
        }
    }),
    ("Secret variables and certificates are in one secret, which the pod refers to.", secret),
    ("A secret volume can be read, but not written or executed.", |theirs, _| {
        if let Some(volume) = certificates(theirs) {
            volume["defaultMode"] = json!(0o444);
        }
    }),
    ("Owners are added when the pod has its identifier.", |theirs, _| {
        for object in OBJECTS {
            if let Some(metadata) = theirs.pointer_mut(&format!("/{object}/metadata")) {
                metadata.as_object_mut().unwrap().shift_remove("ownerReferences");
            }
        }
    }),
    ("A service leads to the one pod with the server's identifier.", |theirs, _| {
        if let Some(selector) = theirs.pointer_mut("/service/spec/selector") {
            *selector = json!({"outpost.jupyter.org/server": UID});
        }
    }),
];

fn each(theirs: &mut Value, key: &str, change: impl Fn(&mut Map<String, Value>)) {
    for object in OBJECTS.into_iter().filter(|object| *object != "namespace") {
        if let Some(Value::Object(map)) = theirs.pointer_mut(&format!("/{object}/metadata/{key}")) {
            change(map);
        }
    }
}

/// The value of a variable of the server.
fn variable<'a>(theirs: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let variables = theirs.pointer_mut("/pod/spec/containers/0/env")?.as_array_mut()?;
    variables.iter_mut().find(|variable| variable["name"] == name).map(|variable| &mut variable["value"])
}

fn our_labels(theirs: &mut Value, _: &Value) {
    for object in OBJECTS {
        let Some(metadata) = theirs.pointer_mut(&format!("/{object}/metadata")) else { continue };
        let labels = &mut metadata["labels"];
        labels["app.kubernetes.io/managed-by"] = json!("outpost");
        labels["outpost.jupyter.org/installation"] = json!(INSTALLATION);
        labels["outpost.jupyter.org/spawner"] = json!(SPAWNER);
        if object != "namespace" {
            labels["outpost.jupyter.org/hub"] = json!(HUB);
        }
        if !["namespace", "claim"].contains(&object) {
            labels["outpost.jupyter.org/server"] = json!(UID);
        }
    }
}

fn namespace(theirs: &mut Value, case: &Value) {
    let namespace = match &theirs["namespace"]["metadata"]["name"] {
        Value::String(own) => own.clone(),
        _ => case["options"]["namespace"].as_str().unwrap_or("default").to_owned(),
    };
    for object in OBJECTS.into_iter().filter(|object| *object != "namespace") {
        if let Some(metadata) = theirs.pointer_mut(&format!("/{object}/metadata")) {
            metadata["namespace"] = json!(namespace);
        }
    }
}

/// The volume of certificates.
fn certificates(theirs: &mut Value) -> Option<&mut Value> {
    let volumes = theirs.pointer_mut("/pod/spec/volumes")?.as_array_mut()?;
    Some(&mut volumes.iter_mut().find(|volume| volume["name"] == "jupyterhub-internal-certs")?["secret"])
}

fn secret(theirs: &mut Value, case: &Value) {
    let name = match &case["options"]["secret_name_template"] {
        Value::String(_) => theirs["secret"]["metadata"]["name"].clone(),
        _ => json!(format!("outpost-{}", UID.to_ascii_lowercase())),
    };
    let mut data = theirs["secret"]["data"].as_object().cloned().unwrap_or_default();
    for variable in theirs.pointer_mut("/pod/spec/containers/0/env").unwrap().as_array_mut().unwrap() {
        let key = variable["name"].as_str().unwrap().to_owned();
        if let Some(text) =
            variable["value"].as_str().filter(|_| ["TOKEN", "AUTH"].iter().any(|sign| key.contains(sign)))
        {
            data.insert(key.clone(), json!(STANDARD.encode(text)));
            *variable = json!({"name": key, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}});
        }
    }
    if let Some(volume) = certificates(theirs) {
        let files = ["ssl.key", "ssl.crt", "notebooks-ca_trust.crt"];
        *volume = json!({
            "secretName": name, "defaultMode": volume["defaultMode"], "items": files.map(|file| json!({"key": file, "path": file})),
        });
    }
    // It is labelled as a service is.
    let mut metadata = theirs["service"]["metadata"].clone();
    if metadata.is_null() {
        metadata = theirs["pod"]["metadata"].clone();
        for label in ["app.kubernetes.io/component", "component", "hub.jupyter.org/servername"] {
            metadata["labels"].as_object_mut().unwrap().shift_remove(label);
        }
    }
    metadata["name"] = name;
    theirs["secret"] = json!({"metadata": metadata, "data": data});
}
