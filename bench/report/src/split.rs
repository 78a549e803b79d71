// SPDX-License-Identifier: Apache-2.0
//! Where a forwarded packet's time goes: three layers measured, and their differences as stages.

use bench_report::rows::{self, GCM, PAYLOAD, RECEIVERS};

use crate::files::Files;

/// A stage of one forwarded packet.
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    pub(crate) ns: f64,
    /// What the figure is made of.
    pub(crate) how: &'static str,
}

/// One layer that is measured as a whole.
pub(crate) struct Layer {
    pub(crate) name: &'static str,
    pub(crate) ns: Option<f64>,
    pub(crate) what: &'static str,
}

/// A figure of the bench of the pipeline.
pub(crate) fn pipeline(files: &Files, receivers: u64, has_heads: bool, key: &str) -> Option<f64> {
    rows::pipeline(files.rows("forward"), receivers, has_heads, key)
}

/// A figure of the bench of the kernels.
pub(crate) fn sealing(files: &Files, profile: &str, payload: u64, implementation: Option<&str>) -> Option<f64> {
    rows::sealing(files.rows("fanout"), profile, payload, implementation)
}

/// The data plane's CPU time for each packet in the long run over the wire, ns.
pub(crate) fn veth(files: &Files) -> Option<f64> {
    files.figure("webinar", &["other_core", "process_us"]).map(|us| us * 1000.0)
}

/// The layers, from the inside out.
pub(crate) fn layers(files: &Files) -> [Layer; 3] {
    [
        Layer {
            name: "pure function",
            ns: sealing(files, GCM, PAYLOAD, None),
            what: "sealing 1200 bytes for 3000 keys in turn: no table, no port, no kernel",
        },
        Layer {
            name: "null-tx",
            ns: pipeline(files, RECEIVERS, true, "forward_ns"),
            what: "the whole pipeline with heads and checksums, 1 → 3000, into a port that sends nothing",
        },
        Layer {
            name: "veth",
            ns: veth(files),
            what: "the data plane over AF_XDP to 3000 receivers in another namespace, its CPU time by the kernel",
        },
    ]
}

/// The stages of the outermost layer, or none where a layer is missing. The parts of the pipeline's own time follow
/// its instructions, for no clock is fine enough.
pub(crate) fn stages(files: &Files) -> Option<Vec<Stage>> {
    let whole = pipeline(files, RECEIVERS, true, "forward_ns")?;
    let with_heads = pipeline(files, RECEIVERS, true, "own_ns")?;
    let without = pipeline(files, RECEIVERS, false, "own_ns")?;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let open = pipeline(files, RECEIVERS, true, "receive_ns")? / RECEIVERS as f64;
    let counted = |stage: &str| files.figure("guard", &["instructions", &format!("video.{stage}")]);
    let (select, rewrite, rest) = (counted("select")?, counted("rewrite")?, counted("rest")?);
    let share = |count: f64| without * count / (select + rewrite + rest);
    let stage = |name, ns, how| Stage { name, ns, how };
    Some(vec![
        stage("open", open, "receive of the null-tx bench, divided by the receivers"),
        stage("select", share(select), "the pipeline's own time, by instructions"),
        stage("rewrite", share(rewrite), "the pipeline's own time, by instructions"),
        stage("rest", share(rest), "the pipeline's own time, by instructions: library code, packet store"),
        stage("seal", whole - with_heads, "null-tx with the cipher less without it"),
        stage("checksum", (with_heads - without).max(0.0), "null-tx with heads and checksums less without them"),
        stage(
            "send",
            (veth(files)? - whole - open).max(0.0),
            "veth less null-tx: rings, the send call, the kernel's copy",
        ),
    ])
}
