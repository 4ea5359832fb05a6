//! The Kubernetes backend against a real API server.

mod ground;
