//! Tells the binary what it was built from, for `infernet version`.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to build scripts through the environment"
)]

use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=INFERNET_BUILD_COMMIT");
    let variable = |name| std::env::var(name).ok();
    let profile = variable("PROFILE").unwrap_or_default();
    // A development build is not built anew for a commit, so it does not claim to know one.
    let is_release = profile == "release";
    let given = variable("INFERNET_BUILD_COMMIT");
    let from_git = || {
        for name in ["HEAD", "logs/HEAD"] {
            if let Some(path) = git(&["rev-parse", "--git-path", name]) {
                println!("cargo::rerun-if-changed={path}");
            }
        }
        let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
        let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some();
        Some(if changed { format!("{commit}+changes") } else { commit })
    };
    let commit = given.or_else(|| is_release.then(from_git).flatten());
    let date = is_release
        .then(|| git(&["show", "-s", "--format=%cs", "HEAD"]))
        .flatten();
    println!("cargo::rustc-env=INFERNET_COMMIT={}", commit.unwrap_or_default());
    println!("cargo::rustc-env=INFERNET_COMMIT_DATE={}", date.unwrap_or_default());
    println!(
        "cargo::rustc-env=INFERNET_TARGET={}",
        variable("TARGET").unwrap_or_default()
    );
    println!("cargo::rustc-env=INFERNET_PROFILE={profile}");
}
