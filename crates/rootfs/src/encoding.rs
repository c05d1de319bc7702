//! The compact form of a layer's listing: numbers in 7-bit groups, paths by what they share with the one before.

use crate::{Device, Entry, Kind, Metadata, Record, Time, TreePath};

const DIRECTORY: u8 = 0;
const FILE: u8 = 1;
const SYMLINK: u8 = 2;
const CHARACTER_DEVICE: u8 = 3;
const BLOCK_DEVICE: u8 = 4;
const FIFO: u8 = 5;
const HARDLINK: u8 = 6;
const WHITEOUT: u8 = 7;
const OPAQUE: u8 = 8;

pub(crate) struct Encoder {
    out: Vec<u8>,
    last: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(magic: &[u8]) -> Self {
        Self { out: magic.to_vec(), last: Vec::new() }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }

    pub(crate) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.out.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.out.push((number & 0x7f) as u8);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    pub(crate) fn path(&mut self, path: &[u8]) {
        let shared = path.iter().zip(&self.last).take_while(|(a, b)| a == b).count();
        self.number(shared as u64);
        self.bytes(&path[shared..]);
        path.clone_into(&mut self.last);
    }

    pub(crate) fn record(&mut self, record: &Record) {
        match record {
            Record::Entry(Entry { kind, metadata }, at) => {
                self.kind(kind, *at);
                self.metadata(metadata);
            }
            Record::Hardlink(target) => {
                self.out.push(HARDLINK);
                self.bytes(target.as_bytes());
            }
            Record::Whiteout => self.out.push(WHITEOUT),
            Record::Opaque => self.out.push(OPAQUE),
        }
    }

    fn kind(&mut self, kind: &Kind, at: u64) {
        match kind {
            Kind::Directory => self.out.push(DIRECTORY),
            Kind::File { size } => {
                self.out.push(FILE);
                self.number(*size);
                self.number(at);
            }
            Kind::Symlink(target) => {
                self.out.push(SYMLINK);
                self.bytes(target);
            }
            Kind::Device(Device { block, major, minor }) => {
                self.out.push(if *block { BLOCK_DEVICE } else { CHARACTER_DEVICE });
                self.number((*major).into());
                self.number((*minor).into());
            }
            Kind::Fifo => self.out.push(FIFO),
        }
    }

    fn metadata(&mut self, metadata: &Metadata) {
        self.number(metadata.mode.into());
        self.number(metadata.uid.into());
        self.number(metadata.gid.into());
        // Small negative numbers stay small.
        let seconds = metadata.mtime.seconds;
        self.number(((seconds << 1) ^ (seconds >> 63)).cast_unsigned());
        self.number(metadata.mtime.nanoseconds.into());
        self.number(metadata.xattrs.len() as u64);
        for (name, value) in &metadata.xattrs {
            self.bytes(name);
            self.bytes(value);
        }
    }
}

/// Reads what an [`Encoder`] wrote; anything odd is `None`.
pub(crate) struct Decoder<'b> {
    left: &'b [u8],
    last: Vec<u8>,
}

impl<'b> Decoder<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { left: bytes, last: Vec::new() }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.left.is_empty()
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, left) = self.left.split_first()?;
        self.left = left;
        Some(byte)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let group = u64::from(byte & 0x7f);
            let placed = group << shift;
            if placed >> shift != group {
                return None;
            }
            number |= placed;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    pub(crate) fn bytes(&mut self) -> Option<&'b [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, left) = self.left.split_at_checked(length)?;
        self.left = left;
        Some(bytes)
    }

    pub(crate) fn path(&mut self) -> Option<TreePath> {
        let shared = usize::try_from(self.number()?).ok()?;
        if shared > self.last.len() {
            return None;
        }
        self.last.truncate(shared);
        let rest = self.bytes()?;
        self.last.extend_from_slice(rest);
        TreePath::parse(&self.last).ok()
    }

    pub(crate) fn record(&mut self) -> Option<Record> {
        let mut at = 0;
        let kind = match self.byte()? {
            HARDLINK => return Some(Record::Hardlink(TreePath::parse(self.bytes()?).ok()?)),
            WHITEOUT => return Some(Record::Whiteout),
            OPAQUE => return Some(Record::Opaque),
            DIRECTORY => Kind::Directory,
            FILE => {
                let size = self.number()?;
                at = self.number()?;
                Kind::File { size }
            }
            SYMLINK => Kind::Symlink(self.bytes()?.into()),
            tag @ (CHARACTER_DEVICE | BLOCK_DEVICE) => {
                Kind::Device(Device { block: tag == BLOCK_DEVICE, major: self.small()?, minor: self.small()? })
            }
            FIFO => Kind::Fifo,
            _ => return None,
        };
        Some(Record::Entry(Entry { kind, metadata: self.metadata()? }, at))
    }

    fn metadata(&mut self) -> Option<Metadata> {
        let (mode, uid, gid) = (self.small()?, self.small()?, self.small()?);
        let seconds = self.number()?;
        let seconds = (seconds >> 1).cast_signed() ^ -(seconds & 1).cast_signed();
        let mtime = Time { seconds, nanoseconds: self.small()? };
        let mut xattrs = std::collections::BTreeMap::new();
        for _ in 0..self.number()? {
            xattrs.insert(self.bytes()?.to_vec(), self.bytes()?.to_vec());
        }
        Some(Metadata { mode, uid, gid, mtime, xattrs })
    }
}
