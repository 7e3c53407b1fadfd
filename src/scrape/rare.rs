//! What a loop keeps that most targets have none of, in a box of its own.

use crate::model::OwnTexts;
use crate::scrape::Host;
use crate::scrape::addresses::Addresses;

/// All of it is empty in most loops, and then the box is not there.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// Where to connect, other than to an IPv4 address.
    pub(super) host: Option<Host>,
    /// Of its name, where it was given by one.
    pub(super) addresses: Option<Addresses>,
    /// `Host` header where label `instance` is another text.
    pub(super) authority: Option<Box<str>>,
    /// The variables under which the journal knows the target, where they are more than its labels.
    pub(super) journaled: Option<OwnTexts>,
    /// Why the target is down; empty when up.
    pub(super) last_error: Box<str>,
}

impl Rare {
    /// Puts a part in, or takes it out; the box goes with the last one.
    pub(super) fn set(place: &mut Option<Box<Self>>, is_there: bool, change: impl FnOnce(&mut Self)) {
        if is_there {
            change(place.get_or_insert_default());
        } else if let Some(rare) = place {
            change(rare);
            if rare.is_empty() {
                *place = None;
            }
        }
    }

    fn is_empty(&self) -> bool {
        let Self { host, addresses, authority, journaled, last_error } = self;
        host.is_none() && addresses.is_none() && authority.is_none() && journaled.is_none() && last_error.is_empty()
    }
}
