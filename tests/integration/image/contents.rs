//! What is in the image, and what is not.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::pod::{printed, root};

const MIB: u64 = 1 << 20;

/// The packages of Debian that parts of it are from.
const PACKAGES: [&str; 3] = ["ca-certificates", "libc6", "libgcc-s1"];

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
    let lines = printed(&cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap());
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
    let mut expected: BTreeSet<_> = [
        "etc/group",
        "etc/nsswitch.conf",
        "etc/os-release",
        "etc/passwd",
        "etc/ssl/certs/ca-certificates.crt",
        "usr/local/bin/outpost",
    ]
    .map(PathBuf::from)
    .into();
    expected.extend(PACKAGES.map(|package| Path::new("var/lib/dpkg/status.d").join(package)));
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

/// What the list of components says, and nothing else, is in it.
#[test]
fn all_that_is_in_it_is_listed() {
    let Some(root) = root() else { return };
    let sbom: Value =
        serde_json::from_slice(&fs::read(root.join("usr/share/doc/outpost/sbom.cdx.json")).unwrap()).unwrap();
    let components = sbom["components"].as_array().unwrap();
    let text = |component: &Value, key: &str| component[key].as_str().unwrap_or_default().to_owned();
    let listed = |kind: &str| -> BTreeSet<String> {
        let of_kind = components.iter().filter(|component| text(component, "purl").starts_with(kind));
        of_kind.map(|component| format!("{}-{}", text(component, "name"), text(component, "version"))).collect()
    };
    let crates = crates();
    assert!(crates.len() > 100);
    assert_eq!(listed("pkg:cargo/"), crates);
    let mut query = Command::new("dpkg-query");
    let installed =
        printed(&query.args(["--show", "--showformat", r"${Package}-${Version}\n"]).args(PACKAGES).output().unwrap());
    assert_eq!(listed("pkg:deb/debian/"), installed.lines().map(str::to_owned).collect());
    let system = components.iter().filter(|component| component["type"] == "operating-system").count();
    assert_eq!((system, components.len()), (1, crates.len() + PACKAGES.len() + 1));

    let mut known: BTreeSet<_> = components.iter().map(|component| text(component, "bom-ref")).collect();
    known.insert(text(&sbom["metadata"]["component"], "bom-ref"));
    for dependency in sbom["dependencies"].as_array().unwrap() {
        let needed = dependency["dependsOn"].as_array().into_iter().flatten().chain([&dependency["ref"]]);
        for name in needed {
            assert!(known.contains(name.as_str().unwrap()), "{name}");
        }
    }
}

#[test]
fn everything_has_its_licence() {
    let Some(root) = root() else { return };
    let documents = root.join("usr/share/doc");
    let licenses = documents.join("outpost/licenses");
    let crates = crates();
    for name in crates.iter().map(String::as_str).chain(["rust"]) {
        let texts = files(&licenses.join(name));
        let lengths: Vec<_> =
            texts.iter().map(|text| fs::read(licenses.join(name).join(text)).unwrap().len()).collect();
        assert!(lengths.iter().any(|length| *length > 400), "{name}: {lengths:?}");
        // The text as Rust has it names nobody who has the rights.
        let template = licenses.join(name).join("MIT.txt");
        assert!(!template.exists() || licenses.join(name).join("AUTHORS").exists(), "{name}");
    }
    // What crates have from others, and who has the rights.
    for (name, text) in [
        ("ring-", "third_party/fiat/LICENSE"),
        ("ring-", "src/polyfill/once_cell/LICENSE-MIT"),
        ("regex-syntax-", "src/unicode_tables/LICENSE-UNICODE"),
        ("tracing-core-", "src/spin/LICENSE"),
        ("rustix-", "COPYRIGHT"),
    ] {
        let mut of_crate = crates.iter().filter(|crate_| crate_.starts_with(name));
        assert!(of_crate.any(|crate_| licenses.join(crate_).join(text).exists()), "{name}: {text}");
    }
    assert!(documents.join("outpost/LICENSE").exists());
    for package in PACKAGES {
        assert!(documents.join(package).join("copyright").exists(), "{package}");
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
