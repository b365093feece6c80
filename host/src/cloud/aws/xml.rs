//! The little of XML that errors and credentials are made of: elements with nothing but text in them.

/// The text of the first element of a name; none: there is no such element. Character references stay as they are: codes, keys and
/// times have none.
pub(super) fn text_of<'t>(xml: &'t str, name: &str) -> Option<&'t str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let (_, rest) = xml.split_once(&open)?;
    let (text, _) = rest.split_once(&close)?;
    (!text.contains('<')).then(|| text.trim())
}
