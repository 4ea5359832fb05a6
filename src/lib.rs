//! Outpost starts Jupyter servers on this machine or cluster for JupyterHubs that run elsewhere.
//!
//! A hub's plugin (`jupyterhub-outpostspawner`) POSTs, GETs and DELETEs services at the HTTP API; Outpost keeps them in
//! a database, starts them in a backend, and tells the hub what happens. Start reading here, then at [`http`] (the URLs),
//! [`outpost`] (the verbs) and [`spawner`] (the backends).
//!
//! # The map
//! A module uses only modules above its own, but for [`config`], which is a list of the others' settings.
//!
//! | module | |
//! |---|---|
//! | [`clock`], [`error`], [`metrics`], [`model`] | the vocabulary: values, no I/O |
//! | [`store`] | SQLite or PostgreSQL |
//! | [`spawner`] | the backends: a trait, local processes, pods of a cluster, memory |
//! | [`dial`] | SSH connections that Outpost makes by itself |
//! | [`hub`] | the client of one JupyterHub |
//! | [`auth`], [`admission`] | decisions |
//! | [`outpost`] | the use cases, the only place that orders effects |
//! | [`admin`] | what administrators do, by the admin API and by the command line |
//! | [`tasks`] | background work, one idempotent pass each |
//! | [`http`], [`ssh`], [`forward_agent`], [`telemetry`] | the edges |
//! | [`config`], [`app`], [`cli`] | the composition |

pub mod admin;
pub mod admission;
pub mod app;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dial;
pub mod error;
pub mod forward_agent;
pub mod http;
pub mod hub;
pub mod metrics;
pub mod model;
pub mod outpost;
pub mod spawner;
pub mod ssh;
pub mod store;
pub mod tasks;
pub mod telemetry;
