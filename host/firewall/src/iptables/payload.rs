//! What `iptables-restore --noflush` is given. Each payload is for one table, and a table is changed in one transaction.

use super::rules::Chain;
use super::saved;
use crate::ownership::OwnNetworks;

/// Makes what is there into what should be: the chain is made or flushed, and filled, with another daemon's rules behind ours; the jump is
/// appended if there is none; other rules elsewhere that have our comment go.
pub(crate) fn refill(chain: &Chain, wanted: &[String], there: &[String], foreign: &[String]) -> String {
    let jump = chain.jump();
    let rule = format!("-A {} ", chain.name);
    let mut lines = vec![format!("*{}", chain.table), format!(":{} - [0:0]", chain.name)];
    lines.extend(wanted.iter().filter(|line| line.starts_with(&rule)).chain(foreign).cloned());
    let mut has_jump = false;
    for line in there.iter().filter(|line| line.starts_with("-A ") && !line.starts_with(&rule)) {
        // Of several that are the same it does not matter which ones are deleted.
        if *line == jump && !has_jump {
            has_jump = true;
        } else {
            lines.push(deletion(line));
        }
    }
    if !has_jump {
        lines.push(jump);
    }
    finish(lines)
}

/// Removes the chain and what belongs to it, or of a chain that another daemon uses, too, what is ours; nothing if there is nothing.
pub(crate) fn removal(chain: &Chain, saved: &str, own: &OwnNetworks) -> Option<String> {
    let foreign = saved::foreign(saved, chain, own);
    if !foreign.is_empty() {
        let view = saved::view(saved, chain, own);
        let start = format!("-A {} ", chain.name);
        let rules = view.iter().filter(|line| line.starts_with(&start)).cloned();
        // What all daemons have alike stays.
        let (mut common, ours): (Vec<String>, Vec<String>) = rules.partition(|rule| saved::is_common(rule));
        common.dedup();
        return (!ours.is_empty()).then(|| refill(chain, &common, &view, &foreign));
    }
    let (declared, rules) = saved::leftovers(saved, chain)?;
    let mut lines = vec![format!("*{}", chain.table)];
    lines.extend(rules.iter().map(|rule| deletion(rule)));
    if declared {
        lines.extend([format!("-F {}", chain.name), format!("-X {}", chain.name)]);
    }
    Some(finish(lines))
}

fn deletion(rule: &str) -> String {
    rule.replacen("-A ", "-D ", 1)
}

fn finish(mut lines: Vec<String>) -> String {
    lines.extend(["COMMIT".to_owned(), String::new()]);
    lines.join("\n")
}
