//! Texts in one allocation: the values of a target's labels, of which there are as many as targets.

use std::fmt;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

/// Digits of a length: each is an ASCII character, so that lengths and texts together are one text.
const DIGIT_BITS: u32 = 6;
/// Set in all digits of a length but the last.
const MORE: u8 = 1 << DIGIT_BITS;
/// Lists of at most so many texts are opened without an allocation.
const FEW: usize = 8;

/// A list of texts, each behind its length. Clones share the texts.
#[derive(Clone, PartialEq, Eq)]
pub struct TextList<P = Arc<str>>(P);

/// A list that one thread has for itself.
pub type OwnTexts = TextList<Rc<str>>;

/// The texts of a list, by number.
#[derive(Debug)]
pub struct OpenTexts<'l> {
    few: [&'l str; FEW],
    count: usize,
    /// All of them, when they are too many for `few`.
    many: Vec<&'l str>,
}

impl OwnTexts {
    /// Whether both are one list, not just equal ones.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl<P: Deref<Target = str>> TextList<P> {
    /// Whether these texts begin with all of the others.
    #[must_use]
    pub fn begins_with(&self, others: &Self) -> bool {
        // Each text says how long it is, so where one list begins as another one ends, a text ends.
        self.0.starts_with(&*others.0)
    }

    /// The texts in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (text, after) = split(rest)?;
            rest = after;
            Some(text)
        })
    }

    /// One of the texts, found by going through those before.
    #[must_use]
    pub fn get(&self, n: usize) -> Option<&str> {
        self.iter().nth(n)
    }

    /// Finds all texts, for many looks at them.
    #[must_use]
    pub fn open(&self) -> OpenTexts<'_> {
        let mut open = OpenTexts { few: [""; FEW], count: 0, many: Vec::new() };
        for text in self.iter() {
            match open.few.get_mut(open.count) {
                Some(place) => *place = text,
                None => {
                    if open.many.is_empty() {
                        open.many.extend(open.few);
                    }
                    open.many.push(text);
                }
            }
            open.count += 1;
        }
        open
    }

    /// Heap bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// The first text of a list, and what follows it.
#[inline]
fn split(list: &str) -> Option<(&str, &str)> {
    let bytes = list.as_bytes();
    let (mut len, mut at, mut shift) = (0, 0, 0);
    loop {
        let digit = *bytes.get(at)?;
        at += 1;
        len |= usize::from(digit & (MORE - 1)) << shift;
        if digit & MORE == 0 {
            return list[at..].split_at_checked(len);
        }
        shift += DIGIT_BITS;
    }
}

impl<'l> Deref for OpenTexts<'l> {
    type Target = [&'l str];
    fn deref(&self) -> &[&'l str] {
        if self.count <= FEW { &self.few[..self.count] } else { &self.many }
    }
}

impl<S: AsRef<str>, P: From<String>> FromIterator<S> for TextList<P> {
    fn from_iter<I: IntoIterator<Item = S>>(texts: I) -> Self {
        let mut list = String::new();
        for text in texts {
            let text = text.as_ref();
            let mut len = text.len();
            while len >= usize::from(MORE) {
                list.push(char::from(len as u8 & (MORE - 1) | MORE));
                len >>= DIGIT_BITS;
            }
            list.push(char::from(len as u8));
            list.push_str(text);
        }
        Self(list.into())
    }
}

impl<P: Deref<Target = str>> fmt::Debug for TextList<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The naive twin is a list of strings.
        #[test]
        fn texts_come_back(texts in prop::collection::vec("\\PC{0,80}", 0..12), long in 0..20_000usize) {
            let mut texts = texts;
            texts.push("é".repeat(long));
            let list: TextList = texts.iter().collect();
            prop_assert_eq!(list.iter().collect::<Vec<_>>(), texts.iter().map(|t| &**t).collect::<Vec<_>>());
            prop_assert_eq!(&*list.open(), &texts.iter().map(|t| &**t).collect::<Vec<_>>()[..]);
            let half: TextList = texts[..texts.len() / 2].iter().chain(&texts[..1]).collect();
            prop_assert_eq!(list.begins_with(&half), texts[texts.len() / 2] == texts[0]);
            for n in 0..=texts.len() {
                prop_assert_eq!(list.get(n), texts.get(n).map(|t| &**t));
                prop_assert!(list.begins_with(&texts[..n].iter().collect()));
            }
        }
    }

    #[test]
    fn a_list_of_nothing_and_one_of_an_empty_text_differ() {
        let empty: TextList = [""; 0].into_iter().collect();
        let one: TextList = [""].into_iter().collect();
        assert_eq!((empty.iter().count(), one.iter().count()), (0, 1));
        assert!(empty != one);
        assert_eq!(OwnTexts::from_iter(["small", "127.0.0.1:9100"]).bytes(), 2 + 5 + 14);
    }
}
