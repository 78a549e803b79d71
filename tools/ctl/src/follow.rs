// SPDX-License-Identifier: Apache-2.0
//! `millrace drops --follow`: what was added since the last look, one line per reason; silence where nothing was.

use serde::Serialize;

use crate::drops::{ByReason, Drops, explain_beside, explain_dropped, explain_skipped};

/// One reason's growth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Growth {
    /// Seconds since following began.
    pub(crate) at_s: u64,
    /// `dropped`, `skipped` or `beside`: which list of `millrace drops` it belongs to.
    pub(crate) list: &'static str,
    /// The reason.
    pub(crate) reason: String,
    /// Packets since the last look.
    pub(crate) packets: u64,
    /// What it means.
    pub(crate) meaning: &'static str,
}

/// Growth between two looks, the largest first within each list. A counter that fell belongs to a server that was started
/// again: what it shows has all come since.
pub(crate) fn growth(before: &Drops, after: &Drops, at_s: u64) -> Vec<Growth> {
    type List<'d> = (&'static str, &'d ByReason, &'d ByReason, fn(&str) -> &'static str);
    let lists: [List<'_>; 3] = [
        ("dropped", &before.totals, &after.totals, explain_dropped),
        ("skipped", &before.skipped, &after.skipped, explain_skipped),
        ("beside", &before.beside, &after.beside, explain_beside),
    ];
    let mut grown = Vec::new();
    for (list, old, new, explain) in lists {
        let mut of_list: Vec<Growth> = new
            .iter()
            .map(|(reason, count)| {
                let packets = count.checked_sub(old.get(reason).copied().unwrap_or(0)).unwrap_or(*count);
                Growth { at_s, list, reason: reason.clone(), packets, meaning: explain(reason) }
            })
            .filter(|growth| growth.packets > 0)
            .collect();
        of_list.sort_by(|a, b| b.packets.cmp(&a.packets).then_with(|| a.reason.cmp(&b.reason)));
        grown.extend(of_list);
    }
    grown
}

/// For people: a line each.
pub(crate) fn text(grown: &[Growth]) -> String {
    let line = |growth: &Growth| {
        format!(
            "{:>5} s  +{:<8} {:<8} {:<20} {}\n",
            growth.at_s, growth.packets, growth.list, growth.reason, growth.meaning
        )
    };
    grown.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drops(unknown_flow: u64, replayed: u64, no_path: u64) -> Drops {
        let of = |pairs: &[(&str, u64)]| pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let totals = of(&[("unknown_flow", unknown_flow), ("replayed", replayed)]);
        Drops { totals, skipped: of(&[("no_path", no_path)]), ..Drops::default() }
    }

    #[test]
    fn only_what_has_grown_is_told_the_largest_first() {
        let grown = growth(&drops(5, 5, 5), &drops(6, 9, 5), 3);
        let told: Vec<(&str, u64)> = grown.iter().map(|growth| (growth.reason.as_str(), growth.packets)).collect();
        assert_eq!(told, [("replayed", 4), ("unknown_flow", 1)]);
        assert!(growth(&drops(5, 5, 5), &drops(5, 5, 5), 3).is_empty());
        assert!(text(&grown).starts_with("    3 s  +4        dropped  replayed"));
    }

    #[test]
    fn a_server_that_was_started_again_shows_what_has_come_since() {
        let grown = growth(&drops(100, 0, 7), &drops(2, 0, 7), 9);
        assert_eq!(grown.iter().map(|growth| growth.packets).collect::<Vec<_>>(), [2]);
    }
}
