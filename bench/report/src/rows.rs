// SPDX-License-Identifier: Apache-2.0
//! The two benches that write bare rows, `fanout` and `forward`: which row a figure is, and what it is held to.

use serde_json::Value;
use tools_netlab::report::Report;

/// The profile that figures are about unless they say another.
pub const GCM: &str = "SRTP_AEAD_AES_128_GCM";
/// AES-CM with HMAC-SHA1-80.
pub const CM: &str = "SRTP_AES128_CM_HMAC_SHA1_80";
/// The load that is judged: one publisher to so many, packets of a camera in bursts of four.
pub const RECEIVERS: u64 = 3000;
/// Bytes of those packets.
pub const PAYLOAD: u64 = 1200;
const BURST: u64 = 4;
/// Frames that stay in the cache.
const FRAMES: u64 = 64;

/// What sealing one packet may take, ns: profile, payload bytes, check, bound.
const SEALING: [(&str, u64, &str, f64); 3] =
    [(GCM, 1200, "sealing.gcm_1200", 90.0), (GCM, 160, "sealing.gcm_160", 35.0), (CM, 1200, "sealing.cm_1200", 450.0)];
/// How much faster than `webrtc-srtp` it is to be: profile, check.
const TIMES: [(&str, &str); 2] = [(GCM, "sealing.gcm_1200_to_webrtc_srtp"), (CM, "sealing.cm_1200_to_webrtc_srtp")];
const LEAST_TIMES: f64 = 10.0;
/// What a forwarded packet may take without a port, ns.
const MOST_PIPELINE: (&str, f64) = ("pipeline.gcm_1200", 150.0);

/// A figure of a row of `forward`.
#[must_use]
pub fn pipeline(rows: &[Value], receivers: u64, has_heads: bool, key: &str) -> Option<f64> {
    let wanted = |row: &&Value| {
        row["profile"] == GCM
            && row["receivers"] == receivers
            && row["payload"] == PAYLOAD
            && row["burst"] == BURST
            && row["frames"] == FRAMES
            && row["heads"] == has_heads
    };
    rows.iter().find(wanted)?[key].as_f64()
}

/// The fastest of our implementations in `fanout`, ns for each packet, or another one by its name.
#[must_use]
pub fn sealing(rows: &[Value], profile: &str, payload: u64, implementation: Option<&str>) -> Option<f64> {
    let is_other = |name: &str| name == "webrtc-srtp" || name == "aws-lc-rs";
    let wanted = |row: &&Value| {
        let name = row["implementation"].as_str().unwrap_or_default();
        row["profile"] == profile
            && row["payload"] == payload
            && row["keys"] == RECEIVERS
            && row["per_key"] == 1
            && row["frames"] == FRAMES
            && implementation.map_or_else(|| !is_other(name), |other| name == other)
    };
    rows.iter().filter(wanted).filter_map(|row| row["ns"].as_f64()).min_by(f64::total_cmp)
}

/// Holds the rows of a bench to its bars. One that has none is held to nothing.
pub fn hold(report: &mut Report, rows: &[Value]) {
    match report.name() {
        "fanout" => {
            for (profile, payload, name, most) in SEALING {
                report.at_most(name, sealing(rows, profile, payload, None), "ns", most);
            }
            for (profile, name) in TIMES {
                let of = |implementation| sealing(rows, profile, PAYLOAD, implementation);
                let times = of(Some("webrtc-srtp")).zip(of(None)).map(|(theirs, ours)| theirs / ours);
                report.at_least(name, times, "times", LEAST_TIMES);
            }
        }
        "forward" => {
            let (name, most) = MOST_PIPELINE;
            report.at_most(name, pipeline(rows, RECEIVERS, true, "forward_ns"), "ns", most);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(implementation: &str, ns: f64) -> Value {
        json!({"profile": GCM, "payload": 1200, "keys": 3000, "per_key": 1, "frames": 64, "implementation": implementation, "ns": ns})
    }

    #[test]
    fn the_fastest_of_ours_is_judged_and_a_row_that_is_not_there_is_no_success() {
        let rows = [row("avx512", 89.0), row("avx512 batch", 95.0), row("webrtc-srtp", 900.0), row("aws-lc-rs", 20.0)];
        let mut report = Report::start("fanout");
        hold(&mut report, &rows);
        let failed: Vec<_> = report.failed().map(|check| check.name.as_str()).collect();
        assert_eq!(failed, ["sealing.gcm_160", "sealing.cm_1200", "sealing.cm_1200_to_webrtc_srtp"]);
        let mut report = Report::start("fanout");
        hold(&mut report, &[row("avx512", 91.0)]);
        assert!(report.failed().any(|check| check.name == "sealing.gcm_1200"));
    }

    #[test]
    fn the_pipeline_is_judged_with_heads() {
        let row = |has_heads, ns| json!({"profile": GCM, "payload": 1200, "receivers": 3000, "burst": 4, "frames": 64, "heads": has_heads, "forward_ns": ns});
        let mut report = Report::start("forward");
        hold(&mut report, &[row(false, 100.0), row(true, 151.0)]);
        assert_eq!(report.failed().count(), 1);
        let mut report = Report::start("forward");
        hold(&mut report, &[row(false, 200.0), row(true, 149.0)]);
        assert!(report.is_ok());
    }
}
