//! How do I talk to a registry?
