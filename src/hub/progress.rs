//! Progress events of one start, in order, without ever holding anybody up.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::{Callbacks, Called, Hub};
use crate::clock::Clock;
use crate::spawner::ProgressEvent;

/// More lines than this waiting for a slow hub are left out: the newest matter.
const BACKLOG: usize = 50;

/// `JupyterHub`'s forwarding spawner looks for new lines once a second, and itself waits twice that long before it fails.
const READING_TIME: Duration = Duration::from_secs(2);

/// The last word about a server.
#[derive(Clone, Debug)]
pub enum Report {
    /// The start failed: the hub cancels the spawn and shows the reason. The hub answers this only after it has stopped
    /// the server, that is after its own DELETE was answered.
    Failed {
        /// The reason, plain text.
        message: String,
        /// The last log lines.
        logs: Vec<String>,
        /// Whether the hub has to be told that it failed. A synchronous start says so in its answer, which has no place for
        /// log lines.
        asynchronous: bool,
    },
    /// Something about a server that runs.
    Notice {
        /// A sentence, plain text.
        message: String,
    },
    /// The server ended by itself after it had run.
    Ended {
        /// How, plain text.
        message: String,
        /// The last log lines.
        logs: Vec<String>,
    },
}

/// Sends what a start says to its hub.
#[derive(Debug)]
pub struct Reporter {
    /// The hub.
    pub hub: Arc<Hub>,
    /// Where and how.
    pub callbacks: Callbacks,
    /// For the time in a failure's headline.
    pub clock: Clock,
}

impl Reporter {
    /// Sends each line as it comes, then the last word if there is one. A hub that refuses a line gets no more lines, but
    /// the last word all the same.
    pub async fn run(self, mut lines: mpsc::UnboundedReceiver<ProgressEvent>, last: oneshot::Receiver<Report>) {
        let mut listening = self.callbacks.events.is_some();
        while let Some(line) = lines.recv().await {
            if !listening || lines.len() > BACKLOG {
                continue;
            }
            let mut body = json!({ "progress": line.progress, "message": line.message });
            // The plugin makes HTML of a message that comes without, and escapes nothing.
            let escaped = escape_html(&line.message);
            if escaped != line.message
                && let Some(body) = body.as_object_mut()
            {
                body.insert("html_message".to_owned(), escaped.into());
            }
            listening = self.send(&body, 2).await == Called::Ok;
        }
        if let Ok(report) = last.await {
            self.last_word(&report).await;
        }
    }

    /// Sends the last word about a server.
    pub async fn last_word(&self, report: &Report) {
        let now = self.clock.now().format("%Y-%m-%d %H:%M:%S%.3f");
        match report {
            Report::Failed { message, logs, asynchronous } => {
                let reason = format!("JupyterHub Outpost could not start service: {message}");
                // The failed event ends the page's stream of progress at once and is not part of it. So the reason goes
                // ahead as a line of its own, and gets the time that the stream needs to show it.
                let html = details("<details>", &reason, logs);
                let told = self.send(&json!({ "progress": 99, "message": message, "html_message": html }), 2).await;
                if !asynchronous {
                    return;
                }
                if told == Called::Ok {
                    tokio::time::sleep(READING_TIME).await;
                }
                let html = details("<details>", &format!("{now}: {reason}"), logs);
                self.send(&json!({ "failed": true, "progress": 100, "html_message": html }), 4).await;
            }
            Report::Notice { message } => {
                let html = details("<details open>", &format!("{now}: {message}"), &[]);
                self.send(&json!({ "progress": 99, "message": message, "html_message": html }), 4).await;
            }
            Report::Ended { message, logs } => {
                let html = details("<details open>", &format!("{now}: {message}"), logs);
                self.send(&json!({ "progress": 99, "html_message": html }), 4).await;
            }
        }
    }

    async fn send(&self, body: &Value, tries: u32) -> Called {
        match &self.callbacks.events {
            Some(url) => self.hub.post("event", &self.callbacks, url, &self.callbacks.token, body, tries).await,
            None => Called::Ok,
        }
    }
}

fn details(tag: &str, headline: &str, lines: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| escape_html(line)).collect();
    format!("{tag}<summary>{}</summary>{}</details>", escape_html(headline), lines.join("<br>"))
}

/// Text as HTML that shows it.
#[must_use]
pub fn escape_html(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            char if char.is_control() && char != '\t' => html.push(' '),
            char => html.push(char),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_message_is_markup() {
        let html = details("<details>", "<script>alert('x')</script>", &["a & b\u{1b}[31m".to_owned(), "c".to_owned()]);
        assert_eq!(
            html,
            "<details><summary>&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;</summary>a &amp; b [31m<br>c</details>"
        );
    }
}
