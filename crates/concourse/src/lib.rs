//! What does Concourse say to a resource or task, and what do we answer?
