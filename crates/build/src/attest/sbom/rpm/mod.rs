//! rpm's databases. There are three kinds of file; in each of them, a package is rpm's own binary header.

mod berkeley;
mod bytes;
mod header;
mod ndb;
mod sqlite;

use super::package::Package;
use crate::error::Fault;

/// Reads `rpmdb.sqlite`.
pub(super) fn sqlite(file: &[u8]) -> Result<Vec<Package>, Fault> {
    packages(sqlite::headers(file))
}

/// Reads `Packages.db`.
pub(super) fn ndb(file: &[u8]) -> Result<Vec<Package>, Fault> {
    packages(ndb::headers(file))
}

/// Reads `Packages`, a hash of Berkeley DB.
pub(super) fn berkeley(file: &[u8]) -> Result<Vec<Package>, Fault> {
    packages(berkeley::headers(file))
}

/// Keys that sign packages are kept as packages without files; nobody means those.
fn packages(headers: Result<Vec<Vec<u8>>, Damaged>) -> Result<Vec<Package>, Fault> {
    let damaged = |Damaged(what): Damaged| Fault::new(what);
    let parsed = headers.map_err(damaged)?.iter().map(|header| header::package(header)).collect::<Result<Vec<_>, _>>();
    Ok(parsed.map_err(damaged)?.into_iter().filter(|package| package.name != "gpg-pubkey").collect())
}

/// Bytes that are not what they should be.
#[derive(Debug, PartialEq, Eq)]
struct Damaged(&'static str);

#[cfg(test)]
mod tests;
