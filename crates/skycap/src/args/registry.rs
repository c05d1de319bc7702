//! The command line of the embedded registry.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::quantity;

#[derive(Subcommand, Debug)]
pub enum Registry {
    /// Serve a registry from a directory until stopped
    Serve(Serve),
    /// Remove what nothing refers to; the registry may be served meanwhile
    Gc(RegistryGc),
}

const SERVE_EXAMPLES: &str = "\
Examples:
  skycap registry serve --listen 127.0.0.1:5000 --dir images
  skycap registry serve --listen 0.0.0.0:443 --tls-cert chain.pem --tls-key key.pem
  skycap registry serve --user robot --password-file password
  skycap registry gc --dir images   what nothing refers to any more goes, also while it is served";

#[derive(Args, Debug)]
#[command(after_help = SERVE_EXAMPLES)]
pub struct Serve {
    /// Address and port; port 0 takes a free one and prints it
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Where the images are kept [default: the user's state directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Serve HTTPS with this certificate chain, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Only this user may do anything
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub user: Option<String>,
    /// The user's password is the content of this file
    #[arg(long, value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct RegistryGc {
    /// Where the images are kept [default: the user's state directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Spare what is younger: 30m, 12h, 7d
    #[arg(long, value_name = "AGE", default_value = "24h", value_parser = quantity::age)]
    pub older_than: Duration,
    /// Remove manifests, too, that no tag leads to
    #[arg(long)]
    pub untagged: bool,
}
