//! Figures of a plugin's own: those of all of its instances, kept here, where a trap does not reach them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::convert::shown;

/// Names, and series in all.
const MOST: usize = 64;
/// Characters of the name of a figure or of a label.
const LONGEST_NAME: usize = 64;
/// Labels of a series.
const MOST_LABELS: usize = 4;
/// Bytes of a label's value.
const LONGEST_VALUE: usize = 128;
/// Bytes of what is said of a name.
const LONGEST_HELP: usize = 256;
/// The label that the host puts to each series.
const PLUGIN: &str = "plugin";
/// What the host makes of a counter ends so.
const ENDS_OF_COUNTERS: [&str; 2] = ["_total", "_created"];

/// The labels of a series, by name.
pub type SeriesLabels = Vec<(String, String)>;

/// What a figure is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Figure {
    /// So much now.
    Gauge(f64),
    /// So often until now.
    Counter(u64),
}

impl Figure {
    /// What it is called.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Gauge(_) => "gauge",
            Self::Counter(_) => "counter",
        }
    }

    fn is_alike(&self, other: &Self) -> bool {
        self.kind() == other.kind()
    }
}

/// All series of one name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesFamily {
    /// Its name, without what the host puts before and behind it.
    pub name: String,
    /// What it is about; empty: the plugin has not said it.
    pub help: String,
    /// The series, by their labels; each is of the same kind.
    pub series: Vec<(SeriesLabels, Figure)>,
}

/// Why a figure is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RefusedFigure {
    /// It is not what the contract asks for.
    Invalid(String),
    /// It is one more than there may be.
    TooMany(String),
}

impl RefusedFigure {
    fn text(&self) -> &str {
        match self {
            Self::Invalid(text) | Self::TooMany(text) => text,
        }
    }
}

/// The figures of one plugin. A clone is of the same ones.
#[derive(Clone, Debug, Default)]
pub struct PluginSeries(Arc<Mutex<Families>>);

#[derive(Debug, Default)]
struct Families {
    all: BTreeMap<String, Family>,
    /// Series in all.
    series: usize,
    /// Calls that were refused, and why the first was.
    refused: u64,
    first_refusal: Option<String>,
}

#[derive(Debug, Default)]
struct Family {
    help: String,
    /// What its figures are; none: there was none yet.
    kind: Option<Figure>,
    series: BTreeMap<SeriesLabels, Figure>,
}

impl PluginSeries {
    /// All of them, by name.
    pub fn families(&self) -> Vec<SeriesFamily> {
        let families = self.lock();
        let family = |(name, family): (&String, &Family)| SeriesFamily {
            name: name.clone(),
            help: family.help.clone(),
            series: family.series.iter().map(|(labels, figure)| (labels.clone(), *figure)).collect(),
        };
        families.all.iter().filter(|(_, family)| !family.series.is_empty()).map(family).collect()
    }

    /// How many calls were refused, and why the first was.
    pub fn refusals(&self) -> (u64, Option<String>) {
        let families = self.lock();
        (families.refused, families.first_refusal.clone())
    }

    /// Goes on with the counters of one that was the same plugin's: for a process in which it begins anew.
    pub fn go_on_from(&self, former: &Self) {
        if Arc::ptr_eq(&self.0, &former.0) {
            return;
        }
        for SeriesFamily { name, help, series } in former.families() {
            for (labels, figure) in series {
                if let Figure::Counter(count) = figure {
                    // One for which there is no room any more begins anew.
                    let _ = self.lock().add(&name, labels, count);
                }
            }
            if let Some(family) = self.lock().all.get_mut(&name)
                && family.help.is_empty()
            {
                family.help = help;
            }
        }
    }

    pub(crate) fn set_gauge(
        &self,
        name: &str,
        labels: SeriesLabels,
        value: f64,
    ) -> Result<(), RefusedFigure> {
        self.lock().set_gauge(name, labels, value)
    }

    pub(crate) fn remove_gauge(&self, name: &str, labels: SeriesLabels) -> Result<(), RefusedFigure> {
        self.lock().remove_gauge(name, labels)
    }

    pub(crate) fn add(&self, name: &str, labels: SeriesLabels, amount: u64) -> Result<(), RefusedFigure> {
        self.lock().add(name, labels, amount)
    }

    pub(crate) fn set_help(&self, name: &str, text: &str) -> Result<(), RefusedFigure> {
        self.lock().set_help(name, text)
    }

    /// A call was refused. Answers whether it is the first.
    pub(crate) fn note_refusal(&self, refused: &RefusedFigure) -> bool {
        let mut families = self.lock();
        families.refused += 1;
        let is_first = families.first_refusal.is_none();
        families.first_refusal.get_or_insert_with(|| refused.text().to_owned());
        is_first
    }

    fn lock(&self) -> MutexGuard<'_, Families> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Families {
    fn set_gauge(&mut self, name: &str, labels: SeriesLabels, value: f64) -> Result<(), RefusedFigure> {
        if !value.is_finite() {
            return Err(RefusedFigure::Invalid(format!("{}: {value} is no value of a gauge", quoted(name))));
        }
        *self.figure(name, labels, Figure::Gauge(value))? = Figure::Gauge(value);
        Ok(())
    }

    fn remove_gauge(&mut self, name: &str, labels: SeriesLabels) -> Result<(), RefusedFigure> {
        check_name(name)?;
        let labels = checked(name, labels)?;
        let Some(family) = self.all.get_mut(name) else { return Ok(()) };
        family.check_kind(name, &Figure::Gauge(0.0))?;
        self.series -= usize::from(family.series.remove(&labels).is_some());
        Ok(())
    }

    fn add(&mut self, name: &str, labels: SeriesLabels, amount: u64) -> Result<(), RefusedFigure> {
        if let Figure::Counter(count) = self.figure(name, labels, Figure::Counter(0))? {
            *count = count.saturating_add(amount);
        }
        Ok(())
    }

    fn set_help(&mut self, name: &str, text: &str) -> Result<(), RefusedFigure> {
        check_name(name)?;
        if text.is_empty() || text.len() > LONGEST_HELP || text.chars().any(char::is_control) {
            return Err(RefusedFigure::Invalid(format!(
                "what is said of {name}: {} bytes; 1 to {LONGEST_HELP} in one line are possible",
                text.len()
            )));
        }
        text.clone_into(&mut self.family(name)?.help);
        Ok(())
    }

    /// The family of a name that has been checked.
    fn family(&mut self, name: &str) -> Result<&mut Family, RefusedFigure> {
        if !self.all.contains_key(name) && self.all.len() >= MOST {
            return Err(RefusedFigure::TooMany(format!("{name}: a plugin has at most {MOST} names")));
        }
        Ok(self.all.entry(name.to_owned()).or_default())
    }

    /// A series, which is `first` if there was none yet.
    fn figure(
        &mut self,
        name: &str,
        labels: SeriesLabels,
        first: Figure,
    ) -> Result<&mut Figure, RefusedFigure> {
        check_name(name)?;
        let labels = checked(name, labels)?;
        let known = self.all.get(name).is_some_and(|family| family.series.contains_key(&labels));
        if !known && self.series >= MOST {
            return Err(RefusedFigure::TooMany(format!("{name}: a plugin has at most {MOST} series")));
        }
        let family = self.family(name)?;
        family.check_kind(name, &first)?;
        family.kind.get_or_insert(first);
        self.series += usize::from(!known);
        // Looked for once more: the borrow of the family ends with the count.
        let family = self.all.entry(name.to_owned()).or_default();
        Ok(family.series.entry(labels).or_insert(first))
    }
}

impl Family {
    fn check_kind(&self, name: &str, wanted: &Figure) -> Result<(), RefusedFigure> {
        match &self.kind {
            Some(kind) if !kind.is_alike(wanted) => Err(RefusedFigure::Invalid(format!(
                "{name} is a {}, and not a {}: a name is one or the other for good",
                kind.kind(),
                wanted.kind()
            ))),
            _ => Ok(()),
        }
    }
}

fn is_name(text: &str) -> bool {
    let proper = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=LONGEST_NAME).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(proper)
}

fn quoted(text: &str) -> String {
    format!("{:?}", shown(text, 80))
}

fn check_name(name: &str) -> Result<(), RefusedFigure> {
    if !is_name(name) {
        return Err(RefusedFigure::Invalid(format!(
            "the name {}; 1 to {LONGEST_NAME} of a-z, 0-9, `_` are possible, a letter first",
            quoted(name)
        )));
    }
    match ENDS_OF_COUNTERS.into_iter().find(|end| name.ends_with(end)) {
        Some(end) => Err(RefusedFigure::Invalid(format!(
            "the name {name}: {end} is what the host adds to a counter's"
        ))),
        None => Ok(()),
    }
}

/// Labels as they are kept: by name.
fn checked(of: &str, mut labels: SeriesLabels) -> Result<SeriesLabels, RefusedFigure> {
    let invalid = |text: String| Err(RefusedFigure::Invalid(format!("{of}: {text}")));
    if labels.len() > MOST_LABELS {
        return Err(RefusedFigure::TooMany(format!("{of}: {} labels; at most {MOST_LABELS}", labels.len())));
    }
    labels.sort_unstable();
    for (name, value) in &labels {
        if !is_name(name) {
            return invalid(format!(
                "the label {}; 1 to {LONGEST_NAME} of a-z, 0-9, `_` are possible, a letter first",
                quoted(name)
            ));
        }
        if name == PLUGIN {
            return invalid(format!("the label {PLUGIN} is the host's, and has the plugin's name"));
        }
        if value.len() > LONGEST_VALUE {
            let length = value.len();
            return invalid(format!(
                "the label {name} has a value of {length} bytes; at most {LONGEST_VALUE}"
            ));
        }
    }
    match labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(twice) => invalid(format!("the label {} is there twice", twice[0].0)),
        None => Ok(labels),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(of: &[(&str, &str)]) -> SeriesLabels {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn said<T: std::fmt::Debug>(outcome: Result<T, RefusedFigure>) -> String {
        outcome.expect_err("refused").text().to_owned()
    }

    #[test]
    fn counters_add_up_and_gauges_are_what_they_were_set_to_last_whatever_the_order_of_labels() {
        let series = PluginSeries::default();
        for (one, other) in [("a", "b"), ("b", "a"), ("a", "b")] {
            series.add("probes", labels(&[(one, "1"), (other, "1")]), 2).expect("counted");
        }
        series.add("probes", labels(&[("a", "2"), ("b", "1")]), 0).expect("is there");
        series.set_gauge("open", Vec::new(), 3.0).expect("set");
        series.set_gauge("open", Vec::new(), -0.5).expect("set");
        series.set_help("open", "Ports that are open").expect("said");
        let families = series.families();
        let [open, probes] = &families[..] else { panic!("{families:?}") };
        assert_eq!(
            (open.help.as_str(), &open.series[..]),
            ("Ports that are open", &[(Vec::new(), Figure::Gauge(-0.5))][..])
        );
        let counts: Vec<Figure> = probes.series.iter().map(|(_, figure)| *figure).collect();
        assert_eq!(counts, [Figure::Counter(6), Figure::Counter(0)]);
        series.add("probes", labels(&[("a", "2"), ("b", "1")]), u64::MAX).expect("counted");
        series.add("probes", labels(&[("a", "2"), ("b", "1")]), 7).expect("counted");
        let last = series.families()[1].series[1].1;
        assert_eq!(last, Figure::Counter(u64::MAX), "it does not go back");
    }

    #[test]
    fn a_name_is_of_one_kind_for_good() {
        let series = PluginSeries::default();
        series.set_gauge("open", Vec::new(), 1.0).expect("set");
        series.remove_gauge("open", Vec::new()).expect("removed");
        series.remove_gauge("open", Vec::new()).expect("is not there");
        assert!(series.families().is_empty());
        assert_eq!(
            said(series.add("open", Vec::new(), 1)),
            "open is a gauge, and not a counter: a name is one or the other for good"
        );
        series.add("probes", Vec::new(), 1).expect("counted");
        assert!(said(series.remove_gauge("probes", Vec::new())).contains("probes is a counter"));
        assert!(said(series.set_gauge("probes", Vec::new(), 1.0)).contains("probes is a counter"));
    }

    #[test]
    fn what_prometheus_could_not_read_is_refused_in_words() {
        let series = PluginSeries::default();
        for name in ["", "Open", "1st", "_open", "ö", "a b", "a\n", &"a".repeat(65)] {
            assert!(said(series.add(name, Vec::new(), 1)).contains("a letter first"), "{name:?}");
            assert!(said(series.set_help(name, "text")).contains("a letter first"), "{name:?}");
        }
        for name in ["probes_total", "probes_created"] {
            assert!(said(series.set_gauge(name, Vec::new(), 1.0)).contains("what the host adds"), "{name}");
        }
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(said(series.set_gauge("open", Vec::new(), value)).contains("is no value of a gauge"));
        }
        let long = "v".repeat(129);
        for (wrong, words) in [
            (labels(&[("plugin", "x")]), "is the host's"),
            (labels(&[("__name__", "x")]), "a letter first"),
            (labels(&[("a", "x"), ("a", "y")]), "is there twice"),
            (labels(&[("a", &long)]), "a value of 129 bytes; at most 128"),
            (labels(&[("a", ""), ("b", ""), ("c", ""), ("d", ""), ("e", "")]), "5 labels; at most 4"),
        ] {
            assert!(said(series.add("probes", wrong.clone(), 1)).contains(words), "{wrong:?}");
        }
        for text in ["", "two\nlines", &"t".repeat(257)] {
            assert!(said(series.set_help("open", text)).contains("1 to 256 in one line"), "{text:?}");
        }
        assert!(series.families().is_empty(), "nothing of it is left");
    }

    #[test]
    fn there_are_so_many_series_and_no_more_and_one_that_is_removed_makes_room() {
        let series = PluginSeries::default();
        let of = |peer: usize| labels(&[("peer", &peer.to_string())]);
        (0..64).for_each(|peer| series.set_gauge("up", of(peer), 1.0).expect("there is room"));
        series.set_gauge("up", of(3), 0.0).expect("is there");
        assert_eq!(said(series.set_gauge("up", of(64), 1.0)), "up: a plugin has at most 64 series");
        assert_eq!(said(series.add("probes", Vec::new(), 1)), "probes: a plugin has at most 64 series");
        series.remove_gauge("up", of(3)).expect("removed");
        series.add("probes", Vec::new(), 1).expect("there is room");
        // Names take room, too, whatever they are used for.
        let many = PluginSeries::default();
        (0..64).for_each(|name| many.set_help(&format!("name_{name}"), "text").expect("there is room"));
        assert_eq!(said(many.add("one_more", Vec::new(), 1)), "one_more: a plugin has at most 64 names");
        many.add("name_7", Vec::new(), 1).expect("is there");
    }

    #[test]
    fn the_first_refusal_is_kept_and_all_are_counted() {
        let series = PluginSeries::default();
        let refused = |name| series.add(name, Vec::new(), 1).expect_err("refused");
        assert!(series.note_refusal(&refused("A")) && !series.note_refusal(&refused("B")));
        let (count, first) = series.refusals();
        assert!(count == 2 && first.is_some_and(|first| first.contains("\"A\"")));
    }

    #[test]
    fn who_goes_on_has_the_counters_of_before_and_not_the_gauges() {
        let (before, after) = (PluginSeries::default(), PluginSeries::default());
        before.add("probes", Vec::new(), 5).expect("counted");
        before.set_gauge("open", Vec::new(), 1.0).expect("set");
        before.set_help("probes", "Probes").expect("said");
        after.add("probes", Vec::new(), 1).expect("counted");
        after.go_on_from(&before);
        after.go_on_from(&after.clone());
        let families = after.families();
        assert_eq!(
            families,
            [SeriesFamily {
                name: "probes".to_owned(),
                help: "Probes".to_owned(),
                series: vec![(Vec::new(), Figure::Counter(6))],
            }]
        );
    }
}
