//! The few single elements that the host itself looks for in answers: an error's code, a session's credentials. Whatever else is in an
//! answer is the plugin's business.

/// The text of the first element of a name that has text only. None of the texts looked for has characters that XML writes
/// otherwise; one that has is not found.
pub(super) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let text = text.trim();
    let is_plain = !text.is_empty() && !text.contains(['<', '&']) && !text.chars().any(char::is_control);
    is_plain.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::element;

    #[test]
    fn an_element_is_found_wherever_it_is_and_nothing_else_is() {
        let xml = "<a><Code>\n One </Code><Code>Two</Code><Empty></Empty><Open>x<Deep><b>x</b></Deep><Odd>a&amp;b</Odd></a>";
        assert_eq!(element(xml, "Code"), Some("One"));
        for missing in ["Empty", "Open", "Deep", "Odd", "None"] {
            assert_eq!(element(xml, missing), None, "{missing}");
        }
    }
}
