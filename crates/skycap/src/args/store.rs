//! The command line of the store.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Kept, quantity};

/// The store: fetched layers, listings of layers, cached build steps.
#[derive(Subcommand, Debug)]
pub enum Store {
    /// List what is kept, the least recently used first
    Ls(StoreLs),
    /// Remove what was not used for longest
    Gc(StoreGc),
    /// Read everything and remove what is damaged
    Verify(StoreVerify),
}

#[derive(Args, Debug)]
pub struct StoreLs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub kept: Kept,
}

const GC_EXAMPLES: &str = "\
Examples:
  skycap store gc --limit 10GB              keep at most 10 GB
  skycap store gc --unused-for 7d           keep what was used in the last week
  skycap store gc --limit 0 --dry-run       what could go; what a running skycap uses always stays";

#[derive(Args, Debug)]
#[command(after_help = GC_EXAMPLES)]
#[group(id = "bounds", required = true, multiple = true, args = ["limit", "unused_for"])]
pub struct StoreGc {
    /// Remove the least recently used until so much is left: 500MB, 10GB, 8GiB
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    pub limit: Option<u64>,
    /// Remove what was not used for so long: 12h, 7d, 4w
    #[arg(long, value_name = "AGE", value_parser = quantity::age)]
    pub unused_for: Option<Duration>,
    /// Say what would be removed, remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub kept: Kept,
}

#[derive(Args, Debug)]
pub struct StoreVerify {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub kept: Kept,
}
