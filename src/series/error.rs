//! Why a body fails its scrape.

use std::fmt;

use crate::base::limits::{LAYOUT_BYTES_PER_SHARD, LINE_BYTES_MAX, PACKED_BYTES_PER_SHARD};
use crate::exposition::text::TextError;

/// What is wrong with a body or one of its series. Nothing of such a body is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeriesError {
    /// The text format is violated; `near` is the start of the offending line, at most 50 characters.
    Text { error: TextError, near: String },
    /// A line beyond our own ceiling.
    LineTooLong,
    /// A series without metric name after relabelling.
    NameMissing,
    /// A name that the validation scheme refuses.
    InvalidName { series: String },
    /// Two labels of one name after relabelling.
    DuplicateLabel { name: String },
    /// More labels than `label_limit`.
    LabelLimit { metric: String, count: usize, limit: u64 },
    /// A label name longer than `label_name_length_limit`.
    LabelNameLength { metric: String, name: String, length: usize, limit: u64 },
    /// A label value longer than `label_value_length_limit`.
    LabelValueLength { metric: String, name: String, value: String, length: usize, limit: u64 },
    /// More samples than `sample_limit`.
    SampleLimit,
    /// The shard's memory for layouts is used up.
    LayoutMemory,
}

impl SeriesError {
    /// Whether memory for layouts was refused.
    #[must_use]
    pub fn is_layout_memory(&self) -> bool {
        matches!(self, Self::LayoutMemory)
    }

    /// Whether one of the label limits was hit, which Prometheus counts apart.
    #[must_use]
    pub fn is_label_limit(&self) -> bool {
        matches!(self, Self::LabelLimit { .. } | Self::LabelNameLength { .. } | Self::LabelValueLength { .. })
    }
}

impl fmt::Display for SeriesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { error, near } => write!(f, "{error} while parsing: {near:?}"),
            Self::LineTooLong => write!(f, "a line of the body is longer than {LINE_BYTES_MAX} bytes"),
            Self::NameMissing => f.write_str("missing metric name (__name__ label)"),
            Self::InvalidName { series } => write!(f, "invalid metric name or label names: {series}"),
            Self::DuplicateLabel { name } => write!(f, "label name {name:?} is not unique: invalid sample"),
            Self::LabelLimit { metric, count, limit } => {
                write!(f, "label_limit exceeded (metric: {metric}, number of labels: {count}, limit: {limit})")
            }
            Self::LabelNameLength { metric, name, length, limit } => write!(
                f,
                "label_name_length_limit exceeded (metric: {metric}, label name: {name}, length: {length}, limit: {limit})"
            ),
            Self::LabelValueLength { metric, name, value, length, limit } => write!(
                f,
                "label_value_length_limit exceeded (metric: {metric}, label name: {name}, value: {value:?}, length: {length}, limit: {limit})"
            ),
            Self::SampleLimit => f.write_str("sample limit exceeded"),
            Self::LayoutMemory => write!(
                f,
                "the memory for series texts is used up ({} GiB a shard): scrape fewer distinct series here, use more shards, or set sample_limit or body_size_limit for large targets",
                (LAYOUT_BYTES_PER_SHARD + PACKED_BYTES_PER_SHARD) >> 30
            ),
        }
    }
}

impl std::error::Error for SeriesError {}

/// At most 50 characters. prometheus: the `%.50s` of scrape.go.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(50).collect()
}
