//! `skycap install`: the executables that a Concourse image carries.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use skycap_concourse::install;

use crate::args::Install;
use crate::failure::Failure;
use crate::program::PREFIX;

/// Writes the binary once and a link for each program. Running it again replaces what is there.
pub fn run(arguments: &Install) -> Result<(), Failure> {
    let component = install::component(&arguments.component).ok_or_else(|| unknown(&arguments.component))?;
    let directory = &arguments.dir;
    let binary = format!("{PREFIX}{}", component.name);
    let failed = |error: io::Error| Failure::because(format!("cannot install into {}", directory.display()), &error);
    fs::create_dir_all(directory).map_err(failed)?;
    copy_self(directory, &binary).map_err(failed)?;
    for program in component.executables {
        replace(directory, program, |path| symlink(&binary, path)).map_err(failed)?;
        show!("{}", directory.join(program).display());
    }
    Ok(())
}

fn copy_self(directory: &Path, name: &str) -> io::Result<()> {
    replace(directory, name, |path| {
        fs::copy("/proc/self/exe", path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        fs::File::open(path)?.sync_all()
    })
}

/// Makes a file under another name and renames it, so that nobody ever starts a half-written one.
fn replace(directory: &Path, name: &str, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let staged = directory.join(format!(".{name}.new"));
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    make(&staged)?;
    fs::rename(&staged, directory.join(name))
}

fn unknown(name: &str) -> Failure {
    let known: Vec<&str> = install::COMPONENTS.iter().map(|component| component.name).collect();
    Failure::usage(format!("there is no component {name:?}")).with_hint(format!("components are {}", known.join(", ")))
}
