//! A YAML document as a tree that remembers lines: the common ground of everything that reads YAML.

use std::collections::HashMap;
use std::rc::Rc;

use serde_saphyr::granit_parser::{Event, Parser, Span};

use super::tags::scalar;

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
        /// Quoted, a block, or a text by its tag.
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
    /// A merge gives the key too. go-yaml: the last one counts where a key has a meaning, and is an error where it is free.
    pub repeated: bool,
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
    /// Malformed YAML, duplicate keys, tags that do not fit, or too deep or large.
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
    Map { mapping: Mapping, key: Option<Key> },
}

struct Key {
    text: String,
    line: u32,
    is_merge: bool,
}

/// A map that is being read.
#[derive(Default)]
struct Mapping {
    entries: Vec<Entry>,
    /// By key: where its entry is, and whether it was written out. Merges alone do not.
    places: HashMap<String, (usize, bool)>,
}

impl Mapping {
    /// What comes later counts, written out or merged. go-yaml: mappingStruct.
    fn put(&mut self, mut entry: Entry, is_written: bool) -> Result<(), YamlError> {
        let Some((at, was_written)) = self.places.get_mut(&entry.key) else {
            self.places.insert(entry.key.clone(), (self.entries.len(), is_written));
            self.entries.push(entry);
            return Ok(());
        };
        if is_written && *was_written {
            return Err(YamlError { line: entry.line, what: format!("key {:?} occurs twice in one map", entry.key) });
        }
        *was_written |= is_written;
        entry.repeated = true;
        self.entries[*at] = entry;
        Ok(())
    }

    /// Of several maps the earlier ones win. go-yaml: merge.
    fn merge(&mut self, node: Node) -> Result<(), YamlError> {
        let line = node.line;
        let sources = match node.kind {
            Kind::Map(map) => vec![map],
            Kind::List(list) if list.iter().all(|n| matches!(n.kind, Kind::Map(_))) => {
                list.into_iter().filter_map(|n| if let Kind::Map(m) = n.kind { Some(m) } else { None }).collect()
            }
            _ => return Err(YamlError { line, what: "<< merges maps only".to_owned() }),
        };
        sources.into_iter().rev().flatten().try_for_each(|entry| self.put(entry, false))
    }
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
                self.open(line, anchor, Content::Map { mapping: Mapping::default(), key: None })?;
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
            Content::Map { mapping, .. } => Kind::Map(mapping.entries),
        };
        let nodes = self.nodes - open.nodes_before + 1;
        self.nodes = open.nodes_before;
        self.value(Node { line: open.line, kind }, open.anchor, nodes)
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
            Content::Map { mapping, key } => match key.take() {
                None => *key = Some(key_of(node)?),
                Some(Key { is_merge: true, .. }) => self.errors.extend(mapping.merge(node).err()),
                Some(Key { text, line, .. }) => {
                    let entry = Entry { key: text, line, value: node, repeated: false };
                    self.errors.extend(mapping.put(entry, true).err());
                }
            },
        }
        Ok(())
    }
}

fn key_of(node: Node) -> Result<Key, YamlError> {
    let line = node.line;
    match node.kind {
        Kind::Scalar { text, quoted } => Ok(Key { is_merge: !quoted && text == "<<", text, line }),
        // prometheus: go-yaml reads a key that is nothing as the empty text.
        Kind::Null => Ok(Key { text: String::new(), line, is_merge: false }),
        _ => Err(YamlError { line, what: "a key is a list or map".to_owned() }),
    }
}
