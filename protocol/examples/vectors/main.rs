//! Writes the test vectors of `specs/vectors`, or with `--check` says which of them differ from what the code does.
//!
//! `cargo run -p infernet-protocol --example vectors -- specs/vectors [--check]`

mod files;
mod frames;
mod json;
mod sample;
mod show;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut check = false;
    let mut folder = None;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--check" => check = true,
            _ => folder = Some(argument),
        }
    }
    let Some(folder) = folder else {
        say("usage: vectors FOLDER [--check]");
        return ExitCode::from(2);
    };
    let mut wrong = 0;
    for (name, vectors) in files::all() {
        let path = Path::new(&folder).join(name);
        let text = vectors.to_text();
        let outcome = if check {
            compare(&path, &text)
        } else {
            write(&path, &text)
        };
        if let Err(why) = outcome {
            wrong += 1;
            say(&format!("{}: {why}", path.display()));
        }
    }
    if wrong > 0 {
        say("run `cargo run -p infernet-protocol --example vectors -- specs/vectors` if the change is meant");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| error.to_string())
}

fn compare(path: &Path, text: &str) -> Result<(), String> {
    let held = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    match held.lines().zip(text.lines()).position(|(held, made)| held != made) {
        Some(line) => Err(format!("differs from line {} on", line + 1)),
        None if held == text => Ok(()),
        None => Err("is longer or shorter than what the code makes".to_owned()),
    }
}

fn say(line: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}
