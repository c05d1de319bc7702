//! Bounds on what a layer may ask for.

/// How much a layer may hold. Going beyond is an error that names the limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Entries in one layer.
    pub entries: u64,
    /// Bytes of one layer as a bare tar.
    pub unpacked_bytes: u64,
    /// How many times larger a layer may become by unpacking, judged once it has passed 64 MiB. gzip cannot pass 1,032.
    pub ratio: u64,
    /// Bytes of one path or link target.
    pub path_bytes: usize,
    /// Components of one path.
    pub path_components: usize,
    /// Bytes of one extended header of the archive.
    pub extension_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            unpacked_bytes: 256 << 30,
            ratio: 1200,
            path_bytes: 65_536,
            path_components: 4096,
            extension_bytes: 1 << 20,
        }
    }
}
