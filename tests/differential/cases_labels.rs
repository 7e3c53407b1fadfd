//! Behaviours of labels: clashes, relabelling of samples and of targets.

use crate::case::{Case, bodies, case};

/// All cases of this file.
pub fn cases() -> Vec<Case> {
    [clashes(), metric_rules(), target_rules()].concat()
}

const OK: &str = "a 1\nb{x=\"y\"} 2\nc{x=\"z\",w=\"1\"} 3\n";

fn clashes() -> Vec<Case> {
    let clash = "a{instance=\"i\",job=\"j\"} 1\nb{instance=\"\"} 2\nc{exported_job=\"e\",job=\"j\"} 3\n\
        d{exported_job=\"e\",exported_exported_job=\"f\",job=\"j\"} 4\ne{exported_job=\"e\"} 5\n";
    vec![
        case("clash-exported", bodies(&[clash, clash, &clash.replace("\"j\"", "\"k\"")])),
        case("clash-honored", bodies(&[clash, clash])).with("honor_labels: true"),
        case("clash-empty-honored", bodies(&["a{instance=\"\",zone=\"\"} 1\nb{zone=\"q\"} 2\n"]))
            .with("honor_labels: true")
            .targets(&[("/clash-empty-honored", ", zone: z")]),
        case(
            "clash-target-has-exported",
            bodies(&["a{zone=\"q\"} 1\nb{exported_zone=\"r\"} 2\nc{zone=\"s\",exported_zone=\"t\"} 3\n"]),
        )
        .targets(&[("/clash-target-has-exported", ", zone: z, exported_zone: y")]),
        case(
            "clash-merges",
            bodies(&["a{zone=\"1\"} 1\na{exported_zone=\"1\"} 1\n", "a{exported_zone=\"1\"} 2\n", "x 1\n"]),
        )
        .targets(&[("/clash-merges", ", zone: z")]),
    ]
}

fn metric_rules() -> Vec<Case> {
    let with = |name: &str, rules: &str| {
        case(name, bodies(&[OK, "a 1\nc{x=\"z\",w=\"1\"} 3\n", OK])).with(&format!("metric_relabel_configs:\n{rules}"))
    };
    vec![
        with("metric-drop", "- {source_labels: [__name__], regex: 'a|c', action: drop}"),
        with("metric-keep", "- {source_labels: [__name__, x], regex: 'b;y', action: keep}"),
        with("metric-drop-all", "- {regex: '.*', action: drop}"),
        with("metric-labeldrop", "- {regex: 'w|zz', action: labeldrop}"),
        with("metric-labelkeep", "- {regex: '__name__|case|job|x', action: labelkeep}"),
        with("metric-labelmap", "- {regex: '(x)|w', replacement: 'mapped_$1', action: labelmap}"),
        with(
            "metric-replace",
            "- {source_labels: [x, w], separator: '-', regex: '(.)-(.*)', target_label: 'j_${1}', replacement: '<$2|$1|$$>'}",
        ),
        with(
            "metric-rename",
            "- {source_labels: [__name__], regex: '(b|c)', target_label: __name__, replacement: 'new_${1}'}",
        ),
        with(
            "metric-rename-merge",
            "- {source_labels: [__name__], target_label: __name__, replacement: same}\n- {regex: 'x|w', action: labeldrop}",
        ),
        with("metric-no-name", "- {source_labels: [__name__], regex: b, target_label: __name__, replacement: ''}"),
        with(
            "metric-bad-name",
            "- {source_labels: [__name__], regex: b, target_label: __name__, replacement: 'not valid'}",
        ),
        with("metric-hashmod", "- {source_labels: [x, __name__], modulus: 1000, target_label: shard, action: hashmod}"),
        with(
            "metric-case",
            "- {source_labels: [x, __name__], target_label: up, action: uppercase}\n- {source_labels: [up], target_label: low, action: lowercase}",
        ),
        with(
            "metric-equal",
            "- {source_labels: [x], target_label: w, action: dropequal}\n- {source_labels: [w], target_label: zz, action: keepequal}",
        ),
        with("metric-removes-target-labels", "- {regex: 'instance|job', action: labeldrop}"),
        with(
            "metric-instance",
            "- {source_labels: [instance, x], regex: '.*;(.+)', target_label: instance, replacement: 'from-$1'}",
        ),
        with(
            "metric-tmp",
            "- {source_labels: [x], target_label: __tmp_x}\n- {source_labels: [__tmp_x], regex: y, target_label: y, replacement: seen}",
        ),
        with("metric-delete-by-empty", "- {source_labels: [nothing], target_label: x}"),
        with("metric-clash-then-drop", "- {source_labels: [exported_x], regex: '.+', action: drop}"),
        case(
            "metric-merge-churn",
            bodies(&["a{v=\"1\"} 1\n", "a{v=\"2\"} 2\n", "a{v=\"2\"} 3\na{v=\"3\"} 4\n", "x 1\n"]),
        )
        .with("metric_relabel_configs:\n- {regex: v, action: labeldrop}"),
        case(
            "metric-drop-changing",
            bodies(&["a{v=\"1\"} 1\nb 1\n", "a{v=\"2\"} 1\nb 1\n", "a{v=\"drop\"} 1\nb 1\n", "a{v=\"1\"} 1\nb 1\n"]),
        )
        .with("metric_relabel_configs:\n- {source_labels: [v], regex: drop, action: drop}"),
    ]
}

fn target_rules() -> Vec<Case> {
    let with = |name: &str, rules: &str| case(name, bodies(&[OK, OK])).with(&format!("relabel_configs:\n{rules}"));
    vec![
        with(
            "target-instance",
            "- {source_labels: [__address__], regex: '([^:]+):.*', target_label: instance, replacement: 'host-$1'}",
        ),
        with(
            "target-meta-gone",
            "- {source_labels: [job, case], separator: '/', target_label: __meta_x}\n- {source_labels: [__meta_x], target_label: seen}\n- {target_label: __tmp_y, replacement: z}",
        ),
        with(
            "target-path",
            "- {target_label: __metrics_path__, replacement: '/@S@/target-path'}\n- {source_labels: [__scheme__, __scrape_interval__, __scrape_timeout__], target_label: from}",
        ),
        with(
            "target-interval",
            "- {target_label: __scrape_interval__, replacement: 2s}\n- {target_label: __scrape_timeout__, replacement: 500ms}",
        ),
        with("target-job", "- {target_label: job, replacement: renamed}"),
        with("target-labelmap", "- {regex: '__(scheme|address)__', replacement: 'of_$1', action: labelmap}"),
        with(
            "target-no-instance",
            "- {regex: 'instance', action: labeldrop}\n- {target_label: instance, replacement: ''}",
        ),
        with("target-empty-job", "- {target_label: job, replacement: ''}"),
        with("target-hashmod", "- {source_labels: [case], modulus: 8, target_label: shard, action: hashmod}"),
    ]
}
