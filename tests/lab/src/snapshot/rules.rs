//! Firewall rules as their tools list them, without what differs from run to run: counters, times, and the order in which tables were made.

/// The lines of `nft list ruleset`, or of `iptables-save`. The order of rules within a table stays.
pub fn normal(rules: &str) -> Vec<String> {
    let mut tables: Vec<Vec<String>> = Vec::new();
    let mut elements: Option<String> = None;
    for line in rules.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        // A list of elements is broken into lines of some width, in the order of a hash.
        if let Some(list) = &mut elements {
            list.push_str(line.trim());
        } else if line.contains("elements = {") {
            elements = Some(line.trim().to_owned());
        } else {
            let begins = !line.starts_with([' ', '\t', '}', ':', '-', 'C']);
            if begins || tables.is_empty() {
                tables.push(Vec::new());
            }
            push(&mut tables, without_counters(line));
        }
        if let Some(list) = elements.take_if(|list| list.ends_with('}')) {
            push(&mut tables, sorted_elements(&list));
        }
    }
    tables.sort();
    tables.concat()
}

fn push(tables: &mut [Vec<String>], line: String) {
    if let Some(table) = tables.last_mut() {
        table.push(line);
    }
}

fn sorted_elements(list: &str) -> String {
    let inner = list.trim_start_matches("elements = {").trim_end_matches('}');
    let mut elements: Vec<&str> = inner.split(',').map(str::trim).collect();
    elements.sort_unstable();
    format!("elements = {{ {} }}", elements.join(", "))
}

/// `packets 12 bytes 345`, or `:POSTROUTING ACCEPT [12:345]`, without the numbers.
fn without_counters(line: &str) -> String {
    if let Some((chain, _)) = line.split_once(" [").filter(|_| line.starts_with(':')) {
        return chain.to_owned();
    }
    let mut words: Vec<&str> = line.split_whitespace().collect();
    for at in 0..words.len() {
        if at > 0 && ["packets", "bytes"].contains(&words[at - 1]) {
            words[at] = "…";
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_tables_and_of_elements_means_nothing() {
        let one = "table ip a {\n\tset s {\n\t\telements = { 10.0.0.2, 10.0.0.1,\n\t\t\t 10.0.0.3 }\n\t}\n}\ntable ip b {\n}\n";
        let other = "table ip b {\n}\ntable ip a {\n\tset s {\n\t\telements = { 10.0.0.1,\n\t\t\t 10.0.0.3, 10.0.0.2 }\n\t}\n}\n";
        assert_eq!(normal(one), normal(other));
        assert!(normal(one).contains(&"elements = { 10.0.0.1, 10.0.0.2, 10.0.0.3 }".to_owned()));
    }

    #[test]
    fn the_order_of_rules_means_something() {
        let one = "*nat\n:A - [1:2]\n-A A -j B\n-A A -j C\nCOMMIT\n";
        let other = "# a time\n*nat\n:A - [3:4]\n-A A -j C\n-A A -j B\nCOMMIT\n";
        assert_eq!(normal(one)[..2], normal(other)[..2]);
        assert_ne!(normal(one), normal(other));
    }

    #[test]
    fn counters_are_left_out() {
        assert_eq!(without_counters("\t\tpackets 7 bytes 420"), "packets … bytes …");
        assert_eq!(without_counters(":POSTROUTING ACCEPT [12:345]"), ":POSTROUTING ACCEPT");
        assert_eq!(without_counters("-A FORWARD -j ACCEPT"), "-A FORWARD -j ACCEPT");
    }
}
