// SPDX-License-Identifier: Apache-2.0
//! Starting other programs from the root of the checkout, with a progress line for each. Never through a shell, so
//! that no argument is interpreted twice.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};
use tools_netlab::console;

use crate::paths;

/// A command that starts at the root of the checkout.
pub(crate) fn command(program: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(paths::root());
    command
}

/// Cargo itself, the one that started this process when there is one.
pub(crate) fn cargo(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    command(&program, args)
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let mut text = program.rsplit('/').next().unwrap_or(&program).to_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

/// Prints the command, runs it with its output on this terminal, and says whether it exited 0.
///
/// # Errors
/// When the program cannot be started.
pub(crate) fn run(command: &mut Command) -> Result<bool> {
    let text = shown(command);
    console::line(&format!("$ {text}"));
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start `{text}`"))?;
    Ok(status.success())
}

/// Runs the command and returns what it wrote.
///
/// # Errors
/// When the program cannot be started.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    let text = shown(command);
    command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{text}`"))
}

/// What the command wrote to stdout when it exited 0, else `None`: for questions such as `id -u`.
pub(crate) fn answer(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether a program of that name is found in `PATH`.
pub(crate) fn has_program(name: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else { return false };
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    answer(&mut command("id", ["-u"])).is_some_and(|id| id == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_is_typed() {
        assert_eq!(shown(&command("/usr/bin/git", ["show", "HEAD"])), "git show HEAD");
    }

    #[test]
    fn an_answer_is_only_taken_from_a_program_that_succeeds() {
        assert_eq!(answer(&mut command("echo", ["yes"])).as_deref(), Some("yes"));
        assert_eq!(answer(&mut command("false", [""; 0])), None);
        assert_eq!(answer(&mut command("no-such-program", [""; 0])), None);
    }

    #[test]
    fn programs_are_looked_up_in_the_path() {
        assert!(has_program("sh"));
        assert!(!has_program("no-such-program"));
    }
}
