//! A server's log: two files of bounded size, written by the supervisor and read by Outpost.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The most of the log that a look at its end reads, per file, and the most of one line.
const LONGEST_LOOK: u64 = 512 << 10;
const LONGEST_LINE: usize = 4096;

/// The writing end. Nothing that goes wrong in it ever reaches the server: a full disk loses lines, no notebooks.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    half: u64,
    file: Option<File>,
    size: u64,
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("1")
}

impl Log {
    /// A log that keeps at most `size` bytes, half of them in `path` and half in `path.1`.
    #[must_use]
    pub fn new(path: PathBuf, size: u64) -> Self {
        Self { path, half: size / 2, file: None, size: 0 }
    }

    /// Writes what fits; what cannot be written is lost.
    pub fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.half.saturating_sub(self.size);
            if room == 0 && !self.turn_over() {
                return;
            }
            let Some(file) = self.open() else { return };
            let part = &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
            match file.write(part) {
                Ok(0) if part.is_empty() => {}
                Ok(0) | Err(_) => return,
                Ok(written) => {
                    self.size += written as u64;
                    bytes = &bytes[written..];
                }
            }
        }
    }

    fn open(&mut self) -> Option<&mut File> {
        if self.file.is_none() {
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path).ok()?;
            self.size = file.metadata().map(|meta| meta.len()).unwrap_or_default();
            self.file = Some(file);
        }
        self.file.as_mut()
    }

    /// The bound holds even where a file cannot be renamed: then the lines in it go.
    fn turn_over(&mut self) -> bool {
        let turned = match fs::rename(&self.path, older(&self.path)) {
            Ok(()) => {
                self.file = None;
                true
            }
            Err(_) => self.file.as_ref().is_none_or(|file| file.set_len(0).is_ok()),
        };
        if turned {
            self.size = 0;
        }
        turned
    }
}

/// The last lines of both files, oldest first, as a person would have seen them: without control characters, and of a
/// line that was written over (a progress bar) the last state.
///
/// # Errors
/// A file is there and cannot be read.
pub fn tail(path: &Path, lines: usize) -> io::Result<Vec<String>> {
    let mut bytes = Vec::new();
    for file in [older(path), path.to_owned()] {
        match File::open(&file) {
            Ok(mut file) => {
                let length = file.metadata()?.len();
                file.seek(SeekFrom::Start(length.saturating_sub(LONGEST_LOOK)))?;
                file.take(LONGEST_LOOK).read_to_end(&mut bytes)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut last: Vec<_> = text.lines().rev().take(lines).map(readable).collect();
    last.reverse();
    Ok(last)
}

fn readable(line: &str) -> String {
    let shown = line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    shown.chars().filter(|c| !c.is_control() || *c == '\t').take(LONGEST_LINE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(path: &Path) -> u64 {
        fs::metadata(path).map(|meta| meta.len()).unwrap_or_default()
    }

    #[test]
    fn it_is_bounded_and_keeps_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::new(path.clone(), 2000);
        for number in 0..5000 {
            log.write(format!("line {number}\n").as_bytes());
            assert!(size(&path) + size(&older(&path)) <= 2000);
        }
        assert_eq!(tail(&path, 2).unwrap(), ["line 4998", "line 4999"]);
        assert!(tail(&path, 10_000).unwrap().len() > 50);
        log.write(&[b'x'; 10_000]);
        assert!(size(&path) + size(&older(&path)) <= 2000);
        assert_eq!(fs::metadata(&path).unwrap().permissions(), std::os::unix::fs::PermissionsExt::from_mode(0o100_600));
    }

    #[test]
    fn a_log_that_cannot_be_written_is_no_trouble() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut log = Log::new(path.clone(), 2000);
        log.write(b"lost\n");
        fs::remove_file(&path).unwrap();
        log.write(b"lost, too: the file is open\n");
        let mut log = Log::new(dir.path().join("no/such/log"), 2000);
        log.write(b"lost\n");
    }

    #[test]
    fn lines_are_readable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, b"10%\r50%\r100%\r\n\x1b[31mred\xff\x07\n\nlast").unwrap();
        assert_eq!(tail(&path, 9).unwrap(), ["100%", "[31mred\u{fffd}", "", "last"]);
        assert!(tail(&dir.path().join("none"), 9).unwrap().is_empty());
    }
}
