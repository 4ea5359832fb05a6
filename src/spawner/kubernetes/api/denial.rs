//! What the cluster's API answers when it does not do what was asked: whether asking again helps, and the sentence that a
//! user reads.

use std::fmt;
use std::time::Duration;

use kube::core::Status;
use kube::core::response::StatusDetails;

/// A request that was not done.
#[derive(Debug)]
pub struct ApiError {
    /// The verb, in the words of RBAC.
    pub verb: &'static str,
    /// The resource: `pods`.
    pub resource: String,
    /// The namespace, unless it is the cluster that was asked about.
    pub namespace: Option<String>,
    /// Why.
    pub fault: Fault,
}

/// Why a request was not done.
#[derive(Debug)]
pub enum Fault {
    /// The API server answered with an error.
    Denied(Box<Status>),
    /// No answer came.
    Silent(String),
    /// What came, or what was to be sent, cannot be understood.
    Unsound(String),
}

impl Fault {
    /// An answer that is no success; `retry_after` in seconds.
    #[must_use]
    pub fn answer(code: u16, retry_after: Option<u32>, body: &[u8]) -> Self {
        let mut status = serde_json::from_slice::<Status>(body).unwrap_or_else(|_| {
            // A proxy in between speaks HTML.
            Status::failure(&one_line(&String::from_utf8_lossy(body)), "")
        });
        if let Some(seconds) = retry_after {
            let none = || StatusDetails {
                name: String::new(),
                group: String::new(),
                kind: String::new(),
                uid: String::new(),
                causes: Vec::new(),
                retry_after_seconds: 0,
            };
            status.details.get_or_insert_with(none).retry_after_seconds = seconds;
        }
        Self::Denied(status.with_code(code).boxed())
    }
}

impl ApiError {
    /// Something that was asked for and did not happen in time.
    #[must_use]
    pub fn late(verb: &'static str, resource: &str, namespace: &str) -> Self {
        let fault = Fault::Silent("it has not happened yet".to_owned());
        Self { verb, resource: resource.to_owned(), namespace: Some(namespace.to_owned()), fault }
    }

    /// The HTTP status of the answer, if there was one.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        self.status().map(|status| status.code)
    }

    fn status(&self) -> Option<&Status> {
        match &self.fault {
            Fault::Denied(status) => Some(status),
            Fault::Silent(_) | Fault::Unsound(_) => None,
        }
    }

    fn message(&self) -> &str {
        self.status().map_or("", |status| &status.message)
    }

    /// Whether it says that there is no object of this name. A namespace that is missing is another matter, and so is a
    /// proxy that does not know the path.
    #[must_use]
    pub fn is_absence_of(&self, name: &str) -> bool {
        self.status().is_some_and(|status| {
            let about = status.details.as_ref().map(|details| (&*details.name, &*details.kind));
            status.code == 404
                && about.is_some_and(|(of, kind)| of == name && (kind != "namespaces" || self.resource == kind))
        })
    }

    /// Whether another object has the name. A webhook may deny with the same code, and another reason.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(|status| status.code == 409 && status.reason == "AlreadyExists")
    }

    /// Whether the same request may be answered otherwise in a moment.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match &self.fault {
            Fault::Denied(status) => match status.code {
                401 | 408 | 429 | 500.. => true,
                // The API server says what is not there; a proxy does not.
                404 => status.details.is_none(),
                // Two starts wanted the same quota's last version.
                409 => status.reason == "Conflict",
                // Namespaces get their service account a moment after they are made.
                403 => status.message.contains("serviceaccount \"default\" not found"),
                _ => false,
            },
            Fault::Silent(_) | Fault::Unsound(_) => true,
        }
    }

    /// How long the API server wants to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.status()?.details.as_ref()?.retry_after_seconds;
        (seconds > 0).then(|| Duration::from_secs(seconds.into()))
    }

    /// What the user reads. What only administrators can understand is in the log, through [`fmt::Display`].
    #[must_use]
    pub fn sentence(&self) -> String {
        let message = self.message();
        let place = self.namespace.as_ref().map(|name| format!(" in the namespace \"{name}\"")).unwrap_or_default();
        if let Some((_, said)) = message.split_once("denied the request:") {
            return format!("The cluster refused your server: {}", one_line(said));
        }
        if let Some((_, quota)) = message.split_once("exceeded quota: ") {
            return format!(
                "Your server does not fit into what is left of the quota{place} of the cluster: {}. Please ask for less, stop other servers, or tell the administrators of this system.",
                one_line(quota)
            );
        }
        if let Some((_, violations)) = message.split_once("violates PodSecurity ") {
            return format!(
                "The cluster's security rules do not allow your server: {}. Please tell the administrators of this system.",
                one_line(violations)
            );
        }
        match self.code() {
            Some(403) if message.contains(" cannot ") || message.is_empty() => format!(
                "Outpost may not {} {}{place} of the cluster. Please tell the administrators of this system: its role has to allow the verb \"{}\" for the resource \"{}\".",
                self.verb, self.resource, self.verb, self.resource
            ),
            Some(403) => {
                let said = message.split_once(" is forbidden: ").map_or(message, |(_, said)| said);
                format!("The cluster refused your server: {}", one_line(said))
            }
            Some(401) => {
                "The cluster does not accept the credentials of Outpost. Please tell the administrators of this system."
                    .to_owned()
            }
            Some(404) if message.starts_with("namespaces ") => {
                format!("There is no place for your server: {}. Please tell the administrators of this system.", one_line(message))
            }
            Some(429) => "The cluster is too busy to start your server just now. Please try again in a minute.".to_owned(),
            Some(400..500) => format!(
                "The cluster does not accept your server ({}). Please tell the administrators of this system.",
                one_line(message)
            ),
            _ => "The cluster did not answer in time. Please try again in a minute, and tell the administrators of this system if it stays like this.".to_owned(),
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if let Some(namespace) = &self.namespace {
            write!(f, " in {namespace}")?;
        }
        match &self.fault {
            Fault::Denied(status) => write!(f, ": {} {}", status.code, one_line(&status.message)),
            Fault::Silent(cause) => write!(f, ": no answer: {}", one_line(cause)),
            Fault::Unsound(cause) => write!(f, ": cannot be understood: {}", one_line(cause)),
        }
    }
}

/// Text of the cluster inside a sentence: one line, not too long.
#[must_use]
pub fn one_line(text: &str) -> String {
    const LONGEST: usize = 400;
    let text = text.trim();
    let mut out: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn error(code: u16, message: &str) -> ApiError {
        let body = json!({"kind": "Status", "code": code, "message": message, "details": {}}).to_string();
        ApiError {
            verb: "create",
            resource: "pods".to_owned(),
            namespace: Some("hub".to_owned()),
            fault: Fault::answer(code, None, body.as_bytes()),
        }
    }

    #[rstest]
    #[case(
        403,
        "pods is forbidden: User \"u\" cannot create resource \"pods\" in API group \"\" in the namespace \"hub\"",
        "Outpost may not create pods in the namespace \"hub\" of the cluster. Please tell the administrators of this system: its role has to allow the verb \"create\" for the resource \"pods\"."
    )]
    #[case(
        403,
        "pods \"a\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2",
        "Your server does not fit into what is left of the quota in the namespace \"hub\" of the cluster: q, requested: pods=1, used: pods=2, limited: pods=2. Please ask for less, stop other servers, or tell the administrators of this system."
    )]
    #[case(
        400,
        "admission webhook \"resources-validation-webhook.primehub.io\" denied the request: Group phusers exceeded cpu quota: 1",
        "The cluster refused your server: Group phusers exceeded cpu quota: 1"
    )]
    #[case(
        403,
        "pods \"a\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot != true",
        "The cluster's security rules do not allow your server: \"restricted:latest\": runAsNonRoot != true. Please tell the administrators of this system."
    )]
    #[case(
        403,
        "pods \"a\" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi",
        "The cluster refused your server: maximum memory usage per Container is 1Gi, but limit is 2Gi"
    )]
    #[case(
        404,
        "namespaces \"hub\" not found",
        "There is no place for your server: namespaces \"hub\" not found. Please tell the administrators of this system."
    )]
    #[case(
        422,
        "Pod \"a\" is invalid: spec.containers[0].image: Required value",
        "The cluster does not accept your server (Pod \"a\" is invalid: spec.containers[0].image: Required value). Please tell the administrators of this system."
    )]
    fn denials_are_sentences(#[case] code: u16, #[case] message: &str, #[case] sentence: &str) {
        let error = error(code, message);
        assert_eq!(error.sentence(), sentence);
        assert!(!error.may_pass());
    }

    #[rstest]
    #[case(401)]
    #[case(429)]
    #[case(500)]
    #[case(503)]
    fn some_pass(#[case] code: u16) {
        assert!(error(code, "busy").may_pass());
        assert!(error(code, "busy").sentence().ends_with('.'));
    }

    #[test]
    fn absence_is_of_the_object() {
        let about = |kind: &str, name: &str| {
            let body = json!({"code": 404, "message": "", "details": {"kind": kind, "name": name}}).to_string();
            let fault = Fault::answer(404, None, body.as_bytes());
            ApiError { fault, ..error(404, "") }.is_absence_of("a")
        };
        assert!(about("pods", "a") && !about("pods", "b") && !about("namespaces", "hub") && !about("namespaces", "a"));
        assert!(!error(404, "").is_absence_of("a") && !error(500, "").is_absence_of("a"));
        let of_proxy = ApiError { fault: Fault::answer(404, None, b"404 page not found"), ..error(404, "") };
        assert!(of_proxy.may_pass() && !of_proxy.is_absence_of("a"));
    }

    #[test]
    fn it_is_known_when_to_ask_again() {
        let body = json!({"message": "slow down", "details": {"retryAfterSeconds": 3}}).to_string();
        for fault in [Fault::answer(429, None, body.as_bytes()), Fault::answer(429, Some(3), b"Too many requests")] {
            assert_eq!(ApiError { fault, ..error(429, "") }.retry_after(), Some(Duration::from_secs(3)));
        }
        assert_eq!(error(429, "").retry_after(), None);
        let html = Fault::answer(502, None, b"<html>\nBad gateway</html>");
        assert_eq!(
            ApiError { fault: html, ..error(502, "") }.to_string(),
            "create pods in hub: 502 <html> Bad gateway</html>"
        );
    }
}
