// SPDX-License-Identifier: Apache-2.0
//! Processor times of the data plane's workers, by the names of its threads. Must never write to `/proc`.

use std::path::Path;

/// What the kernel says of each worker's thread, ns; none for one that is not there or hidden.
pub(crate) fn workers_ns(proc: &Path, pid: u32, workers: usize) -> Vec<Option<u64>> {
    let mut times = vec![None; workers];
    let Ok(tasks) = std::fs::read_dir(proc.join(pid.to_string()).join("task")) else { return times };
    for task in tasks.filter_map(|task| Some(task.ok()?.path())) {
        let read = |name: &str| std::fs::read_to_string(task.join(name)).unwrap_or_default();
        let name = read("comm");
        let number = name.trim().strip_prefix("worker-").and_then(|number| number.parse::<usize>().ok());
        // Time on the processor, time waiting for it, time slices.
        let time = read("schedstat").split_whitespace().next().and_then(|time| time.parse().ok());
        if let Some(place) = number.and_then(|number| times.get_mut(number)) {
            *place = time;
        }
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_known_by_its_threads_name() {
        let proc = std::env::temp_dir().join(format!("millrace-threads-{}", std::process::id()));
        for (task, name, time) in [
            ("8", "worker-1", "77 1 2"),
            ("7", "millrace-datapl", "5 0 0"),
            ("9", "worker-0", "x"),
            ("6", "worker-9", "3"),
        ] {
            let folder = proc.join("7/task").join(task);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("comm"), format!("{name}\n")).unwrap();
            std::fs::write(folder.join("schedstat"), format!("{time}\n")).unwrap();
        }
        assert_eq!(workers_ns(&proc, 7, 3), [None, Some(77), None]);
        assert_eq!(workers_ns(&proc, 8, 1), [None]);
        std::fs::remove_dir_all(&proc).unwrap();
    }

    #[test]
    fn this_kernel_tells_a_threads_time() {
        let thread = std::thread::Builder::new().name("worker-0".into());
        // The kernel adds up at its ticks only.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
        let look = move || loop {
            let found = workers_ns(Path::new("/proc"), std::process::id(), 1);
            if found != [Some(0)] || std::time::Instant::now() > until {
                return found;
            }
        };
        let found = thread.spawn(look).unwrap().join().unwrap();
        assert!(found.first().copied().flatten().is_some_and(|ns| ns > 0), "{found:?}");
    }
}
