//! All tests that need more than one module: a real server on a free port, the real databases, the real programs.
#![expect(clippy::disallowed_methods, reason = "tests have no application to spawn on, and clients of their own")]

mod admin;
mod cli;
mod conformance;
mod contract;
mod dial;
mod documentation;
mod example;
mod flavors;
mod forward_agent;
mod helm;
mod hub_calls;
mod image;
mod kills;
mod kubernetes;
mod limits;
mod openapi;
mod outage;
mod process;
mod real_hub;
mod recover;
mod rolling;
mod ssh;
mod ssh_keys;
mod store;
mod storm;
mod support;
mod tunnels;
