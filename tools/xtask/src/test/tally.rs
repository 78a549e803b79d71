// SPDX-License-Identifier: Apache-2.0
//! Counting results: reads the lines that libtest prints and adds the labs. A run that failed without a failed test
//! (a compile error, an abort) counts as a failure, never as nothing.

/// What ran and how it ended.
#[derive(Default, Debug, PartialEq)]
pub(crate) struct Tally {
    passed: usize,
    failed: Vec<String>,
    skipped: Vec<String>,
    /// Failed tests of the running binary that libtest has named, until its summary counts them.
    named_failures: usize,
    /// Tests of the running binary that said [`SKIP_MARK`]; libtest counts them as passed.
    skipped_inside: usize,
}

/// What a test writes to stdout, past libtest's capture, when it cannot run: `SKIPPED: name: reason`.
const SKIP_MARK: &str = "SKIPPED: ";

/// The counts of one `test result:` line.
#[derive(Debug, PartialEq, Clone, Copy)]
struct Counts {
    passed: usize,
    failed: usize,
}

impl Tally {
    pub(crate) const fn pass(&mut self) {
        self.passed += 1;
    }

    pub(crate) fn fail(&mut self, name: &str, why: &str) {
        self.failed.push(format!("{name}: {why}"));
    }

    pub(crate) fn skip(&mut self, name: &str, why: &str) {
        self.skipped.push(format!("{name}: {why}"));
    }

    /// How many failed, to tell whether a command added any.
    pub(crate) const fn failures(&self) -> usize {
        self.failed.len()
    }

    /// Takes one line of libtest's output.
    pub(crate) fn take_line(&mut self, line: &str) {
        if let Some(counts) = result_line(line) {
            self.passed += counts.passed.saturating_sub(self.skipped_inside);
            self.skipped_inside = 0;
            // Output of a test can hide the line with its name; the number counts all the same.
            for number in self.named_failures..counts.failed {
                self.fail(&format!("failed test {}", number + 1), "no name was printed");
            }
            self.named_failures = 0;
            return;
        }
        if let Some((_, reason)) = line.split_once(SKIP_MARK) {
            // The test finds out while it runs that it cannot, and libtest knows no other end for it than "ok".
            self.skipped.push(reason.trim().to_owned());
            self.skipped_inside += 1;
            return;
        }
        if line.starts_with("running ") {
            self.named_failures = 0;
        }
        let Some((name, end)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) else { return };
        if end.starts_with("FAILED") {
            self.fail(name, "failed, see above");
            self.named_failures += 1;
        } else if let Some(reason) = end.strip_prefix("ignored") {
            let reason = reason.trim_start_matches([',', ' ']);
            self.skip(name, if reason.is_empty() { "ignored without a reason" } else { reason });
        }
    }

    /// Takes the exit status of one `cargo test`. `before` is [`Tally::failures`] at its start.
    pub(crate) fn take_exit(&mut self, command: &str, green: bool, before: usize) {
        if !green && self.failures() == before {
            self.fail(command, "did not end well, and no test says why: see above");
        }
        self.named_failures = 0;
    }

    pub(crate) const fn is_green(&self) -> bool {
        self.failed.is_empty()
    }

    /// What failed and what was skipped, each with its reason.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let skipped = self.skipped.iter().map(|s| format!("skipped: {s}"));
        skipped.chain(self.failed.iter().map(|f| format!("failed: {f}"))).collect()
    }

    /// The closing line.
    pub(crate) fn summary(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed, self.failed.len(), self.skipped.len())
    }
}

/// The counts of `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`.
fn result_line(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?;
    let count = |word: &str| -> Option<usize> {
        let field = rest.split([';', '.']).map(str::trim).find(|f| f.ends_with(word))?;
        field.strip_suffix(word)?.trim().parse().ok()
    };
    Some(Counts { passed: count("passed")?, failed: count("failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(lines: &str) -> Tally {
        let mut tally = Tally::default();
        lines.lines().for_each(|line| tally.take_line(line));
        tally
    }

    #[test]
    fn the_results_of_all_binaries_are_added_up() {
        let tally = taken(
            "running 2 tests\ntest a ... ok\ntest b ... ok\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.01s\n\
             test c ... FAILED\ntest d ... ignored, needs a GPU\n\
             test result: FAILED. 4 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n",
        );
        assert_eq!(tally.summary(), "6 passed, 1 failed, 1 skipped");
        assert_eq!(tally.remarks(), ["skipped: d: needs a GPU", "failed: c: failed, see above"]);
        assert!(!tally.is_green());
    }

    #[test]
    fn a_failure_without_a_name_still_counts() {
        let tally = taken("test result: FAILED. 0 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n");
        assert_eq!(tally.summary(), "0 passed, 2 failed, 0 skipped");
    }

    #[test]
    fn a_compile_error_is_a_failure() {
        let mut tally = Tally::default();
        tally.take_exit("cargo test", false, 0);
        assert_eq!(tally.summary(), "0 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn an_abort_after_passed_tests_is_a_failure() {
        let mut tally = taken("test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n");
        tally.take_exit("cargo test", false, 0);
        assert_eq!(tally.summary(), "5 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn a_failed_test_is_counted_once() {
        let mut tally = taken("test c ... FAILED\ntest result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured\n");
        tally.take_exit("cargo test", false, 0);
        assert_eq!(tally.summary(), "0 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn a_test_that_could_not_run_is_skipped_and_not_passed() {
        let tally = taken(
            "running 3 tests\ntest a ... ok\nSKIPPED: network namespaces need root\ntest b ... ok\ntest c ... ok\n\
             test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n\
             test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(tally.summary(), "6 passed, 0 failed, 1 skipped");
        assert_eq!(tally.remarks(), ["skipped: network namespaces need root"]);
        assert!(tally.is_green());
    }
}
