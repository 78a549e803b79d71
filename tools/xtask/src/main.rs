// SPDX-License-Identifier: Apache-2.0
//! Repository automation: `cargo xtask run | test | lint | lab | bench | abi | ebpf`.
//!
//! A person and CI type the same commands. Each exits 0 only when all that it promises holds and prints its one-line
//! summary last. Never part of the product: no crate may depend on this one.
#![forbid(unsafe_code)]

mod abi;
mod bench;
mod ebpf;
mod lab;
mod lint;
mod page;
mod paths;
mod run;
mod shell;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tools_netlab::console;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Builds, runs, tests and checks Millrace.
#[derive(Parser)]
#[command(name = "cargo xtask", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the server and start it on this machine; prints the URL.
    Run(run::Options),
    /// Install what the tests need and run all of them: unit, property, loom models, labs with real browsers.
    Test(test::Options),
    /// Check format, clippy, the laws of the layout, sizes, headers, unsafe, dependencies and licences.
    Lint(lint::Options),
    /// Run one end-to-end case with real clients in network namespaces (needs root).
    Lab(lab::Options),
    /// Run one benchmark and print its table.
    Bench(bench::Options),
    /// Compare the layout of the shared memory with the committed snapshot.
    Abi(abi::Options),
    /// Fetch the BPF toolchain, compile the XDP classifier, check the committed objects.
    Ebpf(ebpf::Options),
    /// The seeded impairment relay between two interfaces; the labs start it.
    #[command(hide = true)]
    Relay {
        /// What the relay understands; see `tools_netlab::relay`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(options) => run::main(&options),
        Command::Test(options) => test::main(&options),
        Command::Lint(options) => lint::main(&options),
        Command::Lab(options) => lab::main(&options),
        Command::Bench(options) => bench::main(&options),
        Command::Abi(options) => abi::main(&options),
        Command::Ebpf(options) => ebpf::main(&options),
        Command::Relay { args } => tools_netlab::relay::main(&args).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            console::line(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_a_person_types_shows_examples() {
        for command in Cli::command().get_subcommands().filter(|c| !c.is_hide_set()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("cargo xtask"), "{} has no example in its --help", command.get_name());
        }
    }
}
