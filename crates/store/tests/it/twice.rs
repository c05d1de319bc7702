//! What holds for root must hold for everybody.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

const NOBODY: u32 = 65_534;

#[test]
fn every_test_also_holds_for_an_ordinary_user() {
    let skipped = |why: &str| skycap_testkit::skipped!("every_test_also_holds_for_an_ordinary_user: {why}");
    if !rustix::process::geteuid().is_root() {
        return skipped("this is one");
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--skip", "every_test_also_holds"]).uid(NOBODY).gid(NOBODY).current_dir("/tmp");
    match again.output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "as user {NOBODY}:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
        }
        Err(error) => skipped(&error.to_string()),
    }
}
