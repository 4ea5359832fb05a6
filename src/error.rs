//! One error for the whole crate, in domain words.
//!
//! What a caller may read and what the log gets are two things: the sentences in here are written for the person at
//! the browser, `cause` is written for the administrator and never leaves the log. HTTP statuses are chosen in
//! [`crate::http`] only.

use std::fmt::Display;

/// Short for a result with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong. Cloneable, because every request that waits for one start gets that start's error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The request is no service: `field` is the path of the offending field in the body, `expected` what belongs there.
    #[error("{field}: {expected}")]
    Invalid {
        /// Path of the field, for example `body.user_options.start_id`.
        field: String,
        /// What was expected there.
        expected: String,
    },
    /// No credentials, or wrong ones.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// No such service of this hub.
    #[error("Item not found")]
    NotFound,
    /// A rule or a limit says no.
    #[error("{0}")]
    Refused(String),
    /// The server could not be started; `logs` are its last log lines, oldest first.
    #[error("{message}")]
    Failed {
        /// The reason, as a sentence for the user.
        message: String,
        /// The last lines that the server wrote.
        logs: Vec<String>,
    },
    /// The start was cancelled by a stop.
    #[error("The start was cancelled because the server was stopped.")]
    Cancelled,
    /// Something that Outpost needs does not answer; trying again later can help.
    #[error("{message}")]
    Unavailable {
        /// What cannot be done just now, as a sentence for the user.
        message: &'static str,
        /// Why, for the log.
        cause: String,
    },
    /// A fault of Outpost itself or of its set-up.
    #[error(
        "Outpost could not handle this request because of an internal error. The site's administrator finds the reason in its log."
    )]
    Internal {
        /// What happened, for the log.
        cause: String,
    },
}

impl Error {
    /// A failed start without log lines.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), logs: Vec::new() }
    }

    /// A fault that only the log may describe.
    pub fn internal(cause: impl Display) -> Self {
        Self::Internal { cause: cause.to_string() }
    }

    /// A field of a request that is not what it has to be.
    pub fn invalid(field: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), expected: expected.into() }
    }

    /// The cause that belongs into the log, where it says more than the message.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        match self {
            Self::Unavailable { cause, .. } | Self::Internal { cause } => Some(cause),
            _ => None,
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable {
            message: "Outpost's database does not answer just now. Please try again in a minute.",
            cause: format!("database: {error}"),
        }
    }
}
