//! Strategic merge patches of a node's status subresource, as far as flannel sends them.

use serde_json::{Value, json};

/// Merges annotations and labels by key, where null removes, and conditions by type; what is in `spec` is ignored.
pub(crate) fn merge(node: &mut Value, patch: &Value) {
    for map in ["annotations", "labels"] {
        for (key, value) in patch["metadata"][map].as_object().into_iter().flatten() {
            if !node["metadata"][map].is_object() {
                node["metadata"][map] = json!({});
            }
            let entries = node["metadata"][map].as_object_mut().expect("an object");
            if value.is_null() {
                entries.remove(key);
            } else {
                entries.insert(key.clone(), value.clone());
            }
        }
    }
    for condition in patch["status"]["conditions"].as_array().into_iter().flatten() {
        if !node["status"]["conditions"].is_array() {
            node["status"]["conditions"] = json!([]);
        }
        let conditions = node["status"]["conditions"].as_array_mut().expect("an array");
        match conditions.iter_mut().find(|there| there["type"] == condition["type"]) {
            Some(there) => {
                for (key, value) in condition.as_object().into_iter().flatten() {
                    there[key] = value.clone();
                }
            }
            None => conditions.insert(0, condition.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else() {
        let mut node = json!({
            "metadata": {"annotations": {"a": "1", "b": "2"}},
            "spec": {"podCIDR": "10.0.0.0/24"},
            "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "x"}]},
        });
        merge(
            &mut node,
            &json!({
                "metadata": {"annotations": {"b": null, "c": "3"}},
                "spec": {"podCIDR": "10.0.9.0/24"},
                "status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "New", "status": "True"}]},
            }),
        );
        assert_eq!(
            node,
            json!({
                "metadata": {"annotations": {"a": "1", "c": "3"}},
                "spec": {"podCIDR": "10.0.0.0/24"},
                "status": {"conditions": [
                    {"type": "New", "status": "True"},
                    {"type": "Ready", "status": "False", "reason": "x"},
                ]},
            })
        );
    }
}
