// SPDX-License-Identifier: Apache-2.0
//! Processes that a lab starts: each in its own process group, its output in a file, ended when its owner goes.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::registry;

/// A child process with its whole group. Dropping it ends the group.
#[derive(Debug)]
pub struct Process {
    child: Child,
    group: i32,
    log: PathBuf,
}

impl Process {
    /// Starts `command` in its own group with stderr (and stdout, unless it is already piped by `keep_stdout`) in `log`.
    ///
    /// # Errors
    /// When the log cannot be created or the program not be started.
    pub fn spawn(mut command: Command, log: &Path, keep_stdout: bool) -> Result<Self> {
        registry::ensure_not_ending()?;
        let file = File::create(log).with_context(|| format!("create {}", log.display()))?;
        command.stderr(file.try_clone()?).process_group(0);
        if keep_stdout {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        } else {
            command.stdin(Stdio::null()).stdout(file);
        }
        let child = command.spawn().with_context(|| format!("start {}", command.get_program().display()))?;
        let group = i32::try_from(child.id())?;
        registry::add_group(group);
        Ok(Self { child, group, log: log.to_owned() })
    }

    /// The child's process id (also its group's).
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.group
    }

    /// Where its output goes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// True until the child has exited.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// All that it has written so far, as text.
    #[must_use]
    pub fn log_text(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last `count` lines that it has written, for error messages.
    #[must_use]
    pub fn log_tail(&self, count: usize) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// Waits until the log contains `text`.
    ///
    /// # Errors
    /// When the child exits first, or `limit` passes.
    pub fn wait_for_text(&mut self, text: &str, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        loop {
            if self.log_text().contains(text) {
                return Ok(());
            }
            if !self.is_running() {
                bail!("it exited before it wrote {text:?}:\n{}", self.log_tail(20));
            }
            if Instant::now() > until {
                bail!("it did not write {text:?} within {} s:\n{}", limit.as_secs(), self.log_tail(20));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for the exit; `Ok(None)` when `limit` passes first.
    ///
    /// # Errors
    /// When the child cannot be waited for.
    pub fn wait_for_exit(&mut self, limit: Duration) -> Result<Option<std::process::ExitStatus>> {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() > until {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// SIGTERM to the child alone, wait up to `limit`, then end the group whatever is left of it.
    ///
    /// # Errors
    /// When the child cannot be waited for.
    pub fn end(&mut self, limit: Duration) -> Result<Option<std::process::ExitStatus>> {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.group), nix::sys::signal::Signal::SIGTERM);
        self.wait_for_exit(limit)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The child is not reaped yet, so its number still is its own.
        if self.is_running() {
            let _ = self.end(Duration::from_secs(3));
        }
        registry::end_group(self.group);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a short command to its end and returns its output.
///
/// # Errors
/// When it cannot be started or fails; the message holds what it wrote to stderr.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("start {}", command.get_program().display()))?;
    if !output.status.success() {
        let arguments: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        bail!(
            "{} {} failed ({}): {}",
            command.get_program().display(),
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(output)
}
