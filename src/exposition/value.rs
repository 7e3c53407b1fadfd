//! Sample values: exactly the texts Go's `strconv.ParseFloat` accepts, without `p`, `P` and `_`.

use crate::model::NORMAL_NAN;

/// Powers of ten that a double holds exactly.
const TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Whether a byte ends a value token. prometheus: promlex.l, sValue.
#[must_use]
pub fn ends(byte: u8) -> bool {
    matches!(byte, b'\n' | b' ' | b'\t' | b'{' | 0)
}

/// Reads a plain decimal at `at` whose end is in the buffer; returns the value and where it ends (at a byte for
/// which [`ends`] holds). `None`: not plain, not whole, or not exactly computable here; [`parse`] decides then.
#[must_use]
// The predicted parse calls it for each sample; a call that is not inlined costs it a third (4 ns).
#[inline(always)]
pub fn scan(buf: &[u8], at: usize) -> Option<(f64, usize)> {
    let mut i = at;
    let negative = *buf.get(i)? == b'-';
    i += usize::from(negative);
    let mut mantissa = 0u64;
    let start = i;
    i = digits(buf, i, &mut mantissa);
    let mut count = i - start;
    let mut exponent = 0i32;
    let mut c = *buf.get(i)?;
    if c == b'.' {
        let fraction = i + 1;
        i = digits(buf, fraction, &mut mantissa);
        exponent = -((i - fraction) as i32);
        count += i - fraction;
        c = *buf.get(i)?;
    }
    // 19 digits always fit in 64 bits; none at all is for the exact check to refuse.
    if count == 0 || count > 19 {
        return None;
    }
    if c == b'e' || c == b'E' {
        let (power, end) = power(buf, i + 1)?;
        exponent += power;
        i = end;
        c = *buf.get(i)?;
    }
    if !ends(c) || mantissa > 1 << 53 {
        return None;
    }
    let magnitude = match exponent {
        0 => mantissa as f64,
        1..=22 => mantissa as f64 * TEN[exponent as usize],
        -22..=-1 => mantissa as f64 / TEN[-exponent as usize],
        _ => return None,
    };
    Some((if negative { -magnitude } else { magnitude }, i))
}

#[inline(always)]
fn digits(buf: &[u8], mut i: usize, mantissa: &mut u64) -> usize {
    while let Some(&c) = buf.get(i) {
        let d = c.wrapping_sub(b'0');
        if d > 9 {
            break;
        }
        *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(d));
        i += 1;
    }
    i
}

/// At most three digits: larger powers are for the exact path.
fn power(buf: &[u8], mut i: usize) -> Option<(i32, usize)> {
    let sign = *buf.get(i)?;
    if sign == b'+' || sign == b'-' {
        i += 1;
    }
    let start = i;
    let mut power = 0u64;
    i = digits(buf, i, &mut power);
    if i == start || i - start > 3 {
        return None;
    }
    Some((if sign == b'-' { -(power as i32) } else { power as i32 }, i))
}

/// The value of a token, or `None` where Prometheus refuses it: other syntax, or overflow. Every NaN becomes
/// [`NORMAL_NAN`]. prometheus: promparse.go, parseFloat.
#[must_use]
pub fn parse(token: &[u8]) -> Option<f64> {
    if token.iter().any(|c| matches!(c, b'p' | b'P' | b'_')) {
        return None;
    }
    decimal(token)
}

/// As [`parse`], with hexadecimal and digit separators too: what `le` and `quantile` are read with.
/// prometheus: openmetricsparse.go, normalizeFloatsInLabelValues.
#[must_use]
pub fn parse_bound(token: &[u8]) -> Option<f64> {
    if !token.contains(&b'_') {
        return if is_hex(token) { hexadecimal(token) } else { decimal(token) };
    }
    if !separators_are_fine(token) {
        return None;
    }
    let plain: Vec<u8> = token.iter().copied().filter(|&c| c != b'_').collect();
    if is_hex(&plain) { hexadecimal(&plain) } else { decimal(&plain) }
}

fn unsigned(token: &[u8]) -> (bool, &[u8]) {
    match token {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, token),
    }
}

fn decimal(token: &[u8]) -> Option<f64> {
    let (negative, rest) = unsigned(token);
    if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
        return Some(if negative { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    if token.eq_ignore_ascii_case(b"nan") {
        return Some(NORMAL_NAN);
    }
    if !is_decimal(rest) {
        return None;
    }
    // The syntax is checked; the library only has to round correctly, as Go does.
    let value: f64 = std::str::from_utf8(token).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

fn is_decimal(text: &[u8]) -> bool {
    let run = |t: &[u8]| t.iter().take_while(|c| c.is_ascii_digit()).count();
    let whole = run(text);
    let mut rest = &text[whole..];
    let mut count = whole;
    if let [b'.', after @ ..] = rest {
        let fraction = run(after);
        count += fraction;
        rest = &after[fraction..];
    }
    if count == 0 {
        return false;
    }
    match rest {
        [] => true,
        [b'e' | b'E', power @ ..] => {
            let (_, power) = unsigned(power);
            !power.is_empty() && run(power) == power.len()
        }
        _ => false,
    }
}

fn is_hex(token: &[u8]) -> bool {
    matches!(unsigned(token).1, [b'0', b'x' | b'X', ..])
}

/// Go's rule: a separator stands between digits, or between the base prefix and a digit. go: strconv, underscoreOK.
fn separators_are_fine(token: &[u8]) -> bool {
    let (_, mut rest) = unsigned(token);
    // What stood before: `0` a digit or the prefix, `_` a separator, `!` neither, `^` the start.
    let mut before = b'^';
    let mut hex = false;
    if let [b'0', b'b' | b'B' | b'o' | b'O' | b'x' | b'X', ..] = rest {
        hex = matches!(rest[1], b'x' | b'X');
        before = b'0';
        rest = &rest[2..];
    }
    for &c in rest {
        if c.is_ascii_digit() || (hex && c.is_ascii_hexdigit()) {
            before = b'0';
        } else if c == b'_' {
            if before != b'0' {
                return false;
            }
            before = b'_';
        } else {
            if before == b'_' {
                return false;
            }
            before = b'!';
        }
    }
    before != b'_'
}

/// `0x` mantissa `p` power; the power is mandatory, rounding is to nearest even.
fn hexadecimal(token: &[u8]) -> Option<f64> {
    let (negative, rest) = unsigned(token);
    let rest = &rest[2..];
    let (mut mantissa, mut exponent, mut sticky) = (0u64, 0i64, false);
    let (mut any, mut point) = (false, false);
    let mut i = 0;
    while let Some(&c) = rest.get(i) {
        if c == b'.' && !point {
            point = true;
        } else if let Some(digit) = (c as char).to_digit(16) {
            any = true;
            if mantissa >> 60 == 0 {
                mantissa = mantissa << 4 | u64::from(digit);
                exponent -= if point { 4 } else { 0 };
            } else {
                sticky |= digit != 0;
                exponent += if point { 0 } else { 4 };
            }
        } else {
            break;
        }
        i += 1;
    }
    let [b'p' | b'P', power @ ..] = &rest[i..] else { return None };
    let (down, power) = unsigned(power);
    if !any || power.is_empty() || !power.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let power = power.iter().fold(0i64, |p, c| (p * 10 + i64::from(c - b'0')).min(100_000));
    let value = compose(mantissa, sticky, exponent + if down { -power } else { power })?;
    Some(if negative { -value } else { value })
}

/// `mantissa * 2^exponent`, rounded to nearest even; `None` on overflow.
fn compose(mantissa: u64, sticky: bool, exponent: i64) -> Option<f64> {
    if mantissa == 0 {
        return Some(0.0);
    }
    let bits = 64 - i64::from(mantissa.leading_zeros());
    // Position of the last bit that the result can hold: 53 bits, fewer for subnormal numbers.
    let drop = (bits - 53).max(-1074 - exponent);
    if drop > bits {
        return Some(0.0);
    }
    let (kept, exponent) = if drop <= 0 {
        (mantissa, exponent)
    } else {
        let kept = if drop == 64 { 0 } else { mantissa >> drop };
        let lost = if drop == 64 { mantissa } else { mantissa & ((1 << drop) - 1) };
        let half = 1u64 << (drop - 1);
        let up = lost > half || (lost == half && (sticky || kept & 1 == 1));
        (kept + u64::from(up), exponent + drop)
    };
    let high = 64 - i64::from(kept.leading_zeros()) + exponent;
    if kept != 0 && high > 1024 {
        return None;
    }
    // Two exact steps, since a power of two alone may be out of range where the product is not.
    let half = exponent / 2;
    Some(kept as f64 * 2f64.powi(half as i32) * 2f64.powi((exponent - half) as i32))
}

/// A bound as OpenMetrics prints it. prometheus: labels/float.go, FormatOpenMetricsFloat.
#[must_use]
pub fn print_bound(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    if value == 0.0 {
        return "0.0".into();
    }
    // Go's %g with the shortest digits: an exponent below -4 or from 6 up is written out.
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
