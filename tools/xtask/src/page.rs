// SPDX-License-Identifier: Apache-2.0
//! The page's own checks: its types by TypeScript (`tsc --checkJs --strict`), its unit tests in node. Both run what is in
//! `controlplane/web` as it stands; nothing is compiled for the browser.

use anyhow::Result;
use tools_netlab::{console, install};

use crate::shell;
use crate::test::Tally;

/// The settings of the type checker, which name the files.
const SETTINGS: &str = "controlplane/web/jsconfig.json";
/// The folder of the unit tests.
const TESTS: &str = "controlplane/web/tests";

/// What the type checker finds; each string is one finding.
///
/// # Errors
/// When node or TypeScript is missing and cannot be installed (npm does not reach its registry), or cannot be started.
pub(crate) fn type_errors() -> Result<Vec<String>> {
    install::ensure_node()?;
    let modules = install::ensure_npm(&[install::TYPESCRIPT])?;
    let compiler = modules.join("typescript/bin/tsc");
    let arguments =
        [compiler.as_os_str(), "--project".as_ref(), SETTINGS.as_ref(), "--pretty".as_ref(), "false".as_ref()];
    let output = shell::output(&mut shell::command("node", arguments))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut findings: Vec<String> = text.lines().filter(|line| line.contains("error TS")).map(str::to_owned).collect();
    if findings.is_empty() && !output.status.success() {
        findings.push(format!("tsc failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(findings)
}

/// Runs the unit tests of the page and counts them.
///
/// # Errors
/// When node cannot be started although it is there.
pub(crate) fn unit_tests(filter: Option<&str>, tally: &mut Tally) -> Result<()> {
    if !shell::has_program("node") {
        tally.skip("unit tests of the page", "node is not installed");
        return Ok(());
    }
    let mut words = vec!["--test".to_owned(), "--test-reporter=tap".to_owned()];
    // A filter is plain text for cargo and an expression for node.
    words.extend(filter.map(|text| format!("--test-name-pattern={}", literal(text))));
    words.push(TESTS.to_owned());
    let mut command = shell::command(&install::ensure_test_node()?.to_string_lossy(), &words);
    let shown = shell::shown(&command);
    console::line(&format!("$ {shown}"));
    let output = shell::output(&mut command)?;
    let before = tally.failures();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match ending(line) {
            Some((name, true)) => {
                tally.pass();
                console::line(&format!("test {name} ... ok"));
            }
            Some((name, false)) => tally.fail(name, "failed, see below"),
            None => {}
        }
    }
    if !output.status.success() {
        console::line(&String::from_utf8_lossy(&output.stdout));
    }
    tally.take_exit(&shown, output.status.success(), before);
    Ok(())
}

/// A test's name and whether it passed, of one line `ok 3 - name` or `not ok 3 - name` of TAP. Tests that the filter left
/// out are no result.
fn ending(line: &str) -> Option<(&str, bool)> {
    let (rest, passed) = match line.strip_prefix("not ok ") {
        Some(rest) => (rest, false),
        None => (line.strip_prefix("ok ")?, true),
    };
    let (_, name) = rest.split_once(" - ")?;
    if name.contains("# SKIP") || name.ends_with(".js") { None } else { Some((name, passed)) }
}

/// The text as an expression that means only itself.
fn literal(text: &str) -> String {
    let escape = |letter: char| if letter.is_alphanumeric() { String::from(letter) } else { format!("\\{letter}") };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_from_tap() {
        assert_eq!(ending("ok 3 - joins - and leaves"), Some(("joins - and leaves", true)));
        assert_eq!(ending("not ok 3 - joins"), Some(("joins", false)));
        for line in ["# pass 3", "    duration_ms: 1", "ok 4 - left out # SKIP test name does not match pattern", "ok"]
        {
            assert_eq!(ending(line), None, "{line}");
        }
    }

    #[test]
    fn a_filter_means_only_itself() {
        assert_eq!(literal("a.b*"), "a\\.b\\*");
    }
}
