//! What is in the image, and what is not.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::pod::root;

const MIB: u64 = 1 << 20;

/// All files below a folder, links as well, without what is before it.
fn files(root: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

/// The crates whose code may be in the program, as `name-version`.
fn crates() -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let name = |line: &str| {
        let mut words = line.split(' ');
        Some(format!("{}-{}", words.next()?, words.next()?.trim_start_matches('v')))
    };
    let mut crates: BTreeSet<_> = lines.lines().filter_map(name).collect();
    assert!(crates.remove(concat!("outpost-", env!("CARGO_PKG_VERSION"))));
    crates
}

#[test]
fn nothing_is_in_it_but_the_program_and_what_that_needs() {
    let Some(root) = root() else { return };
    let mut expected: BTreeSet<_> =
        ["etc/group", "etc/nsswitch.conf", "etc/passwd", "etc/ssl/certs/ca-certificates.crt", "usr/local/bin/outpost"]
            .map(PathBuf::from)
            .into();
    let ldd = Command::new("ldd").arg(root.join("usr/local/bin/outpost")).output().unwrap().stdout;
    let ldd = String::from_utf8(ldd).unwrap();
    let libraries = ldd.split_whitespace().filter_map(|word| word.strip_prefix('/'));
    expected.extend(libraries.map(PathBuf::from));
    let found = files(&root);
    let found: BTreeSet<_> = found.into_iter().filter(|path| !path.starts_with("usr/share")).collect();
    assert_eq!(found, expected);

    let sizes = files(&root).into_iter().map(|path| fs::symlink_metadata(root.join(path)).unwrap().len());
    let size: u64 = sizes.sum();
    assert!(size <= 40 * MIB, "{} KiB", size >> 10);
}

#[test]
fn nothing_in_it_gives_rights_or_can_be_changed() {
    let Some(root) = root() else { return };
    for path in files(&root) {
        let meta = fs::symlink_metadata(root.join(&path)).unwrap();
        let mode = meta.permissions().mode();
        assert!(meta.is_symlink() || mode & 0o7022 == 0, "{}: {mode:o}", path.display());
    }
    let tmp = fs::metadata(root.join("tmp")).unwrap().permissions().mode();
    assert_eq!(tmp & 0o7777, 0o1777);
    assert!(root.join("var/lib/outpost").is_dir());
}

#[test]
fn every_crate_is_listed_and_has_its_licence() {
    let Some(root) = root() else { return };
    let documents = root.join("usr/share/doc");
    let sbom: Value = serde_json::from_slice(&fs::read(documents.join("outpost/sbom.cdx.json")).unwrap()).unwrap();
    let name = |component: &Value| format!("{}-{}", component["name"].as_str()?, component["version"].as_str()?).into();
    let listed: BTreeSet<String> = sbom["components"].as_array().unwrap().iter().filter_map(name).collect();
    let crates = crates();
    assert!(crates.len() > 100);
    assert_eq!(crates.difference(&listed).collect::<Vec<_>>(), [""; 0], "not in the SBOM");
    for name in crates.iter().map(String::as_str).chain(["rust"]) {
        let texts = fs::read_dir(documents.join("outpost/licenses").join(name)).unwrap();
        let lengths: Vec<_> = texts.map(|text| fs::read(text.unwrap().path()).unwrap().len()).collect();
        assert!(lengths.iter().any(|length| *length > 400), "{name}: {lengths:?}");
    }
    for text in ["outpost/LICENSE", "libc6/copyright", "libgcc-s1/copyright", "ca-certificates/copyright"] {
        assert!(documents.join(text).exists(), "{text}");
    }
}

#[test]
fn nothing_in_it_names_this_machine() {
    let Some(root) = root() else { return };
    let home = std::env::var("HOME").unwrap();
    let variables = ["CARGO_HOME", "RUSTUP_HOME"].map(|name| std::env::var(name).unwrap_or_default());
    let folders = [env!("CARGO_MANIFEST_DIR").to_owned(), format!("{home}/.cargo"), format!("{home}/.rustup")];
    for folder in folders.into_iter().chain(variables).filter(|folder| folder.len() > 3) {
        let grep = Command::new("grep").args(["-raoF", "--", &folder]).arg(&root).output().unwrap();
        assert_eq!(grep.status.code(), Some(1), "{}", String::from_utf8_lossy(&grep.stdout));
    }
}

#[test]
fn all_files_have_one_time() {
    let Some(root) = root() else { return };
    let times: BTreeSet<_> =
        files(&root).iter().map(|path| fs::symlink_metadata(root.join(path)).unwrap().modified().unwrap()).collect();
    assert_eq!(times.len(), 1);
}
