// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask lab`: builds what the labs start and hands over to `tools_netlab`. Holds no lab itself.

use anyhow::{Result, bail};
use clap::Args;
use tools_netlab::console;
use tools_netlab::lab::{LABS, Lab};

use crate::{run, shell};

const EXAMPLES: &str = "\
Examples:
  cargo xtask lab --list
  cargo xtask lab hostile --help
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
    Help(&'a str),
    Run { name: &'a str, args: &'a [String] },
}

/// Splits the words after `lab`. Options in front of a name are the list or nothing.
fn wish(words: &[String]) -> Result<Wish<'_>> {
    match words {
        [] => Ok(Wish::List),
        [first, ..] if first == "--list" || is_help(first) => Ok(Wish::List),
        [first, ..] if first.starts_with('-') => bail!("the lab's name comes first: `cargo xtask lab NAME {first} …`"),
        [name, args @ ..] if args.iter().any(|word| is_help(word)) => Ok(Wish::Help(name)),
        [name, args @ ..] => Ok(Wish::Run { name, args }),
    }
}

fn is_help(word: &str) -> bool {
    matches!(word, "--help" | "-h")
}

/// Runs the command.
///
/// # Errors
/// When the binaries cannot be built, or the lab's name or an argument is unknown, or it could not be carried out.
pub(crate) fn main(options: &Options) -> Result<bool> {
    match wish(&options.words)? {
        Wish::List => {
            console::line("Labs, run with `cargo xtask lab NAME [--json FILE]` (they need root):\n");
            for lab in LABS {
                console::line(&format!("  {:<15}  {}", lab.name, lab.shows));
            }
            console::line(&format!("\n{EXAMPLES}"));
            Ok(true)
        }
        Wish::Help(name) => {
            let lab = Lab::find(name)?;
            console::line(&format!("cargo xtask lab {name}: {}\n\n{}\n{EXAMPLES}", lab.shows, lab.help()));
            Ok(true)
        }
        Wish::Run { name, args } => {
            // Name and options are looked at before minutes are spent on a build.
            Lab::find(name)?.check(args)?;
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

    #[test]
    fn help_behind_a_name_is_that_labs() {
        for given in ["call --help", "call --seconds 5 -h"] {
            assert_eq!(wish(&words(given)).expect("valid"), Wish::Help("call"));
        }
    }
}
