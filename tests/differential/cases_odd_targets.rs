//! Behaviours of targets and rules at their edges: addresses, paths, times, templates.

use crate::case::{Case, bare, bodies, case};
use crate::support::answer::{Answer, Last};

/// All cases of this file.
pub fn cases() -> Vec<Case> {
    [addresses(), paths(), invalid(), clashes(), rules(), templates(), files()].concat()
}

const A: &str = "a 1\nb{x=\"y\"} 2\nc{x=\"Z\",w=\"1\"} 3\n";

/// A case of one target with this address; it reports, whether it answers or not.
fn at(name: &str, address: &str) -> Case {
    case(name, bodies(&[A, A]))
        .with(&format!("static_configs:\n- targets: ['{address}']\n  labels: {{case: {name}, node: x}}"))
        .scrapes(2)
}

fn addresses() -> Vec<Case> {
    vec![
        at("address-upper-case", "LOCALHOST:@PORT@"),
        at("address-zero-port", "127.0.0.1:0"),
        at("address-huge-port", "127.0.0.1:99999"),
        at("address-word-port", "127.0.0.1:http"),
        at("address-no-host", ":@PORT@"),
        at("address-blank-port", "127.0.0.1:"),
        at("address-blank", "127.0.0.1 :@PORT@"),
        at("address-user", "u:p@127.0.0.1:@PORT@"),
        at("address-query", "127.0.0.1:@PORT@?x=1"),
        at("address-fragment", "127.0.0.1:@PORT@#x"),
        at("address-six", "[::1]:@PORT@"),
        at("address-mapped", "[::ffff:127.0.0.1]:@PORT@"),
        at("address-half-bracket", "[::1:@PORT@"),
        at("address-leading-zero", "127.0.0.1:0@PORT@"),
        at("address-trailing-dot", "localhost.:@PORT@"),
        at("address-zero", "0.0.0.0:@PORT@"),
        at("address-unicode", "\u{e9}.invalid:@PORT@"),
        at("address-percent", "127.0.0.1%25lo:@PORT@"),
        at("address-percent-host", "%31%32%37.0.0.1:@PORT@"),
        at("address-backslash", "127.0.0.1\\x:@PORT@"),
    ]
}

fn paths() -> Vec<Case> {
    let path = |name: &str, path: &str| {
        case(name, vec![Answer::echo(&[])])
            .with(&format!("relabel_configs:\n- {{target_label: __metrics_path__, replacement: \"{path}\"}}"))
            .scrapes(2)
    };
    let params = |name: &str, yaml: &str| case(name, vec![Answer::echo(&[])]).with(yaml).scrapes(2);
    vec![
        path("path-query", "/@S@/path-query?x=1").script("/path-query?x=1", vec![Answer::echo(&[])]),
        path("path-no-slash", "@S@/path-no-slash"),
        path("path-empty", ""),
        path("path-blank", "/@S@/path-blank x"),
        path("path-unicode", "/@S@/path-unicode/\u{e9}"),
        path("path-percent", "/@S@/path-percent/%41%2f%zz"),
        path("path-odd-bytes", "/@S@/path-odd-bytes/;,:@&=+$!*'()[]|^`{}~<>"),
        path("path-dots", "/@S@/x/../path-dots/./"),
        path("path-double-slash", "//@S@/path-double-slash"),
        path("path-fragment", "/@S@/path-fragment#x"),
        params("params-unicode", "params: {'\u{e9}': ['\u{e9} +/?&=%;~-_.*']}"),
        params("params-empty-list", "params: {a: [], b: [x], c: ['', y]}"),
        params("params-empty-name", "params: {'': [x]}"),
        params("params-label-alone", "relabel_configs:\n- {target_label: __param_new, replacement: v}"),
        params(
            "params-label-empty",
            "params: {a: [x, y]}\nrelabel_configs:\n- {target_label: __param_a, replacement: ''}",
        ),
        params(
            "params-label-second",
            "params: {a: [x, y], b: [z]}\nrelabel_configs:\n- {source_labels: [__param_a, __param_b], target_label: __param_a}",
        ),
        params(
            "params-label-source",
            "params: {a: [x, y]}\nrelabel_configs:\n- {source_labels: [__param_a], target_label: seen}",
        ),
        params(
            "params-and-query",
            "metrics_path: '/@S@/params-and-query'\nparams: {z: [1], a: [2, 3], 'm[]': ['{a=~\"b|c\"}']}",
        ),
        params("scheme-upper", "relabel_configs:\n- {target_label: __scheme__, replacement: HTTP}"),
        params("scheme-other", "relabel_configs:\n- {target_label: __scheme__, replacement: ftp}"),
        params("scheme-empty", "relabel_configs:\n- {target_label: __scheme__, replacement: ''}"),
        params("scheme-odd", "relabel_configs:\n- {target_label: __scheme__, replacement: 'ht tp'}"),
    ]
}

/// Two targets, of which a rule for `node: bad` breaks one.
fn broken(name: &str, rule: &str) -> Case {
    case(name, bodies(&[A]))
        .with(&format!("relabel_configs:\n{}", rule.replace("IF", "source_labels: [node], regex: bad")))
        .targets(&[(&format!("/{name}"), ", node: good"), (&format!("/{name}/bad"), ", node: bad")])
        .script(&format!("/{name}/bad"), bodies(&[A]))
        .reporting(1)
}

fn invalid() -> Vec<Case> {
    let label = |name: &str, label: &str, value: &str| {
        broken(name, &format!("- {{IF, target_label: {label}, replacement: '{value}'}}"))
    };
    vec![
        label("interval-zero", "__scrape_interval__", "0s"),
        label("interval-word", "__scrape_interval__", "often"),
        label("interval-empty", "__scrape_interval__", ""),
        label("interval-short", "__scrape_interval__", "500ms"),
        label("interval-fraction", "__scrape_interval__", "1.5s"),
        label("interval-compound", "__scrape_interval__", "1s500ms").reporting(2),
        label("timeout-zero", "__scrape_timeout__", "0"),
        label("timeout-long", "__scrape_timeout__", "2s"),
        label("timeout-empty", "__scrape_timeout__", ""),
        label("address-empty", "__address__", ""),
        label("address-slash", "__address__", "127.0.0.1:@PORT@/x"),
        label("address-url", "__address__", "http://127.0.0.1:@PORT@"),
        label("address-no-port", "__address__", "127.0.0.1").reporting(2),
        broken("all-labels-gone", "- {IF, action: drop}\n- {regex: 'nothing', action: labeldrop}"),
        label("instance-kept", "instance", "").reporting(2),
        label("twins-after-rules", "node", "good").reporting(1),
    ]
}

fn clashes() -> Vec<Case> {
    vec![
        case("external-clash", bodies(&["a 1\nb{fleet=\"body\"} 2\nc{fleet=\"\"} 3\n"]))
            .targets(&[("/external-clash", ", fleet: target")]),
        case("external-clash-body", bodies(&["a 1\nb{fleet=\"body\"} 2\nc{fleet=\"\"} 3\nd{exported_fleet=\"e\"} 4\n"])),
        case("external-clash-honored", bodies(&["a 1\nb{fleet=\"body\"} 2\nc{fleet=\"\"} 3\n"]))
            .with("honor_labels: true")
            .targets(&[("/external-clash-honored", ", fleet: target")]),
        case("clash-many", bodies(&["a{z=\"1\",zone=\"2\",exported_z=\"3\",exported_zone=\"4\",exported_exported_z=\"5\"} 1\nb{zone=\"\",z=\"\"} 2\nc{exported_z=\"\",z=\"1\"} 3\n"]))
            .targets(&[("/clash-many", ", z: tz, zone: tzone")]),
        case("clash-honored-many", bodies(&["a{z=\"1\",job=\"2\",instance=\"3\"} 1\nb{job=\"\",z=\"\"} 2\n"]))
            .with("honor_labels: true")
            .targets(&[("/clash-honored-many", ", z: tz")]),
        case("target-label-empty", bodies(&["a{z=\"1\"} 1\nb 2\n"])).targets(&[("/target-label-empty", ", z: ''")]),
        case("target-label-double-underscore", bodies(&["a{__z=\"1\"} 1\nb 2\n"])).targets(&[("/target-label-double-underscore", ", __z: t, __tmp_q: u")]),
        case("target-named", bodies(&["a 1\n"])).targets(&[("/target-named", ", __name__: up")]),
        case("label-limit-target-alone", bodies(&["a 1\n", ""]))
            .with("label_limit: 6")
            .targets(&[("/label-limit-target-alone", ", a: b, c: d, e: f")]),
        case("label-value-target-alone", bodies(&["a 1\n", ""]))
            .with("label_value_length_limit: 30")
            .targets(&[("/label-value-target-alone", ", a: 'a value that is longer than thirty'")]),
        case("label-name-target-alone", bodies(&["a 1\n"]))
            .with("label_name_length_limit: 10")
            .targets(&[("/label-name-target-alone", ", a_name_that_is_long: x")]),
        case("label-limit-exported", bodies(&["a{job=\"x\"} 1\n", "a 1\n"])).with("label_name_length_limit: 11"),
        case("label-limit-dropped-series", bodies(&["a 1\nb{p=\"1\",q=\"2\",r=\"3\"} 1\n"]))
            .with("label_limit: 5\nmetric_relabel_configs:\n- {source_labels: [__name__], regex: b, action: drop}"),
        case("sample-limit-dropped", bodies(&["a 1\nb 2\nc 3\n", "a 1\nb 2\nc 3\nd 4\n", "a 1\n"]))
            .with("sample_limit: 2\nmetric_relabel_configs:\n- {source_labels: [__name__], regex: b, action: drop}"),
        case("all-dropped-then-not", bodies(&["b 1\n", "b 1\na 2\n", "b 1\n", "a 3\n"]))
            .with("metric_relabel_configs:\n- {source_labels: [__name__], regex: b, action: drop}"),
    ]
}

fn rules() -> Vec<Case> {
    let with = |name: &str, rules: &str| {
        case(name, bodies(&[A, "a 1\nc{x=\"Z\",w=\"1\"} 3\n", A])).with(&format!("metric_relabel_configs:\n{rules}"))
    };
    vec![
        with("rule-labelmap-name", "- {regex: '__name__', replacement: 'was', action: labelmap}"),
        with("rule-labelmap-onto-name", "- {regex: 'x', replacement: '__name__', action: labelmap}"),
        with("rule-labelmap-onto-other", "- {regex: '(x|w)', replacement: 'same', action: labelmap}"),
        with("rule-labelmap-swap", "- {regex: '(x)|(w)', replacement: '${1}_$2', action: labelmap}"),
        with("rule-labeldrop-name", "- {regex: '__name__', action: labeldrop}"),
        with("rule-labeldrop-all-but", "- {regex: '[^_].*', action: labeldrop}"),
        with(
            "rule-lower-name",
            "- {source_labels: [__name__, x], separator: '', target_label: __name__, action: lowercase}",
        ),
        with(
            "rule-upper-unicode",
            "- {target_label: u, replacement: '\u{df}\u{17e}\u{1c6}\u{3c2}\u{fb01}i\u{131}'}\n- {source_labels: [u], target_label: up, action: uppercase}\n- {source_labels: [u], target_label: low, action: lowercase}",
        ),
        with("rule-lower-missing", "- {source_labels: [nothing], target_label: x, action: lowercase}"),
        with(
            "rule-hashmod-then-keep",
            "- {source_labels: [__name__, x, instance], modulus: 2, target_label: __tmp_hash, action: hashmod}\n- {source_labels: [__tmp_hash], regex: '[01]', action: keep}",
        ),
        with(
            "rule-hashmod-huge",
            "- {source_labels: [__name__], modulus: 18446744073709551615, target_label: h, action: hashmod}",
        ),
        with("rule-hashmod-onto-source", "- {source_labels: [x], modulus: 7, target_label: x, action: hashmod}"),
        with("rule-keepequal-two", "- {source_labels: [x, w], target_label: x, action: keepequal}"),
        with("rule-dropequal-missing", "- {source_labels: [nothing], target_label: w, action: dropequal}"),
        with("rule-name-from-labels", "- {source_labels: [x, __name__], separator: '_', target_label: __name__}"),
        with("rule-name-to-digit", "- {source_labels: [x], regex: 'y', target_label: __name__, replacement: 'y:1'}"),
        with("rule-job-changed", "- {source_labels: [x], regex: 'y', target_label: job, replacement: other}"),
        with(
            "rule-target-labels-seen",
            "- {source_labels: [job, instance, __address__, __scheme__, __metrics_path__], separator: '|', target_label: seen}",
        ),
        with(
            "rule-temporary-stays",
            "- {source_labels: [x], regex: '(.+)', target_label: __tmp_x}\n- {source_labels: [__tmp_x], regex: '(.+)', target_label: y}",
        ),
        with("rule-drop-report-names", "- {source_labels: [__name__], regex: 'up|scrape_.*', action: drop}"),
        with(
            "rule-order",
            "- {source_labels: [x], regex: 'y', target_label: x, replacement: 'z'}\n- {source_labels: [x], regex: 'z', target_label: x, replacement: 'v'}\n- {source_labels: [x], regex: 'y', action: drop}",
        ),
        with(
            "rule-drop-then-rest",
            "- {source_labels: [x], regex: 'y', action: drop}\n- {target_label: x, replacement: 'always'}",
        ),
        with("rule-delete-name", "- {source_labels: [x], regex: 'y', target_label: __name__, replacement: '$2'}"),
        with(
            "rule-merge-in-body",
            "- {source_labels: [__name__], regex: 'c', target_label: __name__, replacement: b}\n- {regex: w, action: labeldrop}",
        ),
    ]
}

fn templates() -> Vec<Case> {
    let with = |name: &str, rule: &str| {
        let rule = format!("metric_relabel_configs:\n- {{source_labels: [__name__, x], target_label: out, {rule}}}");
        case(name, bodies(&[A])).with(&rule)
    };
    vec![
        with("template-names", "regex: '(?P<n>.*);(?P<v>.*)', replacement: '$n|${v}|$n_v|${n}_v|$v1'"),
        with("template-numbers", "regex: '(.*);(.*)', replacement: '$0|$1x|${1}x|$01|$10|${10}|$3|$2'"),
        with("template-dollars", "regex: '(.*);(.*)', replacement: '$$|$|$ |$$1|${|${}|${1|$-1'"),
        with("template-unicode", "regex: '(.*);(.*)', replacement: '$1\u{e9}|$\u{e9}|${\u{e9}}'"),
        with("template-optional", "regex: '(a)?(b)?.*', replacement: '[$1][$2]'"),
        with("template-alternation", "regex: 'a;|(b);y', replacement: '[$1]'"),
        with("template-lazy", "regex: '(.*?);(.*?)', replacement: '[$1][$2]'"),
        with("template-case", "regex: '(?i)([A-Z]);(z?).*', replacement: '[$1][$2]'"),
        with("template-classes", "regex: '([[:alpha:]]);(\\pL?|\\d*)\\S*', replacement: '[$1][$2]'"),
        with("template-anchors", "regex: '^(.*);(.*)$', replacement: '[$1][$2]'"),
        with("template-boundary", "regex: '\\b(\\w);?\\B?(.*)', replacement: '[$1][$2]'"),
        with("template-nested", "regex: '((.);)(.?)', replacement: '[$1][$2][$3]'"),
        with("template-repeat", "regex: '(?:(.);?)+', replacement: '[$1]'"),
        with("template-line-ends", "separator: \"\\n\", regex: '(.*)(.)', replacement: '[$1][$2]'"),
        with("template-empty-regex", "regex: '', replacement: 'x'"),
        with("template-long", &format!("regex: '.*', replacement: '{}'", "r".repeat(3_000))),
        case("template-target", bodies(&[A])).with("metric_relabel_configs:\n- {source_labels: [x], regex: '(.*)', target_label: 'l_${1}', replacement: v}\n- {source_labels: [__name__], target_label: '$1', replacement: n}"),
        case("template-target-invalid", bodies(&[A])).with("metric_relabel_configs:\n- {source_labels: [w], regex: '(.*)', target_label: '${1}', replacement: v}"),
    ]
}

/// A target file with groups of these targets, each with its `node`.
fn groups(name: &str, groups: &[&[&str]]) -> String {
    let target = r#""@ADDR@""#;
    let group = |nodes: &&[&str]| {
        let targets = vec![target; nodes.len()].join(",");
        format!(
            r#"{{"targets":[{targets}],"labels":{{"case":"{name}","__metrics_path__":"/@S@/{name}","node":"{}"}}}}"#,
            nodes.first().unwrap_or(&"")
        )
    };
    format!("[{}]", groups.iter().map(group).collect::<Vec<_>>().join(","))
}

fn files() -> Vec<Case> {
    let own = |name: &str| format!("{name}.0.json");
    let start = |name: &str, contents: &str| {
        bare(name, 0)
            .job(name, &format!("file_sd_configs:\n- files: ['{name}.*.json']"), Some((&own(name), contents)))
            .script(&format!("/{name}"), bodies(&[A]))
    };
    let two = |name: &str| groups(name, &[&["a"], &["b"]]);
    vec![
        start("file-deleted", &two("file-deleted")).then_no_file("file-deleted.0.json").reporting(2),
        start("file-group-order", &two("file-group-order")).then_file("file-group-order.0.json", &groups("file-group-order", &[&["b"], &["a"]])).reporting(2),
        start("file-group-split", &groups("file-group-split", &[&["a", "a"]])).then_file("file-group-split.0.json", &groups("file-group-split", &[&["a"], &["a"]])),
        start("file-duplicates", &groups("file-duplicates", &[&["a"], &["a"], &["b"]])).then_file("file-duplicates.0.json", &groups("file-duplicates", &[&["a"], &["b"]])).reporting(2),
        start("file-broken-then-fixed", &two("file-broken-then-fixed")).then_file("file-broken-then-fixed.0.json", "[{\"targets\":").later().then_file(&own("file-broken-then-fixed"), &groups("file-broken-then-fixed", &[&["b"], &["c"]])).reporting(2),
        start("file-empty", &two("file-empty")).then_file("file-empty.0.json", "").reporting(2),
        start("file-null", &two("file-null")).then_file("file-null.0.json", "null").reporting(2),
        start("file-null-group", &two("file-null-group")).then_file("file-null-group.0.json", "[null]").reporting(2),
        start("file-unknown-key", &two("file-unknown-key")).then_file("file-unknown-key.0.json", r#"[{"targets":["@ADDR@"],"label":{}}]"#).reporting(2),
        start("file-foreign-case", &two("file-foreign-case")).then_file("file-foreign-case.0.json", r#"[{"Targets":["@ADDR@"],"LABELS":{"case":"file-foreign-case","__metrics_path__":"/@S@/file-foreign-case","node":"c"}}]"#).reporting(2),
        start("file-number-label", &two("file-number-label")).then_file("file-number-label.0.json", r#"[{"targets":["@ADDR@"],"labels":{"case":"file-number-label","node":1}}]"#).reporting(2),
        start("file-trailing", &two("file-trailing")).then_file("file-trailing.0.json", &format!("{} x", groups("file-trailing", &[&["c"]]))).reporting(2),
        start("file-key-twice", &two("file-key-twice")).then_file("file-key-twice.0.json", r#"[{"targets":["@ADDR@"],"labels":{"case":"file-key-twice","__metrics_path__":"/@S@/file-key-twice","node":"c","node":"d"}}]"#).reporting(2),
        start("file-second", &groups("file-second", &[&["a"]])).then_file("file-second.1.json", &groups("file-second", &[&["a"], &["b"]])).later().then_no_file("file-second.0.json"),
        start("file-gone-and-back", &groups("file-gone-and-back", &[&["a"]])).then_file("file-gone-and-back.0.json", "[]").later().then_file("file-gone-and-back.0.json", &groups("file-gone-and-back", &[&["a"]])),
        start("file-back-failing", &groups("file-back-failing", &[&["a"]])).then_file("file-back-failing.0.json", &groups("file-back-failing", &[&["b"]])).script("/unused-back-failing", vec![Answer::nothing(Last::Close)]),
        start("file-one-bad-target", &groups("file-one-bad-target", &[&["a"]])).then_file("file-one-bad-target.0.json", &groups("file-one-bad-target", &[&["b"], &["c"]]).replacen("@ADDR@", "http://@ADDR@", 1)),
        start("file-meta", &groups("file-meta", &[&["a"]])).then_file("file-meta.0.json", r#"[{"targets":["@ADDR@"],"labels":{"case":"file-meta","__metrics_path__":"/@S@/file-meta","__meta_x":"1","node":"b"}}]"#),
    ]
}
