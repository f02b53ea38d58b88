//! The program: quiet surroundings, logs on, then the command line; its result is the exit code.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // Mesa has a layer that asks the display server for the default GPU, and complains on stderr where there is no display.
        // This program chooses by itself.
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
    // Warnings of this program only, unless RUST_LOG asks for more: the graphics stack is talkative.
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("off,tilereel=warn"))
        .format(|line, record| writeln!(line, "{}: {}", level(record.level()), record.args()))
        .init();
    tilereel::cli::run()
}

fn level(level: log::Level) -> &'static str {
    match level {
        log::Level::Error => "error",
        log::Level::Warn => "warning",
        log::Level::Info => "info",
        log::Level::Debug => "debug",
        log::Level::Trace => "trace",
    }
}
