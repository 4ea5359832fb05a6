//! The words that the rest of the crate speaks. Values only: nothing in here does any I/O.

mod actor;
mod address;
mod authorized_key;
mod credentials;
mod host_key;
mod launch;
mod matching;
mod merge;
mod printable;
mod quantity;
mod quota;
mod request;
mod resources;
mod server;
mod tunnel;
mod usage;

pub use actor::Actor;
pub use address::{host_and_port, is_forbidden, listen, overlap, with_port};
pub use authorized_key::{AuthorizedKey, fingerprint};
pub use credentials::has_login;
pub use host_key::{HostKey, HostKeyState};
pub use launch::{AuthState, Certificates, Handle, Launch, Template, TemplateContext, path_segment};
pub use matching::{FullMatch, Glob, Names};
pub use merge::{merge, without_nulls};
pub use printable::{printable, printable_json};
pub use quantity::{kubernetes_quantity, quantity};
pub use quota::{Counted, Need, OfFlavor, Quota, Scope};
pub use request::{Environment, StartRequest, StoredRequest, check_authentication};
pub use resources::{PLACEMENT, RESOURCES, Resources, check_resource};
pub use server::{Exit, Phase, Server, ServerId, Uid};
pub use tunnel::{Tunnel, TunnelState};
pub use usage::{Run, Usage, UsageFilter};
