//! What do we already have on this disk, and how does it stay whole?
