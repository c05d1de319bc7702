//! A case, built by the binary under test.

use std::path::Path;
use std::process::Stdio;

use skycap_image::layout::Layout;
use skycap_image::{Artifact, Image, ImageSource as _, Name};

use crate::bases::Bases;
use crate::case::Case;

pub fn build(case: &Case, bases: &Bases, context: &Path, layout: &Path) -> Result<(), String> {
    let mut command = bases.skycap();
    command.args(["build", "--progress", "plain", "-f"]).arg(case.dockerfile(context));
    for (host, address) in bases.hosts() {
        command.arg("--host").arg(format!("{host}=http://{address}"));
    }
    for arg in &case.args {
        command.arg("--build-arg").arg(arg);
    }
    for (id, _) in &case.secrets {
        command.arg("--secret").arg(format!("id={id},src={}", context.with_file_name(id).display()));
    }
    command.args(case.target.iter().flat_map(|target| ["--target", target]));
    command.arg("-o").arg(format!("oci:{}", layout.display())).arg(context);
    let output = skycap_testkit::process::run(command.stdin(Stdio::null()));
    for printed in [&output.stdout, &output.stderr] {
        skycap_testkit::secrets::assert_not_shown_in(&case.name, printed);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("skycap: {text}")) }
}

/// The image of a layout that holds one.
pub fn image(layout: &Path) -> Image {
    match Layout::open(layout).unwrap().get(&Name::Tag("latest".to_owned())).unwrap() {
        Artifact::Image(image) => image,
        Artifact::Index(_) => panic!("an index was built"),
    }
}
