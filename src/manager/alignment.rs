//! Which entries of a group's new version are which of the old one's.
//!
//! Lists are sorted or appended to, so most entries come in the old order: a walk along both versions finds them.

use crate::model::LabelsList;

/// Entries by which one side may be ahead after the common start and before the common end.
const AHEAD: usize = 64;
/// Comparisons in vain for each entry, on average, after which the rest counts as other entries: the order is another one.
const PATIENCE: usize = 8;
/// Entries between two points at which the control thread may do something else.
const ENTRIES_AT_ONCE: usize = 8192;

/// Consecutive entries that are equal in both versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    old: usize,
    new: usize,
    count: usize,
}

/// Runs in the order of both versions.
#[derive(Debug, Default)]
pub(super) struct Alignment {
    runs: Vec<Run>,
    /// The run that the last question was about.
    at: usize,
}

/// Two versions on the way to be aligned.
struct Versions<'g> {
    old: &'g LabelsList,
    new: &'g LabelsList,
}

impl Alignment {
    /// Compares two versions; the time is linear in their entries.
    pub async fn of(old: &LabelsList, new: &LabelsList) -> Self {
        let both = Versions { old, new };
        let shorter = old.len().min(new.len());
        let start = both.equal_run(shorter, |i| (i, i)).await;
        let end = both.equal_run(shorter - start, |i| (old.len() - 1 - i, new.len() - 1 - i)).await;
        let mut all = Self::default();
        all.add(Run { old: 0, new: 0, count: start });
        all.add_between(&both, start, end).await;
        all.add(Run { old: old.len() - end, new: new.len() - end, count: end });
        all
    }

    /// The entries between the common start and end.
    async fn add_between(&mut self, both: &Versions<'_>, start: usize, end: usize) {
        let (old_end, new_end) = (both.old.len() - end, both.new.len() - end);
        let (mut old, mut new) = (start, start);
        let mut patience = (old_end + new_end).saturating_mul(PATIENCE);
        while old < old_end && new < new_end && patience > 0 {
            let most = (old_end - old).min(new_end - new).min(ENTRIES_AT_ONCE);
            let count = (0..most).find(|&i| !both.are_equal(old + i, new + i)).unwrap_or(most);
            self.add(Run { old, new, count });
            (old, new) = (old + count, new + count);
            tokio::task::yield_now().await;
            if count > 0 {
                continue;
            }
            let fits = |o: usize, n: usize| o < old_end && n < new_end && both.are_equal(o, n);
            let step = (1..=AHEAD).find_map(|d| {
                let steps = [(d, d), (d, 0), (0, d)];
                steps.into_iter().find(|(o, n)| fits(old + o, new + n))
            });
            let (old_step, new_step) = step.unwrap_or((1, 1));
            (old, new) = (old + old_step, new + new_step);
            patience = patience.saturating_sub(3 * step.map_or(AHEAD, |(o, n)| o.max(n)));
        }
    }

    fn add(&mut self, run: Run) {
        match self.runs.last_mut() {
            Some(last) if (last.old + last.count, last.new + last.count) == (run.old, run.new) => {
                last.count += run.count
            }
            _ if run.count > 0 => self.runs.push(run),
            _ => {}
        }
    }

    /// Where an entry of the new version was in the old one. Questions come best in ascending order.
    pub fn before(&mut self, new: usize) -> Option<usize> {
        let holds = |run: &Run| new < run.new + run.count;
        if self.at > 0 && holds(&self.runs[self.at - 1]) {
            self.at = 0;
        }
        while !self.runs.get(self.at).is_none_or(holds) {
            self.at += 1;
        }
        self.runs.get(self.at).filter(|run| run.new <= new).map(|run| run.old + new - run.new)
    }

    /// Those of so many old entries that the new version has not, at least not in their order.
    pub fn given_up(&self, old_count: usize) -> impl Iterator<Item = usize> {
        let starts = std::iter::once(0).chain(self.runs.iter().map(|run| run.old + run.count));
        let ends = self.runs.iter().map(|run| run.old).chain([old_count]);
        starts.zip(ends).flat_map(|(start, end)| start..end)
    }
}

impl Versions<'_> {
    fn are_equal(&self, old: usize, new: usize) -> bool {
        self.new.is_same_at(new, self.old, old)
    }

    /// How many pairs are equal, up to so many.
    async fn equal_run(&self, most: usize, pair: impl Fn(usize) -> (usize, usize)) -> usize {
        for i in 0..most {
            let (old, new) = pair(i);
            if !self.are_equal(old, new) {
                return i;
            }
            if i % ENTRIES_AT_ONCE == ENTRIES_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Labels;

    fn list(numbers: &[u32]) -> LabelsList {
        numbers.iter().map(|n| Labels::from_pairs([("n", n.to_string().as_str())])).collect()
    }

    fn aligned(old: &[u32], new: &[u32]) -> Vec<Option<usize>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (old_list, new_list) = (list(old), list(new));
        let mut alignment = runtime.block_on(Alignment::of(&old_list, &new_list));
        let places: Vec<Option<usize>> = (0..new.len()).map(|i| alignment.before(i)).collect();
        let kept: Vec<usize> = places.iter().flatten().copied().collect();
        assert!(kept.is_sorted_by(|a, b| a < b), "one old entry for one new, in order");
        let given_up: Vec<usize> = (0..old.len()).filter(|i| !kept.contains(i)).collect();
        assert_eq!(alignment.given_up(old.len()).collect::<Vec<_>>(), given_up);
        for (i, place) in places.iter().enumerate() {
            assert_eq!(place.map_or(new[i], |at| old[at]), new[i], "only equal entries are aligned");
            assert_eq!(alignment.before(i), *place, "asked again");
        }
        places
    }

    proptest! {
        #[test]
        fn what_is_aligned_is_equal_and_in_order(
            old in prop::collection::vec(0..9u32, 0..40),
            new in prop::collection::vec(0..9u32, 0..40),
        ) {
            aligned(&old, &new);
        }
    }

    #[test]
    fn changes_here_and_there_leave_the_others_aligned() {
        let old: Vec<u32> = (0..5_000).collect();
        let misses = |new: &[u32]| aligned(&old, new).iter().filter(|p| p.is_none()).count();
        assert_eq!(misses(&old), 0);
        assert_eq!(misses(&old[1_000..]), 0, "a block removed at the start");
        assert_eq!(misses(&[&old[..700], &old[1_700..]].concat()), 0, "or in the middle");
        let inserted: Vec<u32> = (9_000..9_900).collect();
        assert_eq!(misses(&[&old[..700], &inserted, &old[700..]].concat()), inserted.len());
        let thinned: Vec<u32> = old.iter().copied().filter(|n| n % 97 > 20).collect();
        assert_eq!(misses(&thinned), 0);
        let replaced: Vec<u32> = old.iter().map(|n| if n % 50 == 7 { n + 10_000 } else { *n }).collect();
        assert_eq!(misses(&replaced), 100);
        let turned: Vec<u32> = old.iter().rev().copied().collect();
        assert!(misses(&turned) > 4_900, "another order is given up");
    }
}
