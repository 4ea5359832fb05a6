//! What a scientist reads when a server does not start or ends. Each situation has its own sentence; each says what to
//! do where there is something to do.

use std::path::Path;
use std::time::Duration;

/// How long something may take, for a sentence.
fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} milliseconds", time.as_millis()),
        1 => "1 second".to_owned(),
        seconds => format!("{seconds} seconds"),
    }
}

/// Text of others inside a sentence: one line, not too long.
pub fn quoted(text: &str) -> String {
    let mut out: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    if text.chars().nth(300).is_some() {
        out.push('…');
    }
    out
}

/// How a process ended: an exit code, or a signal as a negative number.
pub fn ending(code: i32) -> String {
    if code >= 0 {
        return format!("ended with exit code {code}");
    }
    match nix::sys::signal::Signal::try_from(-code) {
        Ok(signal) => format!("was ended by the signal {signal}"),
        Err(_) => format!("was ended by the signal number {}", -code),
    }
}

fn memory_hint(code: i32) -> &'static str {
    if code == -9 { " A common cause is that there was not enough memory." } else { "" }
}

pub fn no_account(name: &str) -> String {
    format!(
        "There is no account \"{}\" on this machine that your server could run as. Please ask the administrators of this system for one.",
        quoted(name)
    )
}

pub fn system_account(name: &str) -> String {
    format!(
        "Your server cannot run as \"{}\", because that account belongs to the system. Please ask the administrators of this system for an account of your own.",
        quoted(name)
    )
}

pub fn command_missing(program: &str) -> String {
    format!(
        "The program \"{}\" that your server needs is not installed on this machine. Please tell its administrators.",
        quoted(program)
    )
}

pub fn not_executable(program: &str) -> String {
    format!(
        "The program \"{}\" that your server needs is on this machine, but it cannot be executed. Please tell the administrators.",
        quoted(program)
    )
}

pub fn interpreter_missing(program: &str) -> String {
    format!(
        "The program \"{}\" that your server needs is on this machine, but what it needs itself (the interpreter in its first line) is missing. Please tell the administrators.",
        quoted(program)
    )
}

pub fn cannot_start(program: &str, error: &std::io::Error) -> String {
    format!(
        "The program \"{}\" could not be started: {error}. Please tell the administrators of this machine.",
        quoted(program)
    )
}

pub fn working_dir_missing(path: &Path) -> String {
    format!(
        "The directory \"{}\" that your server has to start in does not exist or cannot be entered. Please ask the administrators of this system to create it.",
        quoted(&path.to_string_lossy())
    )
}

pub fn working_dir_not_creatable(path: &Path, error: &std::io::Error) -> String {
    format!(
        "The directory \"{}\" that your server has to start in could not be created: {error}. Please tell the administrators of this system.",
        quoted(&path.to_string_lossy())
    )
}

pub fn account_switch(error: &std::io::Error) -> String {
    format!(
        "Your server could not be started under your account: {error}. Please tell the administrators of this system."
    )
}

pub fn limits(error: &std::io::Error) -> String {
    format!(
        "The limits for your server (memory, processors, processes) could not be set: {error}. Please tell the administrators of this system."
    )
}

pub fn certificates(error: &std::io::Error) -> String {
    format!(
        "The certificates of your server could not be stored: {error}. Please tell the administrators of this system."
    )
}

pub fn port_taken(port: u16) -> String {
    format!(
        "The port {port} that your server was to listen on has been taken by another program. Please start it again."
    )
}

pub fn ports_exhausted(first: u16, last: u16) -> String {
    format!(
        "All ports for servers on this machine ({first} to {last}) are in use. Please try again later, or tell its administrators."
    )
}

pub fn no_port(ip: std::net::IpAddr) -> String {
    format!(
        "There is no free port for your server at the address {ip} of this machine. Please tell its administrators."
    )
}

pub fn pre_start_failed(code: i32, last_line: &str) -> String {
    if last_line.is_empty() {
        return format!(
            "The preparation of your server {}. Please tell the administrators of this system.",
            ending(code)
        );
    }
    format!("The preparation of your server failed: {}", quoted(last_line))
}

pub fn pre_start_timeout(timeout: Duration) -> String {
    format!(
        "The preparation of your server did not end within {} and was stopped. Please tell the administrators of this system.",
        seconds(timeout)
    )
}

pub fn pre_start_cannot_start(program: &str) -> String {
    format!(
        "The program \"{}\" that prepares servers could not be started. Please tell the administrators of this machine.",
        quoted(program)
    )
}

pub fn ended_at_once(code: i32) -> String {
    format!("Your server {} right after it had been started.{}", ending(code), memory_hint(code))
}

pub fn ended_before_listening(code: i32) -> String {
    format!("Your server {} before it accepted any connection.{}", ending(code), memory_hint(code))
}

pub fn ended(code: i32) -> String {
    format!("Your server {}.{}", ending(code), memory_hint(code))
}

pub fn ended_unseen() -> String {
    "Your server has ended, and nobody can know how: the process that watched over it had been ended before.".to_owned()
}

pub fn machine_restarted() -> String {
    "Your server has ended because the machine that it ran on was restarted.".to_owned()
}

pub fn record_lost() -> String {
    "Your server has ended, and nobody can know how: the record about it was lost.".to_owned()
}

pub fn start_interrupted() -> String {
    "The start of your server was interrupted: the process that watches over it was ended.".to_owned()
}

pub fn never_listened(port: u16, timeout: Duration) -> String {
    format!("Your server runs, but it did not accept connections on port {port} within {}.", seconds(timeout))
}

pub fn start_timeout(timeout: Duration) -> String {
    format!("Your server was not started within {}.", seconds(timeout))
}

pub fn not_recorded(error: &std::io::Error) -> String {
    format!(
        "Outpost could not record the start of your server: {error}. Please tell the administrators of this machine."
    )
}

pub fn supervisor_failed() -> String {
    "The process that watches over your server could not be started. Please tell the administrators of this machine."
        .to_owned()
}

pub fn cancelled() -> String {
    "The start was cancelled because the server was stopped.".to_owned()
}
