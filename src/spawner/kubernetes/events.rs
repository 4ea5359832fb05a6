//! The cluster's events about one pod: what a user reads of them, and what they say about images.

use serde::Deserialize;

use super::api::one_line;

/// An event, trimmed to what this backend has to know.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Line {
    /// Which state of the event this is.
    pub metadata: Metadata,
    /// What it is about.
    #[serde(rename = "involvedObject")]
    pub object: Object,
    /// The word for what happened: `Pulling`.
    pub reason: String,
    /// What happened.
    pub message: String,
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// An event's metadata.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    /// Of this state of it.
    pub resource_version: String,
}

/// What an event is about.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct Object {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The cluster's identifier of it.
    pub uid: String,
}

impl Line {
    /// Whether it says what `other` says, if about another moment.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.object.uid, &self.reason, &self.message) == (&other.object.uid, &other.reason, &other.message)
    }

    /// What the user reads; `None`: the pod itself tells it.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let message = one_line(&self.message);
        Some(match (&*self.reason, self.image()) {
            ("Scheduled" | "Created" | "Started", _) => return None,
            ("Pulling", Some(image)) => format!("Pulling the image {image}."),
            ("Pulled", Some(image)) if message.contains("already present") => {
                format!("The image {image} is there already.")
            }
            ("Pulled", Some(image)) => match (after(&message, " in "), self.size()) {
                (Some(time), Some(size)) => format!("The image {image} was pulled in {time} ({size})."),
                (Some(time), None) => format!("The image {image} was pulled in {time}."),
                (None, _) => format!("The image {image} was pulled."),
            },
            ("FailedScheduling", _) => format!("No place for the server yet: {message}"),
            ("TriggeredScaleUp", _) => "The cluster adds a node for the server.".to_owned(),
            ("NotTriggerScaleUp", _) => format!("The cluster adds no node for the server: {message}"),
            ("SuccessfulAttachVolume", _) => "A volume was attached.".to_owned(),
            _ if self.kind == "Warning" => format!("Warning: {message}"),
            _ => message,
        })
    }

    /// The image that the message quotes.
    fn image(&self) -> Option<&str> {
        self.message.split('"').nth(1).filter(|image| !image.is_empty())
    }

    fn size(&self) -> Option<String> {
        let bytes: u64 = after(&self.message, "Image size: ")?.parse().ok()?;
        Some(match bytes >> 20 {
            0 => format!("{bytes} bytes"),
            mebibytes if mebibytes < 10_000 => format!("{mebibytes} MiB"),
            mebibytes => format!("{} GiB", mebibytes >> 10),
        })
    }
}

/// The word after `mark`.
fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(mark)?;
    rest.split([' ', '(']).next().map(|word| word.trim_end_matches(['.', ','])).filter(|word| !word.is_empty())
}

/// Whether an image is being pulled, after these events, for the first time: the time that takes is not the server's.
pub fn is_pulling<'a>(lines: impl IntoIterator<Item = &'a Line>) -> bool {
    let mut pulling: Vec<&str> = Vec::new();
    for line in lines {
        match (&*line.reason, line.image()) {
            ("Pulling", Some(image)) => pulling.push(image),
            ("Pulled" | "Failed" | "BackOff", Some(image)) => pulling.retain(|known| *known != image),
            _ => {}
        }
    }
    !pulling.is_empty()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn line(reason: &str, message: &str) -> Line {
        Line { reason: reason.to_owned(), message: message.to_owned(), ..Line::default() }
    }

    #[rstest]
    #[case("Scheduled", "Successfully assigned a/b to node", None)]
    #[case("Pulling", "Pulling image \"x:1\"", Some("Pulling the image x:1."))]
    #[case("Pulled", "Container image \"x:1\" already present on machine", Some("The image x:1 is there already."))]
    #[case(
        "Pulled",
        "Successfully pulled image \"x:1\" in 1.5s (1.5s including waiting). Image size: 134217728 bytes.",
        Some("The image x:1 was pulled in 1.5s (128 MiB).")
    )]
    #[case("Pulled", "Successfully pulled image \"x:1\" in 3m2.5s", Some("The image x:1 was pulled in 3m2.5s."))]
    #[case("Pulled", "Successfully pulled image \"x:1\"", Some("The image x:1 was pulled."))]
    #[case("FailedScheduling", "0/1 nodes are available", Some("No place for the server yet: 0/1 nodes are available"))]
    #[case("SomethingNew", "It\nhappened", Some("It happened"))]
    fn events_have_words(#[case] reason: &str, #[case] message: &str, #[case] words: Option<&str>) {
        assert_eq!(line(reason, message).words().as_deref(), words);
    }

    #[test]
    fn warnings_are_warnings() {
        let line = Line { kind: "Warning".to_owned(), ..line("FailedMount", "No volume.") };
        assert_eq!(line.words().unwrap(), "Warning: No volume.");
    }

    #[test]
    fn pulling_has_an_end() {
        let (pulling, other) = (line("Pulling", "Pulling image \"x\""), line("Pulling", "Pulling image \"y\""));
        let pulled = line("Pulled", "Successfully pulled image \"x\" in 1s");
        let failed = line("Failed", "Failed to pull image \"x\": no such host");
        assert!(!is_pulling([]) && is_pulling([&pulling]));
        assert!(!is_pulling([&pulling, &pulled]) && !is_pulling([&pulling, &failed]));
        assert!(is_pulling([&pulling, &other, &pulled]));
    }

    #[test]
    fn an_event_is_read_as_servers_send_it() {
        let json = r#"{"kind":"Event","metadata":{"name":"a.1","creationTimestamp":null,"resourceVersion":"7"},
            "involvedObject":{"kind":"Pod","namespace":"n","name":"a","uid":"u","fieldPath":"spec.containers{notebook}"},
            "reason":"Pulling","message":"m","source":{},"firstTimestamp":null,"eventTime":null,"type":"Normal"}"#;
        let line: Line = serde_json::from_str(json).unwrap();
        assert_eq!((&*line.object.name, &*line.metadata.resource_version, &*line.kind), ("a", "7", "Normal"));
    }
}
