// SPDX-License-Identifier: Apache-2.0
//! Benches of the forwarding pipeline (`benches/`). They are a package of their own because the tests of `dataplane-forward`
//! turn on crash points in shared memory, which each durable store would pay for. Built with `--cfg null_cipher`, which
//! `cargo xtask bench forward` does, they also run the pipeline without its cipher, so that its own cost can be seen.
#![forbid(unsafe_code)]
