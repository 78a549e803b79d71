// SPDX-License-Identifier: Apache-2.0
//! The classifier in the real kernel: every verdict by `BPF_PROG_TEST_RUN`, wrong programs that the same fixtures must find,
//! and a life on a veth. Needs root; elsewhere each test says that it is skipped.
#![forbid(unsafe_code)]

#[cfg(test)]
mod bed;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod live;
#[cfg(test)]
mod mutants;
#[cfg(test)]
mod privileges;
#[cfg(test)]
mod verdicts;
