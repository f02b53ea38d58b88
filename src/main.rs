//! The program: logs on, then the command line; its result is the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Warnings of this program only, unless RUST_LOG asks for more: the graphics stack is talkative.
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("off,tilereel=warn"))
        .format_timestamp(None)
        .init();
    tilereel::cli::run()
}
