//! Servers as pods of a Kubernetes cluster, with the options of KubeSpawner.
//!
//! All decisions about a server are made by [`plan`] before anything is asked of the cluster: the objects that there will
//! be, as typed values, and the place that is kept to find and remove them.

pub mod manifest;
pub mod names;
pub mod options;
pub mod plan;
pub mod settings;

pub use self::options::OPTIONS;
pub use self::settings::Settings;
