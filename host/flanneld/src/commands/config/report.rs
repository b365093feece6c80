//! What comes of looking at a network config, for people and for programs.

use std::fmt::{self, Write as _};

use flannel_base::text::{one_line, printable};
use flannel_model::canonical::canonical;
use flannel_model::config_change::{self, Difference};
use flannel_model::network_config::{FIELDS, NetworkConfig, unread_fields};
use flannel_model::spelling::nearest;
use flanneld::cli::Options;
use serde::Serialize;

use super::backend::{Backend, Plugin};
use super::in_force::InForce;
use super::{End, Written, secrets};

/// The status where a restart of each node is needed.
const TAKES_RESTART: u8 = 3;
const WRONG: u8 = 1;
/// Enough of a digest to tell plugins apart.
const DIGEST: usize = 12;

/// What can be done with a config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// It is in force already, as far as that is known.
    Same,
    /// Nodes can change to it while they run.
    Live,
    /// It takes a restart of each node.
    Restart,
    /// It could not start on this node.
    CannotStart,
    /// It is no network config.
    Invalid,
}

/// All that is to be said.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Where the config was.
    pub config: String,
    /// What can be done with it.
    pub verdict: Verdict,
    /// What is wrong with it.
    pub problems: Vec<String>,
    /// Who says what is in force; none: that is not known.
    pub in_force: Option<&'static str>,
    /// What is another one.
    pub differences: Vec<Differs>,
    /// What nobody reads.
    pub unread: Vec<Unread>,
    /// What the backend would be here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// A field that is another one.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Differs {
    /// Its name.
    pub field: String,
    /// What it is now; none: it is not there.
    pub from: Option<String>,
    /// What it would be; none: it would not be there.
    pub to: Option<String>,
    /// Nodes can change to it while they run.
    pub live: bool,
}

/// A field that nobody reads.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Unread {
    /// Its name.
    pub field: String,
    /// What it is perhaps meant to be.
    pub meant: Option<String>,
}

impl Report {
    /// Looks at a config.
    pub(super) async fn make(options: &Options, written: &Written, in_force: &InForce) -> Self {
        let mut report = Self::of_text(written, in_force);
        let Ok(config) = in_force.parse(&written.text) else { return report };
        report.compare(&config, in_force);
        let mut backend = Backend::look(options, &config, in_force).await;
        report.problems.append(&mut backend.problems);
        report.notes.append(&mut backend.notes);
        report.unread.append(&mut backend.unread);
        report.notes.extend(about_mtu(backend.mtu, backend.mtu_in_force));
        report.backend = Some(backend);
        if !report.problems.is_empty() {
            report.verdict = Verdict::CannotStart;
        }
        report
    }

    /// What the text alone says.
    fn of_text(written: &Written, in_force: &InForce) -> Self {
        let unread = unread_fields(&written.text).into_iter();
        let unread =
            unread.map(|field| Unread { meant: nearest(&field, &FIELDS).map(ToOwned::to_owned), field });
        let error = in_force.parse(&written.text).err();
        Self {
            config: written.place.clone(),
            verdict: if error.is_some() { Verdict::Invalid } else { Verdict::Same },
            problems: error.iter().map(ToString::to_string).collect(),
            in_force: in_force.source,
            differences: Vec::new(),
            unread: unread.collect(),
            backend: None,
            notes: in_force.notes.clone(),
        }
    }

    fn compare(&mut self, config: &NetworkConfig, in_force: &InForce) {
        let Some(before) = &in_force.config else {
            let is_known =
                in_force.daemon.is_none() && in_force.unread.is_none() && in_force.stored.is_none();
            self.notes.push(if is_known {
                "there is no network config yet: this would be the first".to_owned()
            } else {
                "what is in force is not known, so nothing can be compared".to_owned()
            });
            self.verdict = Verdict::Live;
            return;
        };
        let mut fixed = config_change::fixed(before, config);
        fixed.retain(|difference| !in_force.unknown.contains(&difference.field.as_str()));
        let after = canonical(config.backend.get());
        let live = in_force.backend.as_deref();
        let live = live.map(|before| secrets::differences(before, &after, in_force.is_shown));
        self.differences.extend(fixed.into_iter().map(|difference| Differs::of(difference, None)));
        let live = live.unwrap_or_default();
        let same_type = live.iter().all(|difference| difference.field != "Type");
        self.differences.extend(live.into_iter().map(|difference| {
            // One peer of one WireGuard device has one key: nodes cannot have both at a time.
            let is_live = !(same_type && difference.field.eq_ignore_ascii_case("PSK"));
            Differs::of(difference, Some(is_live))
        }));
        self.differences.sort_by_key(|difference| difference.live);
        self.verdict = match self.differences.first() {
            None => Verdict::Same,
            Some(first) if first.live => Verdict::Live,
            Some(_) => Verdict::Restart,
        };
    }

    /// What differs that takes a restart, in words.
    pub(super) fn fixed(&self) -> String {
        let fixed = self.differences.iter().filter(|difference| !difference.live);
        fixed.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// How a command ends that has told all of it.
    pub(super) fn ends(&self) -> Result<(), End> {
        let config = &self.config;
        match self.verdict {
            Verdict::Same | Verdict::Live => Ok(()),
            Verdict::Restart => Err(End {
                status: TAKES_RESTART,
                said: one_line(&format!("{config} takes a restart of each node: {}", self.fixed())),
            }),
            Verdict::CannotStart | Verdict::Invalid => {
                Err(End { status: WRONG, said: one_line(&format!("{config}: {}", self.problems.join("; "))) })
            }
        }
    }
}

impl Differs {
    /// `of_backend`: it is an option of the backend, and whether that can be changed while nodes run.
    fn of(difference: Difference, of_backend: Option<bool>) -> Self {
        let Difference { field, from, to } = difference;
        let field = if of_backend.is_some() { format!("Backend.{field}") } else { field };
        Self { field, from, to, live: of_backend.unwrap_or(false) }
    }
}

fn about_mtu(mtu: Option<u32>, in_force: Option<u32>) -> Option<String> {
    let (mtu, in_force) = (mtu?, in_force?);
    let begin = format!("pods made from now on have MTU {mtu} instead of {in_force}");
    match mtu.cmp(&in_force) {
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some(format!("{begin}; those that run keep theirs")),
        std::cmp::Ordering::Less => Some(format!(
            "{begin}; those that run keep theirs, and of what they send to other nodes packets of more than {mtu} bytes are fragmented, or \
             refused with the ICMP error that says so (path MTU discovery)"
        )),
    }
}

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "(not set)".to_owned());
        write!(f, "{} {} -> {}", self.field, shown(&self.from), shown(&self.to))
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, meant } = self;
        let meant = meant.as_ref().map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
        write!(f, "nobody reads {field}{meant}")
    }
}

impl fmt::Display for Report {
    /// Without the problems, which are what a command says at its end. Whatever is in a config, a terminal follows none of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = fmt::from_fn(|f| self.show(f)).to_string();
        shown.chars().try_for_each(|c| f.write_char(if c == '\n' { c } else { printable(c) }))
    }
}

impl Report {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Same => "nothing is different from what is in force",
            Verdict::Live if self.differences.is_empty() => "valid",
            Verdict::Live => "the nodes can change to it while they run",
            Verdict::Restart => "valid, and takes a restart of each node",
            Verdict::CannotStart => "valid, and cannot start on this node",
            Verdict::Invalid => "no network config",
        };
        writeln!(f, "{}: {verdict}\n", self.config)?;
        let mut row = |label: &str, text: &str| writeln!(f, "{}", format!("{label:12}{text}").trim_end());
        self.unread.iter().try_for_each(|unread| row("unread", &unread.to_string()))?;
        if let Some(source) = self.in_force {
            row("in force", &format!("as {source} says"))?;
        }
        for difference in &self.differences {
            row(if difference.live { "live" } else { "restart" }, &difference.to_string())?;
        }
        if let Some(backend) = &self.backend {
            backend.rows(&mut row)?;
        }
        self.notes.iter().try_for_each(|note| row("note", note))
    }
}

impl Backend {
    fn rows(&self, row: &mut impl FnMut(&str, &str) -> fmt::Result) -> fmt::Result {
        row("backend", &self.r#type)?;
        if let Some(Plugin { name, version, source, digest, asks_for, missing }) = &self.plugin {
            let digest: String = digest.chars().take(DIGEST).collect();
            row("plugin", &format!("{name} {version}, {source}, sha256 {digest}…"))?;
            let granted = match (asks_for.is_empty(), missing.is_empty()) {
                (true, _) => "asks for nothing".to_owned(),
                (_, true) => format!("asks for {}: granted", asks_for.join(", ")),
                _ => format!("asks for {}: NOT GRANTED {}", asks_for.join(", "), missing.join(", ")),
            };
            row("", &granted)?;
        }
        let Some(devices) = &self.devices else { return Ok(()) };
        let mut label = "devices";
        for device in devices {
            let vni = device.vni.map(|vni| format!(", VNI {vni}")).unwrap_or_default();
            let port = device.port.map(|port| format!(", UDP port {port}")).unwrap_or_default();
            row(label, &format!("{}, {}{vni}{port}, MTU {}", device.name, device.kind, device.mtu))?;
            label = "";
        }
        if devices.is_empty() {
            row(label, "none")?;
        }
        self.mtu.map_or(Ok(()), |mtu| row("pods' MTU", &mtu.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_force(stored: Option<&str>) -> InForce {
        let config = stored.map(|text| NetworkConfig::parse(text).expect("valid"));
        let backend = config.as_ref().map(|config| canonical(config.backend.get()));
        let stored = stored.map(ToOwned::to_owned);
        InForce { stored, config, backend, source: Some("the store"), ..InForce::default() }
    }

    fn report(text: &str, in_force: &InForce) -> Report {
        let written = Written { place: "net.json".to_owned(), text: text.to_owned() };
        let mut report = Report::of_text(&written, in_force);
        if let Ok(config) = NetworkConfig::parse(text) {
            report.compare(&config, in_force);
        }
        report
    }

    fn status(report: &Report) -> u8 {
        report.ends().err().map_or(0, |end| end.status)
    }

    const VXLAN: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;

    #[test]
    fn what_differs_decides_what_it_takes() {
        for (text, verdict, ends, differs) in [
            (r#"{"backend":{"TYPE":"VXLAN"},"network":"10.5.9.9/16"}"#, Verdict::Same, 0, &[][..]),
            (
                r#"{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}"#,
                Verdict::Live,
                0,
                &[r#"Backend.Type "vxlan" -> "host-gw""#],
            ),
            (
                r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":7}}"#,
                Verdict::Live,
                0,
                &["Backend.VNI (not set) -> 7"],
            ),
            (
                r#"{"Network":"10.6.0.0/16","Backend":{"Type":"vxlan","VNI":7}}"#,
                Verdict::Restart,
                3,
                &["Network 10.5.0.0/16 -> 10.6.0.0/16", "Backend.VNI (not set) -> 7"],
            ),
            (r#"{"Network":"10.5.0.0/16"}"#, Verdict::Live, 0, &[r#"Backend.Type "vxlan" -> "udp""#]),
            (r#"{"Network":"10.5.0.0/16","Backend":{}}"#, Verdict::Invalid, 1, &[]),
        ] {
            let report = report(text, &in_force(Some(VXLAN)));
            let shown: Vec<String> = report.differences.iter().map(ToString::to_string).collect();
            assert_eq!(
                (report.verdict, status(&report), &shown[..]),
                (verdict, ends, &differs.iter().map(|d| (*d).to_owned()).collect::<Vec<_>>()[..]),
                "{text}"
            );
        }
    }

    #[test]
    fn another_preshared_key_takes_a_restart_unless_the_type_is_another_one_too() {
        let key = |first| format!("{first}wdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=");
        let with = |first| {
            let key = key(first);
            format!(r#"{{"Network":"10.5.0.0/16","Backend":{{"Type":"wireguard","PSK":"{key}"}}}}"#)
        };
        assert_eq!(report(&with('A'), &in_force(Some(&with('d')))).verdict, Verdict::Restart);
        assert_eq!(report(&with('d'), &in_force(Some(&with('d')))).verdict, Verdict::Same);
        assert_eq!(report(&with('d'), &in_force(Some(VXLAN))).verdict, Verdict::Live);
    }

    #[test]
    fn the_end_says_what_is_wrong_and_what_takes_a_restart_in_a_line() {
        let said = |text| report(text, &in_force(Some(VXLAN))).ends().expect_err("an end").to_string();
        assert_eq!(
            said(r#"{"Network":"10.6.0.0/16","EnableNFTables":true,"Backend":{"Type":"udp"}}"#),
            "net.json takes a restart of each node: Network 10.5.0.0/16 -> 10.6.0.0/16, EnableNFTables false -> true"
        );
        let wrong = said("{");
        assert!(
            wrong.starts_with("net.json: it is not a JSON object: EOF") && wrong.lines().count() == 1,
            "{wrong}"
        );
    }

    #[test]
    fn fields_that_nobody_reads_are_told_with_what_is_meant() {
        let report = report(r#"{"Network":"10.5.0.0/16","Bakcend":{},"x":1}"#, &in_force(None));
        let shown: Vec<String> = report.unread.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["nobody reads Bakcend; did you mean Backend?", "nobody reads x"]);
    }

    #[test]
    fn a_terminal_follows_nothing_of_a_config() {
        let text = r#"{"Network":"10.5.0.0/16","x\u001b[31m":1,"Backend":{"Type":"vxlan","y":"\u202e"}}"#;
        let shown = report(text, &in_force(Some(VXLAN))).to_string();
        assert!(shown.contains("nobody reads x [31m") && !shown.contains('\u{202e}'), "{shown}");
    }

    #[test]
    fn where_nothing_is_in_force_it_is_the_first_or_nothing_is_known() {
        let first = report(VXLAN, &in_force(None));
        assert_eq!(
            (first.verdict, first.notes[0].as_str()),
            (Verdict::Live, "there is no network config yet: this would be the first")
        );
        let unread = flannel_lease_store::StoreError::Unavailable {
            place: "etcd".to_owned(),
            reason: "away".to_owned(),
        };
        let unknown = report(VXLAN, &InForce { unread: Some(unread), ..in_force(None) });
        assert!(unknown.notes[0].contains("nothing can be compared"), "{:?}", unknown.notes);
    }

    #[test]
    fn what_the_daemon_does_not_tell_is_not_compared() {
        let text = r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.9.0","Backend":{"Type":"vxlan"}}"#;
        assert_eq!(report(text, &in_force(Some(VXLAN))).verdict, Verdict::Restart);
        let untold = InForce { unknown: vec!["SubnetMin"], ..in_force(Some(VXLAN)) };
        assert_eq!(report(text, &untold).verdict, Verdict::Same);
    }

    #[test]
    fn another_mtu_is_told_with_what_becomes_of_the_pods_that_run() {
        assert_eq!(about_mtu(Some(1450), Some(1450)), None);
        assert_eq!(about_mtu(None, Some(1450)), None);
        let more = about_mtu(Some(1500), Some(1450)).expect("more");
        assert_eq!(more, "pods made from now on have MTU 1500 instead of 1450; those that run keep theirs");
        let less = about_mtu(Some(1450), Some(1500)).expect("less");
        assert!(
            less.contains("1450 instead of 1500") && less.contains("more than 1450 bytes are fragmented"),
            "{less}"
        );
    }
}
