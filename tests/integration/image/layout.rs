//! `image/root` makes a whole image or fails, and takes nothing away.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use super::pod::root;
use crate::support::daemon::text;

/// Lays the image out in a folder, by programs that are in `instead` rather than by those of that name.
fn lay_out(folder: &Path, instead: &Path) -> Output {
    let path = format!("{}:{}", instead.display(), std::env::var("PATH").unwrap());
    let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("image/root"));
    script.arg(folder).env("PATH", path).output().unwrap()
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let Some(_built) = root() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("thesis.tex");
    fs::write(&file, "all of it").unwrap();
    for taken in [dir.path(), &file] {
        let output = lay_out(taken, dir.path());
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains("is not an empty folder"), "{}", text(&output.stderr));
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "all of it");
}

#[rstest::rstest]
#[case::no_libraries("ldd", "exit 1")]
#[case::a_missing_library("ldd", "echo 'libm.so.6 => not found'")]
#[case::a_library_of_nobody("dpkg-query", "exit 1")]
#[case::no_crates("cargo", "exit 101")]
fn what_cannot_be_found_out_is_a_failure(#[case] program: &str, #[case] does: &str) {
    let Some(_built) = root() else { return };
    let dir = tempfile::tempdir().unwrap();
    let instead = dir.path().join(program);
    fs::write(&instead, format!("#!/bin/sh\n{does}\n")).unwrap();
    fs::set_permissions(&instead, fs::Permissions::from_mode(0o755)).unwrap();
    let output = lay_out(&dir.path().join("root"), dir.path());
    assert!(!output.status.success(), "{}", text(&output.stdout));
}
