// SPDX-License-Identifier: Apache-2.0
//! What a forwarded packet costs under load, as the benches measured it. `cargo xtask bench report` writes `model.json` together
//! with docs/BENCHMARKS.md, from the same files.

use serde::{Deserialize, Serialize};

/// Costs, and where they are from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Model {
    /// Processor time for each forwarded packet over AF_XDP, µs.
    pub(crate) xdp_us: f64,
    /// Through sockets, µs.
    pub(crate) socket_us: f64,
    /// The load that it was measured under.
    pub(crate) load: String,
    /// The machine and its kernel.
    pub(crate) machine: String,
    /// When.
    pub(crate) date: String,
}

impl Model {
    /// The one of this build.
    pub(crate) fn committed() -> Self {
        // A test holds the file to its shape: another one never gets into a build that is shipped.
        serde_json::from_str(include_str!("model.json")).unwrap_or_else(|_| Self {
            xdp_us: f64::INFINITY,
            socket_us: f64::INFINITY,
            load: String::new(),
            machine: String::new(),
            date: String::new(),
        })
    }

    /// For a port by its name.
    pub(crate) fn cost_us(&self, port: &str) -> f64 {
        if port == "xdp" { self.xdp_us } else { self.socket_us }
    }

    #[cfg(test)]
    pub(crate) fn fixed() -> Self {
        let text = |text: &str| text.to_owned();
        let (load, machine) = (text("1 to 3000, 1200 bytes"), text("2 × a CPU, kernel 6.1"));
        Self { xdp_us: 1.0, socket_us: 3.0, load, machine, date: text("2026-01-02 03:04 UTC") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_model_is_one() {
        let model = Model::committed();
        assert!(model.xdp_us > 0.1 && model.xdp_us < model.socket_us && model.socket_us < 100.0, "{model:?}");
        assert!(!model.machine.is_empty() && !model.load.is_empty() && !model.date.is_empty());
        assert!(model.cost_us("xdp") < model.cost_us("uring"));
    }

    #[test]
    fn the_page_of_benchmarks_shows_the_model() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/BENCHMARKS.md");
        let page = std::fs::read_to_string(page).unwrap();
        let model = Model::committed();
        let line = format!("{:.3} µs over AF_XDP, {:.3} µs through sockets", model.xdp_us, model.socket_us);
        assert!(page.contains(&line), "docs/BENCHMARKS.md lacks {line:?}; `cargo xtask bench report` writes both");
    }
}
