// SPDX-License-Identifier: Apache-2.0
//! Answers to recorded offers of real clients (`testdata/`), checked by a reader of SDP that shares no code with the
//! crate. It must never trust what the crate says about its own text.

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod lines;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod participant;
#[cfg(test)]
mod publisher;
#[cfg(test)]
mod server;
#[cfg(test)]
mod viewer;
