//! Many label sets in one allocation: the entries of a group, of which there may be a million.

use super::Labels;

/// Label sets by position. What is asked for comes as a copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelsList {
    /// The packed sets, one behind the other.
    bytes: Box<[u8]>,
    ends: Ends,
}

/// Where each set ends: in half the room while all fits in 4 GiB.
#[derive(Clone, Debug, PartialEq)]
enum Ends {
    Near(Box<[u32]>),
    Far(Box<[usize]>),
}

impl LabelsList {
    /// Number of sets.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.ends {
            Ends::Near(ends) => ends.len(),
            Ends::Far(ends) => ends.len(),
        }
    }

    /// Whether there is no set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sets in order.
    pub fn iter(&self) -> impl Iterator<Item = Labels> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// One of the sets.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<Labels> {
        self.packed(at).map(|bytes| Labels(bytes.into()))
    }

    /// Whether this set is there.
    #[must_use]
    pub fn has_at(&self, at: usize, labels: &Labels) -> bool {
        self.packed(at).is_some_and(|bytes| *bytes == *labels.0)
    }

    /// Whether both lists have these sets, and they are equal.
    #[must_use]
    pub fn is_same_at(&self, at: usize, other: &Self, other_at: usize) -> bool {
        self.packed(at).is_some_and(|bytes| other.packed(other_at) == Some(bytes))
    }

    fn packed(&self, at: usize) -> Option<&[u8]> {
        let start = at.checked_sub(1).map_or(Some(0), |before| self.end(before))?;
        self.bytes.get(start..self.end(at)?)
    }

    fn end(&self, at: usize) -> Option<usize> {
        match &self.ends {
            Ends::Near(ends) => ends.get(at).map(|&end| end as usize),
            Ends::Far(ends) => ends.get(at).copied(),
        }
    }
}

impl Default for Ends {
    fn default() -> Self {
        Self::Near(Box::default())
    }
}

/// A list in the making.
#[derive(Debug, Default)]
pub struct LabelsListBuilder {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl LabelsListBuilder {
    /// Adds the next set.
    pub fn push(&mut self, labels: &Labels) {
        self.bytes.extend_from_slice(&labels.0);
        self.ends.push(self.bytes.len());
    }

    /// The list.
    #[must_use]
    pub fn finish(self) -> LabelsList {
        let near: Result<Box<[u32]>, _> = self.ends.iter().map(|&end| u32::try_from(end)).collect();
        LabelsList { bytes: self.bytes.into(), ends: near.map_or_else(|_| Ends::Far(self.ends.into()), Ends::Near) }
    }
}

impl FromIterator<Labels> for LabelsList {
    fn from_iter<I: IntoIterator<Item = Labels>>(sets: I) -> Self {
        let mut list = LabelsListBuilder::default();
        sets.into_iter().for_each(|labels| list.push(&labels));
        list.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_come_back() {
        let sets = [
            Labels::one("__address__", "10.0.0.1:9100"),
            Labels::default(),
            Labels::from_pairs([("a", "b"), ("é", &*"x".repeat(300))]),
            Labels::default(),
        ];
        for count in 0..=sets.len() {
            let list: LabelsList = sets[..count].iter().cloned().collect();
            assert_eq!((list.len(), list.is_empty()), (count, count == 0));
            assert_eq!(list.iter().collect::<Vec<_>>(), sets[..count]);
            for (at, set) in sets.iter().enumerate() {
                assert_eq!(list.get(at).as_ref(), Some(set).filter(|_| at < count));
                assert!(sets.iter().all(|other| list.has_at(at, other) == (at < count && other == set)));
            }
            let far: Box<[usize]> = (0..count).filter_map(|at| list.end(at)).collect();
            let far = LabelsList { ends: Ends::Far(far), ..list.clone() };
            assert_eq!((far.len(), far.iter().collect::<Vec<_>>()), (count, sets[..count].to_vec()));
        }
    }
}
