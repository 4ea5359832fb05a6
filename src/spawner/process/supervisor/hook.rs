//! What the site's commands write: progress for the user, reasons for a refusal, and the rest for the log.

use serde::Deserialize;

use super::super::spec::Report;
use super::reactor::{Outlet, Sink};

/// Bytes on their way to lines.
#[derive(Default)]
pub struct Lines {
    rest: Vec<u8>,
    told: usize,
}

/// Longer lines are cut here: none of ours is that long, and memory is not a command's to fill.
const LONGEST_LINE: usize = 8 << 10;
/// More than anybody reads.
const MOST_PROGRESS: usize = 200;

/// The line that a command may write.
#[derive(Deserialize)]
struct Progress {
    progress: f64,
    message: String,
}

impl Sink {
    /// Takes some bytes; none means that there will be no more.
    pub fn take(&mut self, bytes: &[u8], outlet: &mut Outlet) {
        match self {
            Self::Log => outlet.log.write(bytes),
            Self::Progress(lines) => {
                lines.take(bytes, |line, told| match progress(line).filter(|_| *told < MOST_PROGRESS) {
                    Some(report) => {
                        *told += 1;
                        outlet.report(&report);
                    }
                    None => outlet.log.write(line),
                })
            }
            Self::Errors(lines) => lines.take(bytes, |line, _| {
                outlet.log.write(line);
                let text = String::from_utf8_lossy(line);
                if !text.trim().is_empty() {
                    text.trim().clone_into(&mut outlet.last_error);
                }
            }),
        }
    }
}

impl Lines {
    fn take(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8], &mut usize)) {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            each(&self.rest[..=end], &mut self.told);
            self.rest.drain(..=end);
        }
        if (bytes.is_empty() && !self.rest.is_empty()) || self.rest.len() > LONGEST_LINE {
            self.rest.push(b'\n');
            each(&self.rest, &mut self.told);
            self.rest.clear();
        }
    }
}

fn progress(line: &[u8]) -> Option<Report> {
    let Progress { progress, message } = serde_json::from_slice(line).ok()?;
    // A cast of a float saturates.
    Some(Report::Progress { progress: progress.clamp(0.0, 100.0) as u8, message: message.chars().take(1000).collect() })
}

#[cfg(test)]
mod tests {
    use super::super::super::log::{Log, tail};
    use super::*;

    #[test]
    fn lines_find_their_places() {
        let dir = tempfile::tempdir().unwrap();
        let (log, told) = (dir.path().join("log"), dir.path().join("told"));
        let mut outlet = Outlet {
            log: Log::new(log.clone(), 1 << 20),
            outpost: Some(std::fs::File::create(&told).unwrap()),
            last_error: String::new(),
        };
        let mut out = Sink::Progress(Lines::default());
        for part in [
            "{\"progress\": 40, \"mess",
            "age\": \"Copying.\"}\nplain\n{\"progress\": 1}\n",
            "{\"progress\":1e9,\"message\":\"x\"}",
        ] {
            out.take(part.as_bytes(), &mut outlet);
        }
        out.take(&[], &mut outlet);
        let mut errors = Sink::Errors(Lines::default());
        errors.take(b"first\nlast\n\n", &mut outlet);
        errors.take(&[], &mut outlet);
        assert_eq!(outlet.last_error, "last");
        assert_eq!(tail(&log, 9).unwrap(), ["plain", "{\"progress\": 1}", "first", "last", ""]);
        let told = std::fs::read_to_string(told).unwrap();
        assert_eq!(told.lines().count(), 2);
        assert!(told.contains("Copying.") && told.contains("100"));
    }
}
