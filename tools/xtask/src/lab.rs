// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask lab`: builds what the labs start and hands over to `tools_netlab`. Holds no lab itself.

use anyhow::{Result, bail};
use clap::Args;
use tools_netlab::console;

use crate::{run, shell};

const EXAMPLES: &str = "\
Examples:
  cargo xtask lab --list
  cargo xtask lab call --backend uring --browsers chromium:2 --json out.json
  cargo xtask lab call --sabotage mute        # must turn red: the lab can fail
  cargo xtask lab whip --publisher ffmpeg --subscriber aiortc";

/// `cargo xtask lab`.
#[derive(Args)]
#[command(after_help = EXAMPLES, disable_help_flag = true)]
pub(crate) struct Options {
    /// The lab's name and its own options; `--list` shows the names.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "NAME [OPTIONS]")]
    words: Vec<String>,
}

/// What the words after `lab` ask for.
#[derive(Debug, PartialEq)]
enum Wish<'a> {
    List,
    Run { name: &'a str, args: &'a [String] },
}

/// Splits the words after `lab`. Options in front of a name are the list or nothing.
fn wish(words: &[String]) -> Result<Wish<'_>> {
    match words {
        [] => Ok(Wish::List),
        [first, ..] if matches!(first.as_str(), "--list" | "--help" | "-h") => Ok(Wish::List),
        [first, ..] if first.starts_with('-') => bail!("the lab's name comes first: `cargo xtask lab NAME {first} …`"),
        [name, args @ ..] => Ok(Wish::Run { name, args }),
    }
}

/// Runs the command.
///
/// # Errors
/// When the binaries cannot be built, or the lab's name or an argument is unknown, or it could not be carried out.
pub(crate) fn main(options: &Options) -> Result<bool> {
    match wish(&options.words)? {
        Wish::List => {
            console::line("Labs, run with `cargo xtask lab NAME [--json FILE]` (they need root):\n");
            for (name, shows) in tools_netlab::lab::LABS {
                console::line(&format!("  {name:<12} {shows}"));
            }
            console::line(&format!("\n{EXAMPLES}"));
            Ok(true)
        }
        Wish::Run { name, args } => {
            // The name is looked up before minutes are spent on a build.
            if !tools_netlab::lab::LABS.iter().any(|(known, _)| *known == name) {
                bail!("there is no lab `{name}`; `cargo xtask lab --list` shows them");
            }
            if !shell::is_root() {
                bail!("labs make network namespaces and need root: sudo -E cargo xtask lab {name} …");
            }
            // Whoever names a folder of binaries has built them.
            if !args.iter().any(|word| word == "--bin-dir" || word.starts_with("--bin-dir=")) {
                run::build_release()?;
            }
            tools_netlab::lab::run(name, args)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn what_follows_the_name_goes_to_the_lab_unread() {
        let given = words("call --browsers chromium:2 --json out.json");
        let Wish::Run { name, args } = wish(&given).expect("valid") else { panic!("a run is asked for") };
        assert_eq!(name, "call");
        assert_eq!(args, words("--browsers chromium:2 --json out.json"));
    }

    #[test]
    fn without_a_name_the_labs_are_listed() {
        assert_eq!(wish(&[]).expect("valid"), Wish::List);
        assert_eq!(wish(&words("--list")).expect("valid"), Wish::List);
        assert!(wish(&words("--json out.json call")).is_err());
    }
}
