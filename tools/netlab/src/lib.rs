// SPDX-License-Identifier: Apache-2.0
//! Network namespaces, veth pairs and a seeded impairment relay, with RAII clean-up.
