//! The special bit patterns of sample values.

/// Marks a series that ended. prometheus: model/value, StaleNaN.
pub const STALE_NAN: f64 = f64::from_bits(0x7ff0_0000_0000_0002);
/// What every textual NaN becomes. prometheus: model/value, NormalNaN.
pub const NORMAL_NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0001);
/// In a column of values: this slot has no sample this time. Never leaves the appliance; text bodies cannot spell it.
pub const ABSENT: f64 = f64::from_bits(0x7ff4_0ab5_e070_0001);

/// Whether this is the staleness marker (bit compare: NaNs never compare equal).
#[must_use]
pub fn is_stale(v: f64) -> bool {
    v.to_bits() == STALE_NAN.to_bits()
}

/// Whether this slot of a column is empty.
#[must_use]
pub fn is_absent(v: f64) -> bool {
    v.to_bits() == ABSENT.to_bits()
}
