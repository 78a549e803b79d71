// SPDX-License-Identifier: Apache-2.0
//! Runs this program under callgrind and sums its counts by source file into stages. A file is where an instruction was
//! written, so what the compiler inlines stays with its stage; the standard library's counts for the function that uses it.

use std::collections::BTreeMap;
use std::process::Command;

use tools_netlab::install;

use crate::workload::{CASES, COUNTED, Case};

/// Stages of the send half and whose code they are; what no stage has is `rest`. The first that matches counts.
const STAGES: [(&str, &[&str]); 3] = [
    (
        "rewrite",
        &[
            "send/rewrite",
            "send/head",
            "send/seal",
            "objects/egress",
            "objects/leg",
            "objects/numbers",
            "/wire/src/",
            "dataplane_wire/",
        ],
    ),
    ("egress", &["send/tile", "send/doorbells", "/io/src/", "dataplane_io/", "null_port"]),
    ("select", &["/forward/src/", "dataplane_forward/"]),
];
/// Whose code receiving a packet is: all but the cipher and its library.
const RECEIVE: [&str; 5] = ["/forward/src/", "dataplane_forward/", "/wire/src/", "/shm/src/", "dataplane_shm/"];

/// Instructions by `case.stage`, for each received packet (`receive`) or forwarded one (all others).
///
/// # Errors
/// Why it could not be counted, for people.
pub(crate) fn counts() -> Result<BTreeMap<String, f64>, String> {
    install::ensure_apt(&["valgrind"]).map_err(|error| format!("{error:#}"))?;
    let mut counts = BTreeMap::new();
    for case in CASES {
        let (places, [received, _]) = run(case, COUNTED[0])?;
        let ours = places.iter().filter(|(place, _)| RECEIVE.iter().any(|part| place.contains(part)));
        counts.insert(format!("{}.receive", case.name), ours.map(|(_, count)| count).sum::<f64>() / received);
        let (places, [_, forwarded]) = run(case, COUNTED[1])?;
        for (place, count) in &places {
            *counts.entry(format!("{}.{}", case.name, stage_of(place))).or_default() += count / forwarded;
        }
        counts.insert(format!("{}.transmit", case.name), places.values().sum::<f64>() / forwarded);
    }
    Ok(counts)
}

fn stage_of(place: &str) -> &'static str {
    let is_in = |parts: &[&str]| parts.iter().any(|part| place.contains(part));
    STAGES.iter().find(|(_, parts)| is_in(parts)).map_or("rest", |(stage, _)| stage)
}

/// Instructions by place, and how many packets were received and forwarded meanwhile.
fn run(case: Case, counted: &str) -> Result<(BTreeMap<String, f64>, [f64; 2]), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let out = std::env::temp_dir().join(format!("millrace-callgrind-{}", std::process::id()));
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--collect-atstart=no", "--compress-strings=no", "--compress-pos=no"]);
    command.arg(format!("--toggle-collect=*{counted}*")).arg(format!("--callgrind-out-file={}", out.display()));
    command.arg(program).args(["--case", case.name]);
    if counted == COUNTED[0] {
        command.arg("--receive");
    }
    let output = command.output().map_err(|error| format!("valgrind cannot be started: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<&str> = text.lines().rev().take(5).collect();
        return Err(format!("valgrind: {}: {}", output.status, tail.into_iter().rev().collect::<Vec<_>>().join(" / ")));
    }
    let profile = std::fs::read_to_string(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let _ = std::fs::remove_file(&out);
    let told = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = told.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let packets = numbers.try_into().map_err(|_| format!("the workload said {told:?}"))?;
    let places = by_place(&profile);
    // An inlined function would leave nothing to count.
    if places.is_empty() { Err(format!("callgrind saw no call of {counted}")) } else { Ok((places, packets)) }
}

/// Sums the self costs of callgrind's format by source file, and where that is the standard library's, by the function of ours
/// that it was inlined into. `fl`, `fi` and `fe` name the file of the lines below; the line after `calls=` is a callee's inclusive
/// cost, which is counted where it arises.
fn by_place(profile: &str) -> BTreeMap<String, f64> {
    let mut places = BTreeMap::new();
    let (mut file, mut function, mut is_call) = (String::new(), String::new(), false);
    for line in profile.lines() {
        if let Some(name) = ["fl=", "fi=", "fe="].iter().find_map(|key| line.strip_prefix(key)) {
            name.clone_into(&mut file);
        } else if let Some(name) = line.strip_prefix("fn=") {
            function = name.replace("::", "/");
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            let cost = line.split_whitespace().nth(1).and_then(|cost| cost.parse::<f64>().ok());
            if let Some(cost) = cost.filter(|_| !std::mem::take(&mut is_call)) {
                let is_ours = file.contains("/src/") && file.contains("/dataplane/") || file.contains("/bench/");
                *places.entry(if is_ours { file.clone() } else { function.clone() }).or_default() += cost;
            }
        }
    }
    places
}
