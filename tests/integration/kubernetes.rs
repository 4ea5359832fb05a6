//! The Kubernetes backend.

mod parity;
