//! Reads the command line and hands over.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: a supervisor is one process a server and has to stay small.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "supervise") {
        return outpost::spawner::process::supervisor::main();
    }
    outpost::cli::main()
}
