//! Target groups as `file_sd` files spell them, in JSON and YAML.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::node::{Kind, Node};
use super::types::TargetGroup;
use crate::model::{Labels, LabelsListBuilder, TEXT_BYTES_MAX};

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupFormat {
    /// `.json`, also the answer of HTTP discovery.
    Json,
    /// `.yml` and `.yaml`.
    Yaml,
}

impl GroupFormat {
    /// By a file's extension. prometheus: discovery/file/file.go, patFileSDName.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "json" | "JSON" => Some(Self::Json),
            "yml" | "yaml" | "YML" | "YAML" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// Why a file of target groups is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupsError {
    /// 1 based; 0 when unknown.
    pub line: u32,
    /// For example `[3].targets[0]`; empty for the whole file.
    pub path: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for GroupsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for GroupsError {}

#[derive(Default)]
struct JsonGroup {
    targets: Option<Addresses>,
    labels: Option<BTreeMap<String, String>>,
}

impl<'de> Deserialize<'de> for JsonGroup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(GroupVisitor)
    }
}

/// Addresses of a group, taken one by one: a million of them as texts would leave holes in memory for as many targets.
#[derive(Default)]
struct Addresses {
    targets: LabelsListBuilder,
    is_too_long: bool,
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(AddressesVisitor)
    }
}

struct AddressesVisitor;

impl<'de> Visitor<'de> for AddressesVisitor {
    type Value = Addresses;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Addresses, A::Error> {
        let mut addresses = Addresses::default();
        while seq.next_element_seed(AddressSeed(&mut addresses))?.is_some() {}
        Ok(addresses)
    }
}

/// Takes the next address of a list.
struct AddressSeed<'a>(&'a mut Addresses);

impl<'de> DeserializeSeed<'de> for AddressSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for AddressSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, address: &str) -> Result<(), E> {
        if address.len() > TEXT_BYTES_MAX {
            self.0.is_too_long = true;
        } else {
            self.0.targets.push(&target(address));
        }
        Ok(())
    }
}

struct GroupVisitor;

impl<'de> Visitor<'de> for GroupVisitor {
    type Value = JsonGroup;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map with targets and labels")
    }

    /// Keys compare without case, and of equal keys the last one counts. go: encoding/json.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonGroup, A::Error> {
        let mut group = JsonGroup::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.to_ascii_lowercase().as_str() {
                "targets" => group.targets = map.next_value()?,
                "labels" => group.labels = map.next_value()?,
                _ => return Err(A::Error::unknown_field(&key, &["targets", "labels"])),
            }
        }
        Ok(group)
    }
}

/// Reads all groups of a file, strictly. A group's `source` is `<path>:<index>`; `__meta_filepath` is the provider's
/// business. prometheus: discovery/file/file.go, readFile; targetgroup.go.
///
/// # Errors
/// The first thing that is wrong: nothing of a bad file is used.
pub fn parse_target_groups(path: &Path, bytes: &[u8], format: GroupFormat) -> Result<Vec<TargetGroup>, GroupsError> {
    let mut groups = match format {
        GroupFormat::Json => from_json(bytes)?,
        GroupFormat::Yaml => from_yaml(bytes)?,
    };
    for (i, group) in groups.iter_mut().enumerate() {
        group.source = format!("{}:{i}", path.display());
    }
    Ok(groups)
}

fn from_json(bytes: &[u8]) -> Result<Vec<TargetGroup>, GroupsError> {
    let groups: Option<Vec<Option<JsonGroup>>> = serde_json::from_slice(bytes).map_err(|e| GroupsError {
        line: u32::try_from(e.line()).unwrap_or(0),
        path: String::new(),
        what: e.to_string(),
    })?;
    groups
        .unwrap_or_default()
        .into_iter()
        .enumerate()
        .map(|(i, group)| {
            let fail = |what: &str| GroupsError { line: 0, path: format!("[{i}]"), what: what.to_owned() };
            let group = group.ok_or_else(|| fail(NULL_GROUP))?;
            let labels = group.labels.unwrap_or_default();
            let Addresses { targets, is_too_long } = group.targets.unwrap_or_default();
            if labels.contains_key("") {
                return Err(fail(EMPTY_NAME));
            }
            if is_too_long || labels.iter().flat_map(|(n, v)| [n, v]).any(|text| text.len() > TEXT_BYTES_MAX) {
                return Err(fail(TOO_LONG));
            }
            let (source, targets) = (String::new(), targets.finish());
            Ok(TargetGroup { source, targets, labels: Labels::from_pairs(&labels) })
        })
        .collect()
}

const NULL_GROUP: &str = "is null; a group is a map with targets and labels";
const EMPTY_NAME: &str = "labels: a label name is empty";
const TWICE: &str = "is there twice, once by a merge (<<)";
const TOO_LONG: &str = "an address, label name or value reaches 16 MiB";

fn target(address: &str) -> Labels {
    Labels::one("__address__", address)
}

fn from_yaml(bytes: &[u8]) -> Result<Vec<TargetGroup>, GroupsError> {
    let whole = |line, what: String| GroupsError { line, path: String::new(), what };
    let text = std::str::from_utf8(bytes).map_err(|_| whole(0, "is not UTF-8".to_owned()))?;
    let root = Node::parse(text).map_err(|mut errors| {
        let first = errors.remove(0);
        whole(first.line, first.what)
    })?;
    match &root.kind {
        Kind::Null => Ok(Vec::new()),
        Kind::List(groups) => groups.iter().enumerate().map(|(i, g)| yaml_group(i, g)).collect(),
        _ => Err(whole(root.line, format!("must be a list of groups, found {}", root.describe()))),
    }
}

/// One group of a list; the error's path begins with the index.
pub(super) fn yaml_group(index: usize, node: &Node) -> Result<TargetGroup, GroupsError> {
    let fail = |node: &Node, path: &str, what: String| {
        Err(GroupsError { line: node.line, path: format!("[{index}]{path}"), what })
    };
    let entries = match &node.kind {
        Kind::Map(entries) => entries,
        Kind::Null => return fail(node, "", NULL_GROUP.to_owned()),
        _ => return fail(node, "", format!("must be a map with targets and labels, found {}", node.describe())),
    };
    let mut group = TargetGroup::default();
    for e in entries {
        match (e.key.as_str(), &e.value.kind) {
            ("targets" | "labels", Kind::Null) => {}
            ("targets", Kind::List(list)) => {
                let mut targets = LabelsListBuilder::default();
                for (i, t) in list.iter().enumerate() {
                    match &t.kind {
                        Kind::Scalar { text, .. } if text.len() > TEXT_BYTES_MAX => {
                            return fail(t, &format!(".targets[{i}]"), TOO_LONG.to_owned());
                        }
                        Kind::Scalar { text, .. } => targets.push(&target(text)),
                        _ => {
                            return fail(
                                t,
                                &format!(".targets[{i}]"),
                                format!("must be host:port, found {}", t.describe()),
                            );
                        }
                    }
                }
                group.targets = targets.finish();
            }
            ("labels", Kind::Map(labels)) => {
                let mut pairs = Vec::with_capacity(labels.len());
                for l in labels {
                    match &l.value.kind {
                        _ if l.key.is_empty() => return fail(&l.value, "", EMPTY_NAME.to_owned()),
                        _ if l.repeated => return fail(&l.value, &format!(".labels.{}", l.key), TWICE.to_owned()),
                        Kind::Scalar { text, .. } if l.key.len().max(text.len()) > TEXT_BYTES_MAX => {
                            return fail(&l.value, ".labels", TOO_LONG.to_owned());
                        }
                        Kind::Scalar { text, .. } => pairs.push((l.key.as_str(), text.as_str())),
                        Kind::Null => {}
                        _ => return fail(&l.value, &format!(".labels.{}", l.key), "must be a text".to_owned()),
                    }
                }
                group.labels = Labels::from_pairs(pairs);
            }
            ("targets", _) => return fail(&e.value, ".targets", "must be a list of host:port".to_owned()),
            ("labels", _) => return fail(&e.value, ".labels", "must be a map of texts".to_owned()),
            (key, _) => return fail(&e.value, "", format!("unknown key {key:?}; a group has targets and labels")),
        }
    }
    Ok(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, format: GroupFormat) -> Result<Vec<TargetGroup>, GroupsError> {
        parse_target_groups(Path::new("t.json"), text.as_bytes(), format)
    }

    #[test]
    fn both_spellings_mean_the_same() {
        let json = r#"[{"targets": ["a:1", "b:2"], "labels": {"env": "x", "n": "1"}}, {"targets": []}, {}]"#;
        let yaml = "- targets: [a:1, 'b:2']\n  labels: {env: x, n: 1}\n- targets: []\n- {}\n";
        let (json, yaml) = (read(json, GroupFormat::Json), read(yaml, GroupFormat::Yaml));
        assert_eq!(json, yaml);
        let groups = json.expect("valid");
        assert_eq!(groups.len(), 3);
        assert_eq!(groups[0].source, "t.json:0");
        assert_eq!(groups[0].targets.get(1).unwrap().get("__address__"), Some("b:2"));
        assert_eq!(groups[0].labels.get("n"), Some("1"));
    }

    #[test]
    fn a_text_too_long_for_a_label_is_an_error_and_no_panic() {
        let long = "x".repeat(1 << 24);
        for text in [
            format!(r#"[{{"targets": ["{long}"]}}]"#),
            format!(r#"[{{"labels": {{"a": "{long}"}}}}]"#),
            format!(r#"[{{"labels": {{"{long}": "a"}}}}]"#),
        ] {
            assert!(read(&text, GroupFormat::Json).is_err_and(|e| e.what == TOO_LONG));
            // Where the YAML reader has a lower limit of its own, that one speaks.
            assert!(read(&text, GroupFormat::Yaml).is_err());
        }
    }

    #[test]
    fn keys_of_json_have_no_case_and_the_last_one_counts() {
        let got =
            read(r#"[{"Targets": ["a:1"], "LABELS": {"N": "1", "N": "2"}, "targets": ["b:2"]}]"#, GroupFormat::Json);
        assert_eq!(got, read(r#"[{"targets": ["b:2"], "labels": {"N": "2"}}]"#, GroupFormat::Json));
        assert!(got.is_ok());
    }

    #[test]
    fn bad_files_are_refused_whole() {
        for (text, format, reason) in [
            ("[null]", GroupFormat::Json, "[0]: is null"),
            (r#"[{"target": []}]"#, GroupFormat::Json, "unknown field `target`"),
            (r#"[{"labels": {"": "x"}}]"#, GroupFormat::Json, "label name is empty"),
            (r#"[{"targets": [1]}]"#, GroupFormat::Json, "expected a string"),
            ("- \n", GroupFormat::Yaml, "[0]: is null"),
            ("- target: []\n", GroupFormat::Yaml, "unknown key \"target\""),
            ("- targets: [[a]]\n", GroupFormat::Yaml, "line 1: [0].targets[0]: must be host:port, found a list"),
            ("- targets: a\n", GroupFormat::Yaml, "[0].targets: must be a list"),
            ("a: b\n", GroupFormat::Yaml, "must be a list of groups"),
            ("- targets: []\n  targets: []\n", GroupFormat::Yaml, "line 2: key \"targets\" occurs twice"),
        ] {
            let error = read(text, format).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(reason), "{text}: {error:?}");
        }
    }
}
