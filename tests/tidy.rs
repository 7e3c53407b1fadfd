//! House rules as a test: floors, sizes, captions, where `unsafe` and clocks may live, banned words, dead files, metric names.
//!
//! Every rule is a function from the sources to findings; beside the run over the tree, every rule is shown a planted
//! violation and must find it. There is no way to silence a rule in the source: an exception is a row in a table here, with its
//! reason, and a row that excuses nothing is a finding itself.

#[path = "tidy/source.rs"]
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use source::{Declaration, Source, declarations, files, functions, words};

/// Rooms by floor: a room names only rooms of lower floors.
const FLOORS: &[(&str, u32)] = &[
    ("base", 0),
    ("model", 1),
    ("encoding", 1),
    ("selfmetrics", 1),
    ("exposition", 2),
    ("http", 2),
    ("relabel", 2),
    ("engine", 2),
    ("config", 3),
    ("net", 4),
    ("series", 5),
    ("discovery", 5),
    ("storage", 5),
    ("remote_write", 5),
    ("scrape", 6),
    ("shard", 7),
    ("manager", 8),
    ("web", 8),
    ("farm", 8),
    ("app", 9),
    ("sim", 9),
];

/// (room, room of the same or a higher floor, reason).
const FLOOR_EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("exposition", "config", "the protocols a job may negotiate are named in its file"),
    ("relabel", "config", "a rule as written belongs to the file; relabel compiles it"),
    ("remote_write", "storage", "one road to the outside: lanes send what the journal's Reader yields"),
];

/// (room or file below src, reason).
const UNSAFE_ROOMS: &[(&str, &str)] = &[
    ("base", "clocks and CPU masks of libc"),
    ("engine", "io_uring and epoll"),
    ("app/descriptors.rs", "the descriptor limit is raised once, at start"),
    ("farm", "it accepts, which the engine never does: rings and epoll turned around"),
];

/// Calls that read a clock. `Now::read` of base::time is the one way; times are arguments everywhere else.
const CLOCK_CALLS: &[&str] = &["Instant::now", "SystemTime::now", ".elapsed(", "clock_gettime"];

/// (file or room below src, reason).
const CLOCK_ROOMS: &[(&str, &str)] = &[
    ("base/time.rs", "the clock itself"),
    ("discovery", "timers of the control thread, on tokio's clock, which tests pause"),
    ("manager", "timers of the control thread, on tokio's clock, which tests pause"),
];

/// (macro, what to do instead).
const BANNED_MACROS: &[(&str, &str)] =
    &[("todo", "finish it or leave it out"), ("unimplemented", "finish it or leave it out"), ("dbg", "use tracing")];

/// (name of a module, file, function or type, what to do instead).
const BANNED_NAMES: &[(&str, &str)] = &[
    ("util", "name the noun"),
    ("utils", "name the noun"),
    ("helpers", "name the noun"),
    ("common", "name the noun"),
    ("misc", "name the noun"),
    ("process_data", "name what is done to what"),
];

/// (beginning of a function's name, what to do instead).
const BANNED_BEGINNINGS: &[(&str, &str)] =
    &[("get_", "name the thing"), ("do_", "name the act"), ("handle_", "name the act"), ("process_", "name the act")];

/// Marks of unfinished work in comments.
const BANNED_COMMENTS: &[&str] = &["TODO", "FIXME", "XXX", ": to be written"];

const PRODUCT_LINES_MAX: usize = 600;
const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
/// A comment on `unsafe` stands at most this many lines above it.
const SAFETY_LINES_BEFORE: usize = 8;

/// The package.
struct Tree {
    /// src, tests, benches, perf.
    sources: Vec<Source>,
    /// Everything that users read: README, deploy.
    papers: Vec<(String, String)>,
}

impl Tree {
    /// Read once for all rules.
    fn read() -> &'static Self {
        static TREE: LazyLock<Tree> = LazyLock::new(Tree::of_package);
        &TREE
    }

    fn of_package() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folders = ["src", "tests", "benches", "perf"];
        let rust = folders.iter().flat_map(|folder| files(root, folder, "rs"));
        let sources = mark_tests(rust.map(|(path, text)| Source::new(&path, &text)).collect());
        let kinds = ["json", "yml", "md", "service", "conf"];
        let mut papers: Vec<_> = kinds.iter().flat_map(|ext| files(root, "deploy", ext)).collect();
        let readme = std::fs::read_to_string(root.join("README.md")).expect("a README.md");
        papers.push(("README.md".to_owned(), readme));
        Self { sources, papers }
    }

    /// A made-up tree, to show a rule its violation.
    fn made(files: &[(&str, &str)]) -> Self {
        let (sources, papers): (Vec<_>, Vec<_>) = files.iter().partition(|(path, _)| path.ends_with(".rs"));
        Self {
            sources: mark_tests(sources.iter().map(|(path, text)| Source::new(path, text)).collect()),
            papers: papers.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect(),
        }
    }

    /// Files of the product: src without test files.
    fn product(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|s| s.path.starts_with("src/") && !s.is_test)
    }
}

/// Finds the files that are declared under `#[cfg(test)]`, and those they declare.
fn mark_tests(mut sources: Vec<Source>) -> Vec<Source> {
    loop {
        let declared = |s: &Source| {
            let is_test = s.is_test;
            let of_tests = declarations(s).into_iter().filter(move |d| d.is_test || is_test);
            of_tests.flat_map(|d| module_files(&s.path, &d)).collect::<Vec<_>>()
        };
        let tests: BTreeSet<String> = sources.iter().flat_map(declared).collect();
        let mut changed = false;
        for source in sources.iter_mut().filter(|s| !s.is_test && tests.contains(&s.path)) {
            source.is_test = true;
            changed = true;
        }
        if !changed {
            return sources;
        }
    }
}

/// Where the text of a declared module may be.
fn module_files(path: &str, declaration: &Declaration) -> Vec<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = name.trim_end_matches(".rs");
    let children = if is_root(path) || stem == "mod" { folder.to_owned() } else { format!("{folder}/{stem}") };
    let name = &declaration.name;
    match &declaration.file {
        Some(file) => {
            let (up, file) = (file.matches("../").count(), file.trim_start_matches("../"));
            let from = folder.rsplitn(up + 1, '/').last().unwrap_or("");
            vec![format!("{from}/{file}")]
        }
        None => vec![format!("{children}/{name}.rs"), format!("{children}/{name}/mod.rs")],
    }
}

/// Files that cargo compiles by themselves.
fn is_root(path: &str) -> bool {
    match path.split('/').collect::<Vec<_>>()[..] {
        ["src", "lib.rs" | "main.rs"] | ["src", "bin", _] | ["tests" | "benches" | "perf", _] => true,
        [folder, _, "main.rs"] => folder != "src",
        _ => false,
    }
}

type Findings = Vec<String>;

fn assert_tidy(findings: Findings) {
    assert!(findings.is_empty(), "{} findings:\n{}\n", findings.len(), findings.join("\n"));
}

/// Exactly one finding, which names the file and the matter.
fn assert_found(findings: Findings, file: &str, matter: &str) {
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert!(findings[0].contains(file) && findings[0].contains(matter), "{findings:#?}");
}

fn assert_nothing(findings: Findings) {
    assert!(findings.is_empty(), "{findings:#?}");
}

// ---- floors

/// Rooms that a file names, with the offset: `crate::room`, `crate::{room, ..}`, and `super` up to the crate's root.
fn rooms_named(source: &Source) -> Vec<(usize, String)> {
    let code = source.product();
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::").filter(|(at, _)| !follows_word(&code, *at)) {
        named.extend(first_segments(&code, at + "crate::".len()));
    }
    let mut at = 0;
    while let Some(found) = code[at..].find("super::") {
        let start = at + found;
        let mut end = start;
        while code[end..].starts_with("super::") {
            end += "super::".len();
        }
        if (end - start) / "super::".len() >= source.module_depth() {
            named.extend(first_segments(&code, end));
        }
        at = end;
    }
    named
}

fn follows_word(code: &str, at: usize) -> bool {
    code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// What follows `crate::`: one segment, or the first segments within braces; `*` is a segment.
fn first_segments(code: &str, from: usize) -> Vec<(usize, String)> {
    let segment = |at: usize| {
        let rest = &code[at..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*')).unwrap_or(rest.len());
        (at, rest[..end].to_owned())
    };
    if !code[from..].starts_with('{') {
        return vec![segment(from)];
    }
    let (mut found, mut depth, mut expected) = (Vec::new(), 0, true);
    for (i, c) in code[from..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => expected = true,
            c if depth == 1 && expected && !c.is_whitespace() => {
                found.push(segment(from + i));
                expected = false;
            }
            _ => {}
        }
    }
    found
}

fn floors(tree: &Tree) -> Findings {
    let floors: BTreeMap<_, _> = FLOORS.iter().copied().collect();
    let mut findings = Findings::new();
    for source in tree.product() {
        let Some(room) = source.room() else { continue };
        let Some(floor) = floors.get(room) else {
            findings.push(format!("{}: room {room} has no floor in tests/tidy.rs", source.path));
            continue;
        };
        for (at, other) in rooms_named(source).into_iter().filter(|(_, other)| other != room) {
            let line = source.line(at);
            match floors.get(other.as_str()) {
                None => findings.push(format!("{}:{line}: crate::{other} is no room", source.path)),
                Some(below) if below < floor => {}
                Some(_) if FLOOR_EXCEPTIONS.iter().any(|(from, to, _)| *from == room && *to == other) => {}
                Some(above) => findings.push(format!(
                    "{}:{line}: {room} (floor {floor}) names {other} (floor {above}); take it as an argument or a trait",
                    source.path
                )),
            }
        }
    }
    findings
}

/// Rows of the tables that excuse nothing any more, and rooms that are gone.
fn idle_rows(tree: &Tree) -> Findings {
    let mut findings = Findings::new();
    let rooms: BTreeSet<_> = tree.product().filter_map(Source::room).collect();
    for (room, _) in FLOORS.iter().filter(|(room, _)| !rooms.contains(room)) {
        findings.push(format!("FLOORS: there is no room {room}"));
    }
    for (from, to, _) in FLOOR_EXCEPTIONS {
        let used = tree.product().any(|s| s.room() == Some(*from) && rooms_named(s).iter().any(|(_, r)| r == to));
        if !used {
            findings.push(format!("FLOOR_EXCEPTIONS: {from} does not name {to}"));
        }
    }
    let has = |place: &str, what: &dyn Fn(&Source) -> bool| tree.product().any(|s| is_in(s, place) && what(s));
    let is_unsafe = |s: &Source| words(&s.code).any(|(_, word)| word == "unsafe");
    for (place, _) in UNSAFE_ROOMS.iter().filter(|(place, _)| !has(place, &is_unsafe)) {
        findings.push(format!("UNSAFE_ROOMS: nothing unsafe in {place}"));
    }
    let reads_clock = |s: &Source| CLOCK_CALLS.iter().any(|call| s.code.contains(call));
    for (place, _) in CLOCK_ROOMS.iter().filter(|(place, _)| !has(place, &reads_clock)) {
        findings.push(format!("CLOCK_ROOMS: no clock in {place}"));
    }
    findings
}

/// Whether a file is `place` (a file below src) or in it (a folder below src).
fn is_in(source: &Source, place: &str) -> bool {
    let below = source.path.strip_prefix("src/").unwrap_or_default();
    below == place || below.strip_prefix(place).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

#[test]
fn a_module_names_only_lower_floors() {
    assert_tidy(floors(Tree::read()));
    let up = "//! X.\nuse crate::{base::time::Now, app::cli};\n";
    assert_found(floors(&Tree::made(&[("src/model/x.rs", up)])), "src/model/x.rs:2", "app (floor 9)");
    let climbing = "//! X.\nuse super::super::web::Web;\nuse super::y;\n";
    assert_found(floors(&Tree::made(&[("src/model/x.rs", climbing)])), "src/model/x.rs:2", "web (floor 8)");
    let unknown = "//! X.\nfn f() { crate::attic::g() }\n";
    assert_found(floors(&Tree::made(&[("src/model/x.rs", unknown)])), "src/model/x.rs:2", "attic");
    assert_found(floors(&Tree::made(&[("src/attic/mod.rs", "//! X.\n")])), "src/attic/mod.rs", "no floor");
    let fine = "//! [`crate::app`].\nuse crate::base;\n#[cfg(test)]\nmod tests { use crate::app; }\nconst T: &str = \"crate::app\";\n";
    assert_nothing(floors(&Tree::made(&[("src/model/x.rs", fine)])));
}

#[test]
fn every_exception_excuses_something() {
    assert_tidy(idle_rows(Tree::read()));
    let everything_idle = FLOORS.len() + FLOOR_EXCEPTIONS.len() + UNSAFE_ROOMS.len() + CLOCK_ROOMS.len();
    assert_eq!(idle_rows(&Tree::made(&[])).len(), everything_idle);
}

// ---- sizes

fn sizes(tree: &Tree) -> Findings {
    let mut findings = Findings::new();
    for source in tree.sources.iter().filter(|s| !s.is_test) {
        let (product, all) = (source.product_lines(), source.text.lines().count());
        if product > PRODUCT_LINES_MAX {
            findings.push(format!("{}: {product} lines of product, at most {PRODUCT_LINES_MAX}", source.path));
        }
        if all > FILE_LINES_MAX {
            findings.push(format!("{}: {all} lines, at most {FILE_LINES_MAX}; move the tests beside", source.path));
        }
        for function in functions(&source.product()).iter().filter(|f| f.lines > FUNCTION_LINES_MAX) {
            let (line, name, lines) = (source.line(function.at), function.name, function.lines);
            findings.push(format!("{}:{line}: {name} has {lines} lines, at most {FUNCTION_LINES_MAX}", source.path));
        }
    }
    findings
}

#[test]
fn files_and_functions_fit_in_the_head() {
    assert_tidy(sizes(Tree::read()));
    let found =
        |text: &str, matter| assert_found(sizes(&Tree::made(&[("src/model/x.rs", text)])), "src/model/x.rs", matter);
    found(&format!("//! X.\n{}", "const A: u8 = 1;\n".repeat(PRODUCT_LINES_MAX)), "lines of product");
    let long_tests = "// x\n".repeat(FILE_LINES_MAX);
    found(&format!("//! X.\n#[cfg(test)]\nmod tests {{\n{long_tests}}}\n"), "move the tests");
    // Braces in literals and comments, brackets and function types in the signature: none of them fools the matcher.
    let line = "    a('{', \"}\"); // {\n";
    let function = |lines: usize| format!("//! X.\nfn f(a: [u8; 2], g: fn(u8)) {{\n{}}}\n", line.repeat(lines));
    found(&function(FUNCTION_LINES_MAX - 1), ":2: f has 71 lines");
    assert_nothing(sizes(&Tree::made(&[("src/model/x.rs", &function(FUNCTION_LINES_MAX - 2))])));
}

// ---- captions and words

fn captions(tree: &Tree) -> Findings {
    let mut findings = Findings::new();
    for source in &tree.sources {
        let first = source.text.lines().next().unwrap_or_default();
        let caption = first.strip_prefix("//! ").unwrap_or_default();
        if caption.is_empty() || !caption.ends_with(['.', ':']) {
            findings.push(format!("{}:1: begin with `//! One sentence.`", source.path));
        }
    }
    findings
}

fn banned(tree: &Tree) -> Findings {
    let mut findings = Findings::new();
    // The rules themselves must spell what they forbid.
    for source in tree.sources.iter().filter(|s| s.path != "tests/tidy.rs") {
        let mut before = "";
        for (at, word) in words(&source.code) {
            let rest = &source.code[at + word.len()..];
            let is_macro = rest.starts_with('!') && !rest.starts_with("!=");
            let is_declared = matches!(before, "mod" | "fn" | "struct" | "enum" | "trait" | "type" | "crate" | "super");
            let banned = match (is_macro, is_declared) {
                (true, _) => BANNED_MACROS,
                (_, true) => BANNED_NAMES,
                _ => &[],
            };
            if let Some((_, instead)) = banned.iter().find(|(banned, _)| *banned == word) {
                findings.push(format!("{}:{}: {word}: {instead}", source.path, source.line(at)));
            }
            before = word;
        }
        for function in functions(&source.code) {
            if let Some((_, instead)) = BANNED_BEGINNINGS.iter().find(|(banned, _)| function.name.starts_with(banned)) {
                findings.push(format!("{}:{}: {}: {instead}", source.path, source.line(function.at), function.name));
            }
        }
        for (i, line) in source.text.lines().enumerate() {
            let comment = line.split_once("//").map_or("", |(_, comment)| comment);
            if let Some(mark) = BANNED_COMMENTS.iter().find(|mark| comment.contains(**mark)) {
                findings.push(format!("{}:{}: {mark}: finish it or open an issue", source.path, i + 1));
            }
        }
        let mut names = source.path.trim_end_matches(".rs").split('/');
        if let Some(name) = names.find(|n| BANNED_NAMES.iter().any(|(banned, _)| banned == n)) {
            findings.push(format!("{}: {name} names nothing", source.path));
        }
    }
    findings
}

#[test]
fn every_file_begins_with_its_caption() {
    assert_tidy(captions(Tree::read()));
    assert_found(captions(&Tree::made(&[("src/model/x.rs", "use std::fmt;\n")])), "src/model/x.rs:1", "One sentence");
    assert_found(captions(&Tree::made(&[("src/model/x.rs", "//! No end\n")])), "src/model/x.rs:1", "One sentence");
}

#[test]
fn banned_words_do_not_occur() {
    assert_tidy(banned(Tree::read()));
    for (text, matter) in [
        ("fn f() { todo!() }", "todo"),
        ("fn process_data(a: u8) -> u8;", "process_data"),
        ("mod helpers { }", "helpers"),
        ("fn get_thing() { }", "name the thing"),
        ("const A: u8 = 1; // TODO", "TODO"),
        ("use crate::util::x;", "util"),
    ] {
        let text = format!("//! X.\n{text}\n");
        assert_found(banned(&Tree::made(&[("src/model/x.rs", &text)])), "src/model/x.rs:2", matter);
    }
    assert_found(banned(&Tree::made(&[("src/util/x.rs", "//! X.\n")])), "src/util/x.rs", "names nothing");
    let fine = "//! X.\nuse hyper_util::rt;\nuse regex_automata::util::syntax;\nconst A: &str = \"todo\"; // util\nfn getter() {}\n";
    assert_nothing(banned(&Tree::made(&[("src/model/x.rs", fine)])));
}

// ---- unsafe and clocks

fn unsafe_code(tree: &Tree) -> Findings {
    let mut findings = Findings::new();
    for source in &tree.sources {
        let allowed = source.is_test
            || !source.path.starts_with("src/")
            || UNSAFE_ROOMS.iter().any(|(place, _)| is_in(source, place));
        for (at, _) in words(&source.code).filter(|(_, word)| *word == "unsafe") {
            let line = source.line(at);
            if !allowed && !source.tests.iter().any(|t| t.contains(&at)) {
                findings.push(format!("{}:{line}: unsafe only in the rooms of UNSAFE_ROOMS", source.path));
                continue;
            }
            let before = source.lines_before(line, SAFETY_LINES_BEFORE);
            if !before.iter().any(|l| l.contains("// SAFETY:") || l.contains("# Safety")) {
                findings.push(format!("{}:{line}: unsafe without `// SAFETY:`", source.path));
            }
        }
    }
    findings
}

fn clocks(tree: &Tree) -> Findings {
    let mut findings = Findings::new();
    for source in tree.product().filter(|s| !CLOCK_ROOMS.iter().any(|(place, _)| is_in(s, place))) {
        let code = source.product();
        for (at, call) in CLOCK_CALLS.iter().flat_map(|call| code.match_indices(call)) {
            let line = source.line(at);
            findings
                .push(format!("{}:{line}: {call}: take the time as an argument, or Now::read at an edge", source.path));
        }
    }
    findings
}

#[test]
fn unsafe_lives_in_few_rooms_and_explains_itself() {
    assert_tidy(unsafe_code(Tree::read()));
    let bare = "//! X.\nfn f() { unsafe { g() } }\n";
    assert_found(unsafe_code(&Tree::made(&[("src/model/x.rs", bare)])), "src/model/x.rs:2", "UNSAFE_ROOMS");
    assert_found(unsafe_code(&Tree::made(&[("src/base/x.rs", bare)])), "src/base/x.rs:2", "SAFETY");
    let explained = "//! X.\n// SAFETY: g is pure.\nfn f() { unsafe { g() } }\nconst A: &str = \"unsafe\";\n";
    assert_nothing(unsafe_code(&Tree::made(&[("src/base/x.rs", explained)])));
}

#[test]
fn clocks_are_read_in_one_place() {
    assert_tidy(clocks(Tree::read()));
    let text = "//! X.\nfn f() -> u64 {\n    std::time::Instant::now();\n}\n";
    assert_found(clocks(&Tree::made(&[("src/net/x.rs", text)])), "src/net/x.rs:3", "Instant::now");
    let declaring = "//! X.\n#[cfg(test)]\n#[allow(unused)]\nmod x;\n";
    assert_nothing(clocks(&Tree::made(&[
        ("src/base/time.rs", text),
        ("src/net/mod.rs", declaring),
        ("src/net/x.rs", text),
    ])));
}

// ---- dead files

/// Files that no `mod` line leads to.
fn dead_files(tree: &Tree) -> Findings {
    let by_path: BTreeMap<_, _> = tree.sources.iter().map(|s| (s.path.as_str(), s)).collect();
    let mut waiting: Vec<&str> = by_path.keys().copied().filter(|path| is_root(path)).collect();
    let mut alive = BTreeSet::new();
    while let Some(path) = waiting.pop() {
        if !alive.insert(path) {
            continue;
        }
        let declared = declarations(by_path[path]).into_iter().flat_map(|d| module_files(path, &d));
        waiting.extend(declared.filter_map(|file| by_path.get_key_value(file.as_str()).map(|(key, _)| *key)));
    }
    // A package inside the package has its own roots and its own tests.
    let own_package = |path: &str| path.starts_with("benches/alternates/");
    let dead = by_path.keys().filter(|path| !alive.contains(*path) && !own_package(path));
    dead.map(|path| format!("{path}: no `mod` line leads here")).collect()
}

#[test]
fn no_file_is_dead() {
    assert_tidy(dead_files(Tree::read()));
    let tree = [
        ("src/lib.rs", "//! X.\npub mod a;\n// mod dead;\n"),
        ("src/a/mod.rs", "//! X.\nmod b;\n#[cfg(test)]\n#[path = \"other.rs\"]\nmod c;\n"),
        ("tests/t/main.rs", "//! X.\n#[path = \"../shared/mod.rs\"]\nmod shared;\n"),
        ("tests/shared/mod.rs", "//! X.\n"),
        ("src/a/b.rs", "//! X.\nmod deep;\n"),
        ("src/a/b/deep.rs", "//! X.\n"),
        ("src/a/other.rs", "//! X.\n"),
        ("src/dead.rs", "//! X.\n"),
    ];
    assert_found(dead_files(&Tree::made(&tree)), "src/dead.rs", "no `mod` line");
}

// ---- papers: what users read must be true

/// Names that begin like our metrics, in dashboards and alerts.
fn metric_names(text: &str) -> BTreeSet<&str> {
    let beginnings = ["ringscrape_", "prometheus_", "process_"];
    words(text).map(|(_, word)| word).filter(|name| beginnings.iter().any(|b| name.starts_with(b))).collect()
}

fn metrics(tree: &Tree) -> Findings {
    let exposed: BTreeSet<&str> = tree.product().flat_map(|s| s.strings.iter().map(String::as_str)).collect();
    let mut findings = Findings::new();
    for (path, text) in tree.papers.iter().filter(|(path, _)| path.ends_with(".json") || path.ends_with(".yml")) {
        for name in metric_names(text) {
            let family = ["_sum", "_count", "_bucket"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name);
            if !exposed.contains(name) && !exposed.contains(family) {
                findings.push(format!("{path}: {name} is not exposed by any room"));
            }
        }
    }
    findings
}

/// Flags that are written about and that the command line does not know. Only dotted ones: those are ours beyond doubt.
fn flags(tree: &Tree) -> Findings {
    let of_cli = |s: &&Source| s.path.starts_with("src/app/cli") && !s.is_test;
    let known: BTreeSet<&str> =
        tree.sources.iter().filter(of_cli).flat_map(|s| s.strings.iter().map(String::as_str)).collect();
    let is_flag = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let mut findings = BTreeSet::new();
    for (path, line) in tree.papers.iter().flat_map(|(path, text)| text.lines().map(move |line| (path, line))) {
        for (at, _) in line.match_indices("--").filter(|_| speaks_of_us(line)) {
            let name = &line[at + 2..];
            let name = name[..name.find(|c| !is_flag(c)).unwrap_or(name.len())].trim_end_matches(['.', '-']);
            if name.contains('.') && !known.contains(name) && !known.contains(name.trim_start_matches("no-")) {
                findings.insert(format!("{path}: --{name} is not a flag"));
            }
        }
    }
    findings.into_iter().collect()
}

/// A line with another program's flags names the program.
fn speaks_of_us(line: &str) -> bool {
    !["promtool", "prometheus --", "vmagent"].iter().any(|other| line.contains(other))
}

#[test]
fn dashboards_and_alerts_use_metrics_that_exist() {
    let tree = Tree::read();
    let with_metrics = |ext: &str| {
        tree.papers.iter().filter(|(path, text)| path.ends_with(ext) && !metric_names(text).is_empty()).count()
    };
    assert!(with_metrics(".json") >= 1 && with_metrics(".yml") >= 1, "the dashboard and the alerts are read");
    assert_tidy(metrics(tree));
    let source = ("src/web/x.rs", "//! X.\nconst A: &str = \"ringscrape_a_seconds\";\n// \"ringscrape_b\"\n");
    let paper = ("deploy/x.yml", "expr: rate(ringscrape_a_seconds_sum[5m]) > ringscrape_b\n");
    assert_found(metrics(&Tree::made(&[source, paper])), "deploy/x.yml", "ringscrape_b");
}

#[test]
fn documents_name_flags_that_exist() {
    assert_tidy(flags(Tree::read()));
    let source = ("src/app/cli/typed.rs", "//! X.\nconst A: &str = \"storage.path\";\n");
    let paper = ("README.md", "Use --storage.path, or --no-storage.path, or --storage.hope.\n");
    assert_found(flags(&Tree::made(&[source, paper])), "README.md", "--storage.hope");
}

// ---- the lexer under the rules

#[test]
fn comments_and_literals_are_not_code() {
    let cases = [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("x\"y") g"#, r#"f("    ") g"#),
        (r##"r#"x"y"# z"##, r##"r#"   "# z"##),
        ("br\"x\" var\"y\"", "br\" \" var\" \""),
        ("'a' '\\'' &'a str '\u{e9}'", "' ' '  ' &'a str '  '"),
        ("r#type", "r#type"),
    ];
    for (text, code) in cases {
        assert_eq!(Source::new("src/x.rs", text).code, code, "{text}");
    }
    let source =
        Source::new("src/x.rs", "const A: &str = \"one\";\n#[cfg(test)]\nmod tests { const B: &str = \"two\"; }\n");
    assert_eq!(source.strings, ["one"]);
    assert_eq!(source.product_lines(), 1);
}
