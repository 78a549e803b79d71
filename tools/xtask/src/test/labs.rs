// SPDX-License-Identifier: Apache-2.0
//! The labs that `cargo xtask test` runs, in short forms, each in a process of its own with a limit. The only place
//! where these forms are written down.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tools_netlab::console;

use super::tally::Tally;
use crate::{paths, shell};

/// A form takes at most this long, installing not counted: the first run of a machine installs browsers.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// How often a form is tried. A lab holds a busy shared machine to microseconds: one red run may be the neighbour's, and
/// every one is said; three are ours.
const ATTEMPTS: u32 = 3;

/// Bound of a worker's longest turn in these forms, µs. The labs themselves hold 500: on a machine of two cores that runs the
/// browsers as well, interrupts on a worker's core lengthen a turn by more than that.
const TURN_US: &str = "20000";

/// What a form may take in all, so that a lab that hangs while it installs ends as well.
const HARD_LIMIT_S: u64 = 600;

/// One lab with its options.
pub(crate) struct Form {
    lab: &'static str,
    args: &'static [&'static str],
    /// Whether its checks must hold. A sabotaged lab must be carried out and find that they do not.
    must_pass: bool,
}

/// The forms, in the order in which they run.
pub(crate) const FORMS: &[Form] = &[
    Form { lab: "call", args: &["--backend", "uring", "--browsers", "chromium:2", "--seconds", "10"], must_pass: true },
    Form { lab: "call", args: &["--backend", "xdp", "--browsers", "chromium:2", "--seconds", "10"], must_pass: true },
    Form {
        lab: "call",
        args: &["--backend", "xdp", "--browsers", "chromium:2,firefox:1", "--seconds", "10"],
        must_pass: true,
    },
    Form {
        lab: "call",
        args: &["--backend", "xdp", "--family", "6", "--browsers", "chromium:2", "--seconds", "6"],
        must_pass: true,
    },
    Form {
        lab: "call",
        args: &["--backend", "sockets", "--through", "whip", "--browsers", "chromium:2", "--seconds", "6"],
        must_pass: true,
    },
    Form {
        lab: "call",
        args: &["--backend", "xdp", "--browsers", "chromium:2", "--seconds", "5", "--sabotage", "swap"],
        must_pass: false,
    },
    Form {
        lab: "call",
        args: &["--backend", "uring", "--browsers", "chromium:2", "--seconds", "5", "--sabotage", "drop"],
        must_pass: false,
    },
    Form {
        lab: "call",
        args: &["--backend", "uring", "--browsers", "chromium:2", "--seconds", "5", "--sabotage", "mute"],
        must_pass: false,
    },
    Form {
        lab: "restart-control",
        args: &["--backend", "xdp", "--browsers", "chromium:3", "--seconds", "10"],
        must_pass: true,
    },
    Form { lab: "local", args: &["--seconds", "6"], must_pass: true },
    Form { lab: "whip", args: &["--subscriber", "aiortc"], must_pass: true },
    Form { lab: "hostile", args: &["--backend", "uring", "--rate", "20000", "--packets", "200000"], must_pass: true },
];

impl Form {
    /// The lab and its options as they are typed.
    pub(crate) fn words(&self) -> String {
        let mut words = vec!["lab", self.lab];
        words.extend_from_slice(self.args);
        words.join(" ")
    }

    /// Runs the form in a child and counts the result.
    ///
    /// # Errors
    /// When the child cannot be started.
    pub(crate) fn carry_out(&self, root: bool, tally: &mut Tally) -> Result<()> {
        let name = self.words();
        if !root {
            tally.skip(&name, "network namespaces need root");
            return Ok(());
        }
        for attempt in 1..=ATTEMPTS {
            let Some(fault) = self.attempt(&name)? else {
                tally.pass();
                return Ok(());
            };
            if attempt == ATTEMPTS {
                tally.fail(&name, fault);
            } else {
                console::line(&format!("note: {name}: {fault}; attempt {attempt} of {ATTEMPTS}, once more"));
            }
        }
        Ok(())
    }

    /// Runs the lab once; what is wrong with its end.
    fn attempt(&self, name: &str) -> Result<Option<&'static str>> {
        console::line(&format!("$ cargo xtask {name}"));
        let start = Instant::now();
        let status = self.command().status().with_context(|| format!("cannot start `{name}`"))?;
        let took = start.elapsed();
        if took > LIMIT {
            console::line(&format!("note: {name} took {} s, {} are meant", took.as_secs(), LIMIT.as_secs()));
        }
        Ok(ending_fault(status.code(), self.must_pass))
    }

    /// This program with the lab's words, by its place in the target folder: the tests' build has replaced the file that
    /// runs here. SIGTERM at the limit lets the lab remove its namespaces.
    fn command(&self) -> Command {
        let mut command = shell::command("timeout", ["--signal=TERM", "--kill-after=20", &HARD_LIMIT_S.to_string()]);
        command.arg(paths::release_binary("xtask")).arg("lab").arg(self.lab).args(self.args);
        command.env("MILLRACE_LAB_TURN_US", TURN_US);
        command
    }
}

/// What is wrong with the exit status, in the terms of `main`: 0 all checks hold, 1 some do not, 2 not carried out.
const fn ending_fault(code: Option<i32>, must_pass: bool) -> Option<&'static str> {
    match (code, must_pass) {
        (Some(0), true) | (Some(1), false) => None,
        (Some(0), false) => Some("it is sabotaged and must turn red, but its checks hold"),
        (Some(1), true) => Some("a check does not hold, see above"),
        (Some(124 | 137), _) => Some("it did not end in time"),
        (_, _) => Some("it could not be carried out, see above"),
    }
}

#[cfg(test)]
mod tests {
    use tools_netlab::lab::Lab;

    use super::*;

    #[test]
    fn every_form_names_a_lab_that_exists() {
        for form in FORMS {
            let words: Vec<String> = form.args.iter().map(|word| (*word).to_owned()).collect();
            Lab::find(form.lab).and_then(|lab| lab.check(&words)).expect("a lab that knows its options");
        }
    }

    #[test]
    fn at_least_one_form_must_turn_red() {
        assert!(FORMS.iter().any(|form| !form.must_pass && form.args.contains(&"--sabotage")));
        assert!(FORMS.iter().all(|form| form.must_pass != form.args.contains(&"--sabotage")));
    }

    #[test]
    fn a_sabotaged_lab_that_could_not_be_carried_out_proves_nothing() {
        assert_eq!(ending_fault(Some(1), false), None);
        for code in [Some(0), Some(2), Some(124), None] {
            assert!(ending_fault(code, false).is_some(), "{code:?}");
        }
    }

    #[test]
    fn a_lab_passes_only_with_status_0() {
        assert_eq!(ending_fault(Some(0), true), None);
        for code in [Some(1), Some(2), Some(124), None] {
            assert!(ending_fault(code, true).is_some(), "{code:?}");
        }
    }

    #[test]
    fn without_root_a_form_is_skipped_with_its_reason() {
        let mut tally = Tally::default();
        for form in FORMS {
            form.carry_out(false, &mut tally).expect("nothing is started");
        }
        assert_eq!(tally.summary(), format!("0 passed, 0 failed, {} skipped", FORMS.len()));
        assert!(tally.remarks().iter().all(|line| line.contains("need root")));
    }
}
