//! How do I run a process in its own world, with whatever rights I have?
