//! Reads the command line and hands over.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: a supervisor is one process a server and has to stay small.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "supervise") {
        return outpost::spawner::process::supervisor::main();
    }
    keep_memory_small();
    outpost::cli::main()
}

/// glibc keeps what a password check once took (12 MiB) and raises its thresholds by it, so that 10,000 servers took 130 MiB
/// instead of 35. With fixed thresholds it gives such blocks back.
#[cfg(target_env = "gnu")]
fn keep_memory_small() {
    const BLOCK: i32 = 256 * 1024;
    // SAFETY: mallopt has no precondition, and no other thread is running yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, BLOCK);
        libc::mallopt(libc::M_TRIM_THRESHOLD, BLOCK);
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

#[cfg(not(target_env = "gnu"))]
fn keep_memory_small() {}
