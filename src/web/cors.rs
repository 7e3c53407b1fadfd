//! Which origins may read the API: an anchored regular expression. prometheus: web.go, CORSOrigin; httputil/cors.go.

use regex_automata::meta::Regex;

/// `--web.cors.origin`, compiled.
#[derive(Clone, Debug)]
pub struct CorsOrigin {
    text: String,
    regex: Regex,
}

impl PartialEq for CorsOrigin {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl CorsOrigin {
    /// # Errors
    /// What is wrong with the expression.
    pub fn parse(text: &str) -> Result<Self, String> {
        // The size limit bounds what a careless expression can make us build.
        let config = Regex::config().nfa_size_limit(Some(1 << 20));
        let regex = Regex::builder().configure(config).build(&format!("^(?s:{text})$"));
        let regex = regex.map_err(|e| format!("{text:?} is not a regular expression: {e}"))?;
        Ok(Self { text: text.to_owned(), regex })
    }

    /// Value of `Access-Control-Allow-Origin` for a request from this origin.
    pub(super) fn allowed<'a>(&self, origin: &'a str) -> Option<&'a str> {
        if self.text == ".*" {
            return Some("*");
        }
        self.regex.is_match(origin).then_some(origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_match_as_a_whole() {
        assert_eq!(CorsOrigin::parse(".*").unwrap().allowed("http://x"), Some("*"));
        let one = CorsOrigin::parse(r"https?://(a|b)\.com").unwrap();
        assert_eq!(one.allowed("https://b.com"), Some("https://b.com"));
        assert_eq!(one.allowed("https://b.com.evil"), None);
        assert!(CorsOrigin::parse("(").is_err());
    }
}
