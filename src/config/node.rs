//! A YAML document as a tree that remembers lines: the common ground of everything that reads YAML.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

/// Deepest nesting of collections.
const DEPTH_MAX: usize = 100;
/// Most nodes in a document: a list of a million targets has some three million.
const NODES_MAX: usize = 20_000_000;
/// Most nodes that aliases may add: a file written by hand stays far below, a file that explodes does not pass.
const ALIASED_NODES_MAX: usize = 1_000_000;

/// A value and the line it starts on (1 based).
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Line.
    pub line: u32,
    /// Value.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Nothing, `~` or `null`.
    Null,
    /// Text as written; `quoted` tells `"10"` from `10`.
    Scalar {
        /// After unescaping.
        text: String,
        /// Quoted, a block, or tagged `!!str`.
        quoted: bool,
    },
    /// In order.
    List(Vec<Node>),
    /// In order, keys unique, merges (`<<`) resolved.
    Map(Vec<Entry>),
}

/// One entry of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Key.
    pub key: String,
    /// Line of the key.
    pub line: u32,
    /// Value.
    pub value: Node,
}

/// Why a text is not a usable YAML document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// Line, 1 based; 0 when unknown.
    pub line: u32,
    /// What is wrong.
    pub what: String,
}

impl Node {
    /// An empty document.
    #[must_use]
    pub fn null() -> Self {
        Self { line: 1, kind: Kind::Null }
    }

    /// What kind of thing this is, for an error text.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing".to_owned(),
            Kind::Scalar { text, .. } => format!("{text:?}"),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a map".to_owned(),
        }
    }

    /// Reads the first document and nothing after it. go-yaml: Unmarshal. Everything wrong with keys is reported at once; a scan error ends the reading.
    ///
    /// # Errors
    /// Malformed YAML, duplicate keys, foreign tags, or too deep or large.
    pub fn parse(text: &str) -> Result<Self, Vec<YamlError>> {
        let mut builder = Builder::default();
        for next in Parser::new_from_str(text) {
            match next {
                Ok((Event::DocumentEnd, _)) => break,
                Ok((event, span)) => builder.event(event, span).map_err(|e| vec![e])?,
                Err(e) => return Err(vec![error(e.marker().line(), e.info().to_owned())]),
            }
        }
        if builder.errors.is_empty() { Ok(builder.root.unwrap_or_else(Node::null)) } else { Err(builder.errors) }
    }
}

fn error(line: usize, what: impl Into<String>) -> YamlError {
    YamlError { line: u32::try_from(line).unwrap_or(0), what: what.into() }
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    nodes: usize,
    aliased: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Anchored>>,
    errors: Vec<YamlError>,
}

struct Anchored {
    node: Node,
    /// Nodes in it.
    nodes: usize,
}

struct Open {
    line: u32,
    anchor: usize,
    nodes_before: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, keys: HashSet<String>, key: Option<(String, u32)>, merges: Vec<Node> },
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        let line = u32::try_from(span.start.line()).unwrap_or(0);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let kind =
                    scalar(text.into_owned(), style, tag.as_deref()).map_err(|what| error(span.start.line(), what))?;
                self.value(Node { line, kind }, anchor, 1)?;
            }
            Event::SequenceStart(_, anchor, _) => self.open(line, anchor, Content::List(Vec::new()))?,
            Event::MappingStart(_, anchor, _) => {
                let content = Content::Map { entries: Vec::new(), keys: HashSet::new(), key: None, merges: Vec::new() };
                self.open(line, anchor, content)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Alias(id) => {
                let anchored = self.anchors.get(&id).cloned();
                let anchored = anchored.ok_or_else(|| error(span.start.line(), "an alias refers to itself"))?;
                self.aliased += anchored.nodes;
                if self.aliased > ALIASED_NODES_MAX {
                    let what = format!("aliases stand for more than {ALIASED_NODES_MAX} values");
                    return Err(error(span.start.line(), what));
                }
                self.value(anchored.node.clone(), 0, anchored.nodes)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, line: u32, anchor: usize, content: Content) -> Result<(), YamlError> {
        if self.open.len() >= DEPTH_MAX {
            return Err(YamlError { line, what: format!("nested deeper than {DEPTH_MAX} levels") });
        }
        self.open.push(Open { line, anchor, nodes_before: self.nodes, content });
        Ok(())
    }

    fn close(&mut self) -> Result<(), YamlError> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let kind = match open.content {
            Content::List(list) => Kind::List(list),
            Content::Map { entries, merges, keys, .. } => Kind::Map(self.merged(entries, keys, merges)),
        };
        let nodes = self.nodes - open.nodes_before + 1;
        self.nodes = open.nodes_before;
        self.value(Node { line: open.line, kind }, open.anchor, nodes)
    }

    /// Explicit entries win over merged ones, earlier merges over later ones.
    fn merged(&mut self, mut entries: Vec<Entry>, mut keys: HashSet<String>, merges: Vec<Node>) -> Vec<Entry> {
        for merge in merges {
            let line = merge.line;
            let sources = match merge.kind {
                Kind::Map(map) => vec![map],
                Kind::List(list) if list.iter().all(|n| matches!(n.kind, Kind::Map(_))) => {
                    list.into_iter().filter_map(|n| if let Kind::Map(m) = n.kind { Some(m) } else { None }).collect()
                }
                _ => {
                    self.errors.push(YamlError { line, what: "<< merges maps only".to_owned() });
                    continue;
                }
            };
            for entry in sources.into_iter().flatten() {
                if keys.insert(entry.key.clone()) {
                    entries.push(entry);
                }
            }
        }
        entries
    }

    fn value(&mut self, node: Node, anchor: usize, nodes: usize) -> Result<(), YamlError> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            return Err(YamlError { line: node.line, what: format!("more than {NODES_MAX} values") });
        }
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::new(Anchored { node: node.clone(), nodes }));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.content {
            Content::List(list) => list.push(node),
            Content::Map { entries, keys, key, merges } => match key.take() {
                None => match node.kind {
                    Kind::Scalar { text, .. } => *key = Some((text, node.line)),
                    // prometheus: go-yaml reads a key that is nothing as the empty text.
                    Kind::Null => *key = Some((String::new(), node.line)),
                    _ => return Err(YamlError { line: node.line, what: "a key is a list or map".to_owned() }),
                },
                Some((key, line)) if key == "<<" => {
                    let _ = line;
                    merges.push(node);
                }
                Some((key, line)) => {
                    if !keys.insert(key.clone()) {
                        self.errors.push(YamlError { line, what: format!("key {key:?} occurs twice in one map") });
                    }
                    entries.push(Entry { key, line, value: node });
                }
            },
        }
        Ok(())
    }
}

fn scalar(text: String, style: ScalarStyle, tag: Option<&Tag>) -> Result<Kind, String> {
    let suffix = match tag {
        None => "",
        Some(tag) => tag.core_suffix().ok_or_else(|| format!("tag {} has no meaning here", tag.original()))?,
    };
    let quoted = style != ScalarStyle::Plain || suffix == "str";
    let null = matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL");
    Ok(if suffix == "null" || (null && !quoted) { Kind::Null } else { Kind::Scalar { text, quoted } })
}
