//! Images from a text listing, so that a fixture can be read.
//!
//! ```text
//! # A comment. Everything is one line; words with spaces or odd characters are quoted: "a b\n\t\\\"\0\xff".
//! platform linux/arm64          # optional; a second one begins a second image, and the whole becomes an index
//! env PATH=/bin HOME=/          # one or more NAME=value
//! user app
//! workdir /srv
//! cmd sh -c "echo hello"        # one argument a word; also entrypoint and shell
//! label key=value
//! annotation key=value          # of the manifest
//! expose 80/tcp
//! volume /data
//! onbuild "RUN true"
//! stopsignal SIGTERM
//! created 2024-01-02T03:04:05Z
//! layer                         # or: layer gzip, layer zstd, layer none; else as the Style says
//!   dir      etc         0755 0:0
//!   file     etc/motd    0644 0:0 "hello\n"
//!   xattr    user.note "of the entry above"
//!   file     big         0644 0:0 size=1000000      # that many bytes that hardly compress, a function of the path
//!   file     old         0644 0:0 mtime=86400.5 ""  # seconds since 1970; the default is 0
//!   symlink  etc/issue motd
//!   hardlink copy etc/motd
//!   fifo     pipe        0600 1000:1000
//!   char     dev/null    0666 0:0 1:3               # also block
//! layer
//!   whiteout etc/motd                               # an empty file etc/.wh.motd
//!   opaque   srv                                    # an empty file srv/.wh..wh..opq
//! ```
//!
//! Mode and owner may be left out (0755 for directories, 0644 for the rest; 0:0). Names go into the tar exactly as they
//! stand, hostile ones as well. Content that looks like a mode or an owner needs both in front of it. A listing that is wrong panics with the line: it is a part of a test.

mod image;
mod layer;
mod words;

pub use image::{Style, artifact, image, index, put};
pub use layer::{layer, tar};
