//! What holds for root must hold for everybody.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Set for the second run.
const AGAIN: &str = "SKYCAP_ROOTFS_TESTS_AGAIN";
const NOBODY: u32 = 65534;

#[test]
#[allow(clippy::disallowed_methods, reason = "a test may look at its own environment")]
fn every_test_also_holds_for_an_ordinary_user() {
    if std::env::var_os(AGAIN).is_some() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        skycap_testkit::skipped!("every_test_also_holds_for_an_ordinary_user: this is one");
        return;
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again.uid(NOBODY).gid(NOBODY).env(AGAIN, "1").current_dir("/tmp").output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            skycap_testkit::skipped!("every_test_also_holds_for_an_ordinary_user: {error}");
            return;
        }
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "as user {NOBODY}:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
}
