//! The few fields of a certificate that the verifier compares itself, read out of its DER.

/// Validity and names of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields<'a> {
    /// Issuer, encoded.
    pub issuer: &'a [u8],
    /// Subject, encoded.
    pub subject: &'a [u8],
    /// Seconds since 1970.
    pub not_before_s: u64,
    /// Seconds since 1970, inclusive.
    pub not_after_s: u64,
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Reads a certificate; `None` where it is none. RFC 5280, section 4.1.
pub(super) fn fields(der: &[u8]) -> Option<Fields<'_>> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    if let Some((_, after)) = element(rest, VERSION) {
        rest = after;
    }
    let (_, rest) = element(rest, INTEGER)?;
    let (_, rest) = element(rest, SEQUENCE)?;
    let (issuer, rest) = element(rest, SEQUENCE)?;
    let (validity, rest) = element(rest, SEQUENCE)?;
    let (subject, _) = element(rest, SEQUENCE)?;
    let (not_before_s, until) = time(validity)?;
    let (not_after_s, _) = time(until)?;
    Some(Fields { issuer, subject, not_before_s, not_after_s })
}

/// Content of the element with this tag at the beginning, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [found, length, rest @ ..] = der else { return None };
    if *found != tag {
        return None;
    }
    let (length, rest) = match usize::from(*length) {
        short @ 0..0x80 => (short, rest),
        long => {
            let count = long - 0x80;
            let digits = rest.get(..count).filter(|_| (1..=3).contains(&count))?;
            (digits.iter().fold(0, |n, d| n << 8 | usize::from(*d)), &rest[count..])
        }
    };
    rest.split_at_checked(length)
}

/// A time in seconds since 1970, and what follows it.
fn time(der: &[u8]) -> Option<(u64, &[u8])> {
    let (text, rest, year_digits) = match (element(der, UTC_TIME), element(der, GENERALIZED_TIME)) {
        (Some((text, rest)), _) => (text, rest, 2),
        (_, Some((text, rest))) => (text, rest, 4),
        _ => return None,
    };
    let digits = text.strip_suffix(b"Z").filter(|d| d.len() == year_digits + 10 && d.iter().all(u8::is_ascii_digit))?;
    let number = |at: usize, n: usize| digits[at..at + n].iter().fold(0, |sum, d| sum * 10 + u64::from(d - b'0'));
    let year = match (year_digits, number(0, year_digits)) {
        (2, late @ 50..) => 1900 + late,
        (2, early) => 2000 + early,
        (_, year) => year,
    };
    let at = |i: usize| number(year_digits + 2 * i, 2);
    let (month, day) = (at(0), at(1));
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some((days_since_1970(year, month, day) * 86_400 + at(2) * 3600 + at(3) * 60 + at(4), rest))
}

/// Of a date of the Gregorian calendar. Years begin in March, so that a leap day is the last of its year.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn a_certificate_yields_its_times_and_names() {
        let cert = CertificateDer::from_pem_slice(include_bytes!("testdata/self-signed.pem")).unwrap();
        let found = fields(&cert).unwrap();
        assert_eq!(found.issuer, found.subject);
        let year_s = 365 * 86_400;
        assert!(found.not_before_s > 50 * year_s && found.not_after_s > found.not_before_s + 50 * year_s, "{found:?}");
        let signed = CertificateDer::from_pem_slice(include_bytes!("testdata/good.pem")).unwrap();
        let signed = fields(&signed).unwrap();
        assert_ne!(signed.issuer, signed.subject);
    }

    #[test]
    fn times_are_seconds() {
        let read = |tag: u8, text: &str| time(&[&[tag, text.len() as u8], text.as_bytes()].concat()).map(|t| t.0);
        assert_eq!(read(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(read(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(read(GENERALIZED_TIME, "20240229120000Z"), Some(1_709_208_000));
        assert_eq!(read(GENERALIZED_TIME, "21000301000000Z"), Some(4_107_542_400));
        for bad in ["20240229120000", "2024022912000Z", "20241329120000Z", "2024022912000xZ", "19690101000000Z"] {
            assert_eq!(read(GENERALIZED_TIME, bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn damaged_certificates_are_no_panic(at in 0usize..400, to in any::<u8>(), cut in 0usize..600) {
            let cert = CertificateDer::from_pem_slice(include_bytes!("testdata/good.pem")).unwrap();
            let mut bytes = cert.to_vec();
            let at = at % bytes.len();
            bytes[at] = to;
            let cut = cut.min(bytes.len());
            let _ = fields(&bytes[..cut]);
            let _ = fields(&bytes);
        }
    }
}
