//! Words of the field without behaviour: labels, identities, sample values, schemas.
//!
//! Look for [`Labels`], [`Identity`], [`Schema`]. Absent on purpose: parsing, I/O, time.

mod identity;
mod labels;
mod labels_list;
mod sample;
mod schema;
mod text_list;

pub use identity::{Identity, IdentityHasher};
pub use labels::{Labels, LabelsBuilder, TEXT_BYTES_MAX};
pub use labels_list::{LabelsList, LabelsListBuilder};
pub use sample::{ABSENT, NORMAL_NAN, STALE_NAN, is_absent, is_stale};
pub use schema::{LabelValue, Schema, SchemaList, Shape, next_key};
pub use text_list::{OpenTexts, OwnTexts, TextList};
