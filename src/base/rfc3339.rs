//! Times as Go's JSON encoder prints them, in UTC.

/// Before the first event. Go: the zero `time.Time`.
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// RFC 3339 with as many digits of the second as needed; [`ZERO`] for `None`.
#[must_use]
pub fn text(wall_ns: Option<i64>) -> String {
    let Some(ns) = wall_ns else { return ZERO.to_owned() };
    let (seconds, nanos) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let mut text =
        format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    if nanos != 0 {
        text.push_str(format!(".{nanos:09}").trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// Gregorian date of a day counted from 1970-01-01. Years run from March, so that the leap day is a year's last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted_month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_in_go() {
        assert_eq!(text(None), "0001-01-01T00:00:00Z");
        assert_eq!(text(Some(0)), "1970-01-01T00:00:00Z");
        assert_eq!(text(Some(951_782_400_500_000_000)), "2000-02-29T00:00:00.5Z");
        assert_eq!(text(Some(1_700_000_000_123_456_789)), "2023-11-14T22:13:20.123456789Z");
        assert_eq!(text(Some(-1)), "1969-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn every_day_follows_the_day_before() {
        let leap = |y: i64| (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
        let (mut y, mut m, mut d) = (1970, 1, 1);
        for day in 0..200_000 {
            assert_eq!(civil(day), (y, m, d));
            let length = match m {
                2 => 28 + i64::from(leap(y)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (y, m, d) = if d < length {
                (y, m, d + 1)
            } else if m < 12 {
                (y, m + 1, 1)
            } else {
                (y + 1, 1, 1)
            };
        }
    }
}
