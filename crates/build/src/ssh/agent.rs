//! What a program asks an agent, and the answers. As in BuildKit, a program may list keys and have them sign; it may not add
//! or remove any, lock the agent, or use what extends the protocol.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use super::wire::{Words, put, put_number};
use super::{PrivateKey, SshSource};

const FAILURE: u8 = 5;
const LIST: u8 = 11;
const LISTED: u8 = 12;
const SIGN: u8 = 13;
const SIGNED: u8 = 14;

/// The largest message that OpenSSH's agent takes.
const LARGEST: usize = 256 * 1024;

/// Answers what comes from a program until it is gone.
pub(super) fn converse(mut program: UnixStream, source: &SshSource) -> io::Result<()> {
    let mut agent = match source {
        SshSource::Agent(path) => Some(UnixStream::connect(path)?),
        SshSource::Keys(_) => None,
    };
    while let Some(request) = receive(&mut program)? {
        let is_allowed = matches!(request.first(), Some(&LIST | &SIGN));
        let answer = match (source, &mut agent) {
            _ if !is_allowed => vec![FAILURE],
            (_, Some(agent)) => {
                send(agent, &request)?;
                receive(agent)?.ok_or(io::ErrorKind::UnexpectedEof)?
            }
            (SshSource::Keys(keys), None) => answer(keys, &request).unwrap_or_else(|| vec![FAILURE]),
            (SshSource::Agent(_), None) => vec![FAILURE],
        };
        send(&mut program, &answer)?;
    }
    Ok(())
}

/// What our own agent says.
fn answer(keys: &[PrivateKey], request: &[u8]) -> Option<Vec<u8>> {
    let mut words = Words(request);
    match words.byte()? {
        LIST => {
            let mut answer = vec![LISTED];
            put_number(&mut answer, keys.len());
            for key in keys {
                put(&mut answer, key.public());
                put(&mut answer, key.comment().as_bytes());
            }
            Some(answer)
        }
        SIGN => {
            let (public, data, flags) = (words.string()?, words.string()?, words.number()?);
            let key = keys.iter().find(|key| key.public() == public)?;
            let mut answer = vec![SIGNED];
            put(&mut answer, &key.sign(data, flags)?);
            Some(answer)
        }
        _ => None,
    }
}

/// A message; nothing at the end.
fn receive(from: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    if from.read(&mut length[..1])? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut length[1..])?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok().filter(|length| (1..=LARGEST).contains(length));
    let mut message = vec![0; length.ok_or(io::ErrorKind::InvalidData)?];
    from.read_exact(&mut message)?;
    Ok(Some(message))
}

fn send(to: &mut UnixStream, message: &[u8]) -> io::Result<()> {
    let mut framed = Vec::with_capacity(message.len() + 4);
    put(&mut framed, message);
    to.write_all(&framed)
}
