//! What can go wrong, in one line each.

use flannel_base::Family;

/// Why rules are not as they should be.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum FirewallError {
    /// A program is not there.
    #[error("{program} is not installed: install the package {package}, or {instead}")]
    Missing {
        /// The program.
        program: String,
        /// What distributions call the package that it is in.
        package: &'static str,
        /// What else can be done.
        instead: &'static str,
    },
    /// A program is there and could not be started.
    #[error("{program} cannot be started: {reason}")]
    Start {
        /// The program.
        program: String,
        /// In the system's words.
        reason: String,
    },
    /// A program failed.
    #[error("`{command}` failed: {words}; {advice}")]
    Refused {
        /// The program with its arguments.
        command: String,
        /// In its own words, or the status that it ended with.
        words: String,
        /// What would be right.
        advice: &'static str,
    },
    /// A program did not end, and was killed.
    #[error(
        "`{command}` did not finish within {seconds} s and was killed; another program may hold the xtables lock"
    )]
    Stuck {
        /// The program with its arguments.
        command: String,
        /// How long was waited.
        seconds: u64,
    },
    /// A program said something that makes no sense here.
    #[error("`{command}` printed what is not understood: {reason}")]
    Output {
        /// The program with its arguments.
        command: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Rules were put in place, more than once, and were different when looked at.
    #[error("the {what} do not stay: another program changes them, perhaps a second flanneld; stop it")]
    Contended {
        /// Which rules.
        what: String,
    },
    /// The table of our name is another daemon's, for another network, and ours can have another name.
    #[error("the nftables table for {family} is another flanneld's, for another network")]
    Taken {
        /// The table's family.
        family: Family,
    },
    /// The task is gone.
    #[error("the firewall's task has stopped")]
    Stopped,
}

impl FirewallError {
    /// Makes one line of what a program said when it failed.
    pub(super) fn refused(command: String, said: &str, status: &str) -> Self {
        let mut words: Vec<&str> = said
            .lines()
            .map(str::trim)
            // nft repeats the input and underlines it; iptables tells where to read on.
            .filter(|line| !line.is_empty() && !line.chars().all(|c| c == '^' || c == '~'))
            .filter(|line| !line.starts_with("Try `"))
            .collect();
        words.truncate(3);
        let words = if words.is_empty() { status.to_owned() } else { words.join(" / ") };
        let advice = advice(&command, &words);
        Self::Refused { command, words, advice }
    }
}

fn advice(command: &str, words: &str) -> &'static str {
    let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    if has(&["Permission denied", "must be root", "Operation not permitted"]) {
        "it needs root, or CAP_NET_ADMIN"
    } else if has(&["xtables lock"]) {
        "another program holds the lock for long"
    } else if has(&["is incompatible"]) {
        "another program fills this table with what iptables does not know: \
         set \"EnableNFTables\": true in the network config"
    } else if has(&["JSON support not compiled"]) {
        "install an nft that was built with JSON"
    } else if command.starts_with("nft") {
        "it takes nft 1.0.1 or later, and a kernel with nf_tables, nft_chain_nat and nft_masq; \
         else leave out \"EnableNFTables\" in the network config"
    } else {
        "it takes a kernel with the tables nat and filter, xt_comment, xt_mark and xt_MASQUERADE; \
         else set \"EnableNFTables\": true in the network config"
    }
}
