//! A header block, with any of its fields spoilt on request.

/// A field's name, as far as it tells it from the others.
type Field = [u8; 6];

/// What a header says.
pub(super) struct Header {
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub typeflag: u8,
    pub mode: u32,
    pub owner: (u64, u64),
    pub size: u64,
    /// As it was written, for a PAX record, and its whole seconds.
    pub time: String,
    pub seconds: Option<i64>,
    pub device: Option<(u32, u32)>,
    pub magic: [u8; 8],
    pub sum: Sum,
    /// Fields whose bytes are given.
    pub fields: Vec<(Field, Vec<u8>)>,
}

#[derive(Clone, Copy)]
pub(super) enum Sum {
    Right,
    Signed,
    Bad,
}

const USTAR: [u8; 8] = *b"ustar\x0000";
const LARGEST_ID: u64 = 0o7_777_777;

impl Default for Header {
    fn default() -> Self {
        Self {
            name: Vec::new(),
            link: Vec::new(),
            typeflag: b'0',
            mode: 0o644,
            owner: (0, 0),
            size: 0,
            time: "0".to_owned(),
            seconds: Some(0),
            device: None,
            magic: USTAR,
            sum: Sum::Right,
            fields: Vec::new(),
        }
    }
}

impl Header {
    /// Of an entry of this kind.
    pub fn of(kind: &str) -> Option<Self> {
        let (typeflag, mode) = match kind {
            "file" => (b'0', 0o644),
            "hard" => (b'1', 0o644),
            "link" => (b'2', 0o777),
            "char" => (b'3', 0o644),
            "block" => (b'4', 0o644),
            "dir" => (b'5', 0o755),
            "fifo" => (b'6', 0o644),
            _ => return None,
        };
        Some(Self { typeflag, mode, ..Self::default() })
    }

    /// The PAX records of what the block cannot hold.
    pub fn records(&self, has_path: bool, has_link: bool) -> Vec<u8> {
        let mut records = Vec::new();
        if self.name.len() > 100 && !has_path {
            records.extend(record(b"path", &self.name));
        }
        if self.link.len() > 100 && !has_link {
            records.extend(record(b"linkpath", &self.link));
        }
        for (key, id) in [(&b"uid"[..], self.owner.0), (b"gid", self.owner.1)] {
            if id > LARGEST_ID {
                records.extend(record(key, id.to_string().as_bytes()));
            }
        }
        if self.time.contains(['.', '-']) || self.seconds.is_some_and(|seconds| seconds > 0o77_777_777_777) {
            records.extend(record(b"mtime", self.time.as_bytes()));
        }
        records
    }

    pub fn block(&self) -> [u8; 512] {
        let mut block = [0; 512];
        put(&mut block[..100], &self.name);
        octal(&mut block[100..108], self.mode.into());
        octal(&mut block[108..116], self.owner.0.min(LARGEST_ID));
        octal(&mut block[116..124], self.owner.1.min(LARGEST_ID));
        octal(&mut block[124..136], self.size);
        octal(&mut block[136..148], self.seconds.and_then(|seconds| seconds.try_into().ok()).unwrap_or(0));
        block[156] = self.typeflag;
        put(&mut block[157..257], &self.link);
        block[257..265].copy_from_slice(&self.magic);
        if let Some((major, minor)) = self.device {
            octal(&mut block[329..337], major.into());
            octal(&mut block[337..345], minor.into());
        }
        for (field, bytes) in &self.fields {
            let range = range(*field);
            block[range.clone()].fill(0);
            put(&mut block[range], bytes);
        }
        if !self.fields.iter().any(|(field, _)| field == b"sum\0\0\0") {
            let sum = self.summed(block);
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        block
    }

    fn summed(&self, mut block: [u8; 512]) -> u64 {
        block[148..156].fill(b' ');
        let unsigned = block.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        match self.sum {
            Sum::Right => unsigned,
            Sum::Bad => unsigned + 1,
            Sum::Signed => {
                let sum: i64 = block.iter().map(|&byte| i64::from(byte.cast_signed())).sum();
                sum.try_into().unwrap_or_default()
            }
        }
    }
}

pub(super) fn magic(word: &[u8]) -> Option<[u8; 8]> {
    match word {
        b"ustar" => Some(USTAR),
        b"gnu" => Some(*b"ustar  \0"),
        b"v7" => Some([0; 8]),
        bytes => bytes.try_into().ok(),
    }
}

pub(super) fn sum(word: &[u8]) -> Option<Sum> {
    match word {
        b"bad" => Some(Sum::Bad),
        b"signed" => Some(Sum::Signed),
        _ => None,
    }
}

pub(super) fn field(name: &[u8]) -> Option<Field> {
    let mut field = [0; 6];
    field.get_mut(..name.len())?.copy_from_slice(name);
    FIELDS.iter().any(|(known, _)| *known == field).then_some(field)
}

const FIELDS: [(Field, std::ops::Range<usize>); 14] = [
    (*b"name\0\0", 0..100),
    (*b"mode\0\0", 100..108),
    (*b"uid\0\0\0", 108..116),
    (*b"gid\0\0\0", 116..124),
    (*b"size\0\0", 124..136),
    (*b"mtime\0", 136..148),
    (*b"sum\0\0\0", 148..156),
    (*b"link\0\0", 157..257),
    (*b"magic\0", 257..265),
    (*b"major\0", 329..337),
    (*b"minor\0", 337..345),
    (*b"prefix", 345..500),
    (*b"uname\0", 265..297),
    (*b"gname\0", 297..329),
];

fn range(field: Field) -> std::ops::Range<usize> {
    let found = FIELDS.iter().find(|(known, _)| *known == field);
    found.map(|(_, range)| range.clone()).unwrap_or_default()
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
pub(super) fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut length = body;
    while length != body + length.to_string().len() {
        length = body + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn put(field: &mut [u8], bytes: &[u8]) {
    let count = bytes.len().min(field.len());
    field[..count].copy_from_slice(&bytes[..count]);
}

fn octal(field: &mut [u8], value: u64) {
    let width = field.len() - 1;
    put(field, format!("{value:0width$o}").as_bytes());
}
