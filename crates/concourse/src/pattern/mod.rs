//! Regular expressions in the dialects of the resources.
