// SPDX-License-Identifier: Apache-2.0
//! `millrace capacity`: how many more receivers the workers have time for. Two looks at counters and thread times, and from them
//! the cost of a packet; where these cannot tell, the cost that the benches have measured, and the answer says so.
//!
//! It knows the workers' processor time and the tables' free entries, and nothing of links, cards and the receivers' side.

mod model;
mod text;
mod threads;

use std::path::Path;
use std::time::{Duration, Instant};

use dataplane_shm::Segment;
use serde::Serialize;

use crate::processes::Processes;
use crate::source::SourceError;
use crate::status::{Status, collect};

pub(crate) use self::model::Model;
pub(crate) use self::text::text;

/// Bytes of a full video packet.
const VIDEO_PACKET_BYTES: f64 = 1200.0;
/// With fewer packets per second the worker wakes up for each, and a packet costs several times what it does under load.
const LEAST_RATE: f64 = 20_000.0;
/// A worker that uses its core for longer than this is full, or never sleeps: its time cannot tell which.
const NEVER_SLEEPS: f64 = 0.95;
/// Subscriptions that a receiver of one camera and one microphone has.
const SUBSCRIPTIONS: u64 = 2;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Question {
    /// Of a receiver's video.
    pub(crate) kbps: u32,
    /// Audio packets that it gets.
    pub(crate) audio_pps: u32,
    /// How much of a core may be used.
    pub(crate) fill_percent: u32,
}

/// One look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    pub(crate) status: Status,
    /// Processor time of each worker's thread, ns; none where it could not be read.
    pub(crate) cpu_ns: Vec<Option<u64>>,
}

/// The receiver that is counted in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Receiver {
    pub(crate) video_kbps: u32,
    pub(crate) audio_packets_per_second: u32,
    /// All packets that are sent to it.
    pub(crate) packets_per_second: f64,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct WorkerCapacity {
    /// Its number.
    pub(crate) worker: u16,
    /// The port that it works on.
    pub(crate) port: &'static str,
    /// Share of its core that its thread used, 0 to 1; none where it could not be read.
    pub(crate) busy: Option<f64>,
    /// Packets that it sent to receivers.
    pub(crate) packets_per_second: f64,
    /// Processor time for each of them, as measured, µs; none without packets.
    pub(crate) measured_us: Option<f64>,
    /// What is reckoned with, µs.
    pub(crate) cost_us: f64,
    /// `measured` or `model`.
    pub(crate) basis: &'static str,
    /// Why not measured; empty where it is.
    pub(crate) why: &'static str,
    /// Share that is reckoned as used.
    pub(crate) used: f64,
    /// Further receivers that it has time for.
    pub(crate) receivers_more: u64,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Capacity {
    /// Further receivers that fit.
    pub(crate) receivers_more: u64,
    /// `time` of the workers, or the `transports` or `subscriptions` of the tables.
    pub(crate) limited_by: &'static str,
    /// The receiver that is counted in.
    pub(crate) receiver: Receiver,
    /// Of a core that may be used, percent.
    pub(crate) fill_percent: u32,
    /// Between the two looks, s.
    pub(crate) window_s: f64,
    /// Packets sent to receivers meanwhile, by all workers.
    pub(crate) packets_per_second: f64,
    /// One per worker that runs.
    pub(crate) workers: Vec<WorkerCapacity>,
    /// What is reckoned with where the server is too idle to be measured.
    pub(crate) model: Model,
}

/// Looks twice at a running server.
///
/// # Errors
/// When no data plane runs.
pub(crate) fn measure(runtime_dir: &Path, window: Duration, question: Question) -> Result<Capacity, SourceError> {
    let segment = crate::source::attach(runtime_dir)?;
    let before = look(&segment, runtime_dir)?;
    let began = Instant::now();
    std::thread::sleep(window);
    let after = look(&segment, runtime_dir)?;
    Ok(answer(&before, &after, began.elapsed(), question))
}

fn look(segment: &Segment, runtime_dir: &Path) -> Result<Look, SourceError> {
    let status = collect(segment, Processes::look(runtime_dir), crate::mono_ns());
    let dataplane = &status.processes.dataplane;
    let Some(pid) = dataplane.pid.filter(|_| dataplane.alive && !dataplane.stopped) else {
        return Err(SourceError::NoDataPlane(dataplane.state()));
    };
    let cpu_ns = threads::workers_ns(Path::new("/proc"), pid, status.workers.len());
    Ok(Look { status, cpu_ns })
}

/// The answer from two looks.
pub(crate) fn answer(before: &Look, after: &Look, window: Duration, question: Question) -> Capacity {
    let model = Model::committed();
    let video = f64::from(question.kbps) * 1000.0 / 8.0 / VIDEO_PACKET_BYTES;
    let receiver = Receiver {
        video_kbps: question.kbps,
        audio_packets_per_second: question.audio_pps,
        packets_per_second: video + f64::from(question.audio_pps),
    };
    let workers: Vec<_> = (0..after.status.workers.len())
        .filter(|at| after.status.workers.get(*at).is_some_and(|worker| worker.running))
        .filter_map(|at| worker_capacity(before, after, at, (window, question, &model, &receiver)))
        .collect();
    let by_time = workers.iter().map(|worker| worker.receivers_more).sum();
    let Status { tables, capacities, .. } = &after.status;
    let (receivers_more, limited_by) = [
        (by_time, "time"),
        (u64::from(capacities.transports).saturating_sub(tables.transports), "transports"),
        (u64::from(capacities.subscriptions).saturating_sub(tables.subscriptions) / SUBSCRIPTIONS, "subscriptions"),
    ]
    .into_iter()
    .min_by_key(|(more, _)| *more)
    .unwrap_or((by_time, "time"));
    Capacity {
        receivers_more,
        limited_by,
        receiver,
        fill_percent: question.fill_percent,
        window_s: window.as_secs_f64(),
        packets_per_second: workers.iter().map(|worker| worker.packets_per_second).sum(),
        workers,
        model,
    }
}

type Terms<'a> = (Duration, Question, &'a Model, &'a Receiver);

fn worker_capacity(before: &Look, after: &Look, at: usize, terms: Terms<'_>) -> Option<WorkerCapacity> {
    let (window, question, model, receiver) = terms;
    let (then, worker) = (before.status.workers.get(at)?, after.status.workers.get(at)?);
    let seconds = window.as_secs_f64();
    let sent = as_f64(worker.cohort_ledger.sent.saturating_sub(then.cohort_ledger.sent));
    let rate = sent / seconds;
    let cpu_ns = before.cpu_ns.get(at).copied().flatten().zip(after.cpu_ns.get(at).copied().flatten());
    let busy = cpu_ns.map(|(from, to)| as_f64(to.saturating_sub(from)) / 1e9 / seconds);
    let measured_us = busy.filter(|_| sent > 0.0).map(|busy| busy * 1e6 / rate);
    let why = match busy {
        None => "its thread's time cannot be read: ask as the server's user or with sudo",
        Some(_) if rate < LEAST_RATE => "too idle: it wakes up for single packets, which costs more than under load",
        Some(busy) if busy > NEVER_SLEEPS => "it never sleeps: full, or polling; its time cannot tell which",
        Some(_) => "",
    };
    let modelled_us = model.cost_us(worker.port);
    let (basis, cost_us, used) = match (measured_us, busy) {
        (Some(cost), Some(busy)) if why.is_empty() => ("measured", cost, busy),
        // Waking up takes less of a busy worker's time: what is reckoned as used is what the packets would need then.
        _ => ("model", modelled_us, rate * modelled_us / 1e6),
    };
    let free = (f64::from(question.fill_percent) / 100.0 - used).max(0.0);
    Some(WorkerCapacity {
        worker: worker.worker,
        port: worker.port,
        busy,
        packets_per_second: rate,
        measured_us,
        cost_us,
        basis,
        why,
        used,
        receivers_more: whole(free * 1e6 / (cost_us * receiver.packets_per_second)),
    })
}

#[expect(clippy::cast_precision_loss, reason = "below 2^53")]
const fn as_f64(value: u64) -> f64 {
    value as f64
}

/// So many at most; no more than a number that means "no bound".
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float's cast saturates, and this one is at least 0"
)]
fn whole(value: f64) -> u64 {
    if value.is_finite() { value.max(0.0) as u64 } else { u64::from(u32::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use crate::status::{Capacities, Tables, WorkerStatus};

    const QUESTION: Question = Question { kbps: 1500, audio_pps: 50, fill_percent: 80 };
    const SECOND: Duration = Duration::from_secs(1);

    /// A worker for each (packets sent, processor time in ms).
    fn looked(workers: &[(u64, Option<u64>)]) -> Look {
        let status = |(worker, (sent, _)): (u16, &(u64, Option<u64>))| {
            let mut status = WorkerStatus { worker, running: true, port: "xdp", ..WorkerStatus::default() };
            status.cohort_ledger.sent = *sent;
            status
        };
        Look {
            status: Status {
                workers: (0..).zip(workers).map(status).collect(),
                tables: Tables { transports: 100, subscriptions: 200, ..Tables::default() },
                capacities: Capacities { transports: 65_536, subscriptions: 131_072, ..Capacities::default() },
                ..Status::default()
            },
            cpu_ns: workers.iter().map(|(_, ms)| ms.map(|ms| ms * 1_000_000)).collect(),
        }
    }

    fn asked(after: &[(u64, Option<u64>)]) -> Capacity {
        let before: Vec<_> = after.iter().map(|(_, ms)| (0, ms.map(|_| 0))).collect();
        answer(&looked(&before), &looked(after), SECOND, QUESTION)
    }

    #[test]
    fn a_busy_worker_is_reckoned_by_what_was_measured() {
        // 200000 packets in 0.4 s: 2 µs each. 0.4 of the core is left up to 80 %: 200000 packets, 206.25 for each receiver.
        let capacity = asked(&[(200_000, Some(400))]);
        let worker = capacity.workers.first().unwrap();
        assert_eq!((worker.basis, worker.why, worker.receivers_more), ("measured", "", 969));
        assert!((worker.cost_us - 2.0).abs() < 1e-9 && (worker.used - 0.4).abs() < 1e-9);
        assert_eq!((capacity.receivers_more, capacity.limited_by), (969, "time"));
    }

    #[test]
    fn an_idle_worker_is_reckoned_by_the_model_and_says_so() {
        let capacity = asked(&[(2_000, Some(100))]);
        let worker = capacity.workers.first().unwrap();
        assert_eq!((worker.basis, worker.measured_us), ("model", Some(50.0)));
        assert!(worker.why.starts_with("too idle"));
        let least = 0.7e6 / (capacity.model.cost_us("xdp") * 206.25);
        assert!(worker.receivers_more > whole(least), "{} > {least}", worker.receivers_more);
    }

    #[test]
    fn a_worker_that_never_sleeps_is_reckoned_by_the_model() {
        let capacity = asked(&[(30_000, Some(999))]);
        let worker = capacity.workers.first().unwrap();
        assert_eq!(worker.basis, "model");
        assert!(worker.why.starts_with("it never sleeps") && worker.receivers_more > 0);
    }

    #[test]
    fn a_thread_whose_time_is_hidden_is_reckoned_by_the_model() {
        let capacity = asked(&[(200_000, None)]);
        let worker = capacity.workers.first().unwrap();
        assert_eq!((worker.basis, worker.busy, worker.measured_us), ("model", None, None));
    }

    #[test]
    fn a_full_worker_takes_nobody_and_others_still_do() {
        let capacity = asked(&[(400_000, Some(850)), (200_000, Some(400))]);
        let more: Vec<_> = capacity.workers.iter().map(|worker| worker.receivers_more).collect();
        assert_eq!((more.as_slice(), capacity.receivers_more), (&[0, 969][..], 969));
    }

    #[test]
    fn tables_that_fill_up_first_are_the_limit() {
        let mut after = looked(&[(200_000, Some(400))]);
        after.status.capacities.transports = 130;
        let capacity = answer(&looked(&[(0, Some(0))]), &after, SECOND, QUESTION);
        assert_eq!((capacity.receivers_more, capacity.limited_by), (30, "transports"));
    }

    #[test]
    fn a_worker_that_does_not_run_has_no_room() {
        let mut after = looked(&[(0, Some(0))]);
        after.status.workers.first_mut().unwrap().running = false;
        let capacity = answer(&looked(&[(0, Some(0))]), &after, SECOND, QUESTION);
        assert_eq!((capacity.workers.len(), capacity.receivers_more), (0, 0));
    }

    #[test]
    fn the_text_is_the_committed_one_and_the_json_has_its_fields() {
        let mut capacity = asked(&[(200_000, Some(400)), (2_000, Some(100))]);
        capacity.model = Model::fixed();
        let worker = capacity.workers.last_mut().unwrap();
        (worker.cost_us, worker.receivers_more) = (1.0, 3869);
        capacity.receivers_more = 4838;
        golden::compare(&format!("{}/testdata/capacity.txt", env!("CARGO_MANIFEST_DIR")), &text(&capacity));
        let json = serde_json::to_value(&capacity).unwrap();
        assert_eq!((&json["receivers_more"], &json["limited_by"]), (&4838.into(), &"time".into()));
        assert_eq!((&json["workers"][0]["basis"], &json["workers"][1]["basis"]), (&"measured".into(), &"model".into()));
        for name in ["busy", "packets_per_second", "measured_us", "cost_us", "used", "receivers_more"] {
            assert!(json["workers"][0][name].is_number(), "{name}");
        }
        assert!(json["model"]["xdp_us"].is_number() && json["receiver"]["packets_per_second"] == 206.25);
    }
}
