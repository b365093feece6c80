//! Packets that a kernel has dropped, and why: its own counters.

use std::fs;

use crate::Namespace;

/// Counters that are about packets which go nowhere.
const TELLING: [&str; 9] = [
    "InAddrErrors",
    "InDiscards",
    "InHdrErrors",
    "InNoRoutes",
    "OutDiscards",
    "OutNoRoutes",
    "FragFails",
    "IPReversePathFilter",
    "Ip6InNoRoutes",
];

/// The counters of a namespace that are not zero, and what its devices have dropped.
pub fn read(namespace: &Namespace) -> String {
    let texts = namespace.run(|| {
        ["snmp", "netstat", "snmp6"]
            .map(|file| fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default())
    });
    let texts = texts.unwrap_or_default();
    let counters = texts[..2].iter().flat_map(|text| paired(text)).chain(listed(&texts[2]));
    let told =
        counters.filter(|(name, count)| *count > 0 && TELLING.iter().any(|telling| name.ends_with(telling)));
    let mut lines: Vec<String> = told.map(|(name, count)| format!("{name} {count}")).collect();
    lines.extend(of_devices(namespace));
    lines.join("\n")
}

/// Lines of names, each with one of numbers behind it.
fn paired(text: &str) -> Vec<(String, u64)> {
    let lines: Vec<&str> = text.lines().collect();
    let pairs = lines.as_chunks::<2>().0.iter();
    pairs
        .flat_map(|[names, numbers]| names.split_whitespace().zip(numbers.split_whitespace()))
        .filter_map(|(name, number)| Some((name.to_owned(), number.parse().ok()?)))
        .collect()
}

/// Lines of a name and a number.
fn listed(text: &str) -> Vec<(String, u64)> {
    let line = |line: &str| {
        let (name, number) = line.split_once(char::is_whitespace)?;
        Some((name.to_owned(), number.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

fn of_devices(namespace: &Namespace) -> Vec<String> {
    let links = namespace.ip_json("-statistics link show").unwrap_or_default();
    let mut lines = Vec::new();
    for link in links.as_array().into_iter().flatten() {
        for way in ["rx", "tx"] {
            for what in ["dropped", "errors"] {
                let count = link["stats64"][way][what].as_u64().unwrap_or_default();
                if count > 0 {
                    lines.push(format!(
                        "{} {way} {what} {count}",
                        link["ifname"].as_str().unwrap_or_default()
                    ));
                }
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_their_names_in_the_line_before_or_beside_them() {
        let paired = paired("Ip: InDiscards OutNoRoutes\nIp: 3 0\nIpExt: InNoRoutes\nIpExt: 7\n");
        assert_eq!(
            paired,
            [("InDiscards".to_owned(), 3), ("OutNoRoutes".to_owned(), 0), ("InNoRoutes".to_owned(), 7)]
        );
        assert_eq!(listed("Ip6InNoRoutes  \t 4\n"), [("Ip6InNoRoutes".to_owned(), 4)]);
    }
}
