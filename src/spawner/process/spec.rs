//! What Outpost hands to a supervisor, through a pipe: it is full of secrets, so it is in no argument and on no disk,
//! and nothing in here can be printed.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::account::Switch;
use super::ladder::Patience;
use super::limits::Limits;
use super::state::Dir;

/// One server, completely worked out: the supervisor decides nothing but what happens when.
#[derive(Deserialize, Serialize)]
pub struct Spec {
    /// Where it is recorded.
    pub dir: Dir,
    /// The backend's name.
    pub spawner: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The complete environment.
    pub environment: BTreeMap<String, String>,
    /// Where programs are looked for; never a hub's.
    pub path: String,
    /// A home to make for it, where it has none of its Unix user.
    pub home: Option<PathBuf>,
    /// Where the server starts; made, where it has no Unix user of its own.
    pub working_dir: PathBuf,
    /// The Unix user to become.
    pub switch: Option<Switch>,
    /// What it can have.
    pub limits: Limits,
    /// How many files it can have open at first, where that is not what the supervisor starts with.
    pub open_files: Option<u64>,
    /// Where it will listen.
    pub address: SocketAddr,
    /// The host that hubs are told.
    pub host: String,
    /// The command before it; empty for none.
    pub pre_start: Vec<String>,
    /// More environment for that command.
    pub auth_state: BTreeMap<String, String>,
    /// The command after it; empty for none.
    pub post_stop: Vec<String>,
    /// How long each of the two may take.
    pub hook_timeout: Duration,
    /// How long the server has to end.
    pub patience: Patience,
    /// The most bytes of log.
    pub log_size: u64,
    /// Files of certificates, by path, and the directory that they are in.
    pub certificates: Option<Files>,
}

/// A directory of files that only the server may read.
#[derive(Deserialize, Serialize)]
pub struct Files {
    /// The directory.
    pub directory: PathBuf,
    /// The texts by name.
    pub texts: BTreeMap<String, String>,
}

impl Spec {
    /// The spec with its length before it.
    ///
    /// # Errors
    /// A path is no Unicode.
    pub fn framed(&self) -> io::Result<Vec<u8>> {
        let text = serde_json::to_vec(self)?;
        let mut frame = (text.len() as u64).to_be_bytes().to_vec();
        frame.extend(text);
        Ok(frame)
    }

    /// Reads a frame. One that ends early (its writer died) is an error, and so is one that goes on.
    ///
    /// # Errors
    /// It is not complete.
    pub fn read(mut from: impl Read) -> io::Result<Self> {
        const LONGEST: u64 = 64 << 20;
        let mut length = [0; 8];
        from.read_exact(&mut length)?;
        let length = u64::from_be_bytes(length);
        if length > LONGEST {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut text = Vec::new();
        from.take(length + 1).read_to_end(&mut text)?;
        if text.len() as u64 != length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&text)?)
    }
}

/// What a supervisor says on its standard output, one JSON object a line. Nobody has to listen.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// For the user.
    Progress {
        /// 0 to 100.
        progress: u8,
        /// A sentence.
        message: String,
    },
    /// The start came to nothing, and not even that could be recorded.
    Lost(String),
}
