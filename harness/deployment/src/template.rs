//! The templates of an ExternalSecret, as far as the documents use them: a field as it is, or filtered by `filterPEM`.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use regex::Regex;

/// `{{ .FIELD }}` or `{{ .FIELD | filterPEM "TYPE" }}`, as Go's text/template reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    /// The field that it takes.
    pub field: String,
    /// The type of the PEM blocks that stay; `None`: the text stays as it is.
    pub filter: Option<String>,
    /// Blanks and line ends behind it, which a YAML block scalar leaves.
    pub tail: String,
}

/// Go reads blanks around the parts, and a quoted string without escapes as it stands.
static FORM: LazyLock<Result<Regex, regex::Error>> = LazyLock::new(|| {
    Regex::new(r#"^\{\{[ \t\r\n]*\.([\p{L}_][\p{L}\p{Nd}_]*)[ \t\r\n]*(?:\|[ \t\r\n]*filterPEM[ \t]+"([^"\\\n]*)"[ \t\r\n]*)?\}\}(\s*)$"#)
});

/// A template that is not followed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TemplateError {
    /// The template's text, of another form than the two that there are.
    #[error("`{0}` is not interpreted: the local environment follows `{{{{ .FIELD }}}}` and `{{{{ .FIELD | filterPEM \"TYPE\" }}}}`")]
    NotInterpreted(String),
    /// The harness's own pattern for templates is broken.
    #[error("the pattern of templates: {0}")]
    Pattern(#[from] regex::Error),
}

impl FromStr for Expression {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let form = FORM.as_ref().map_err(Clone::clone)?;
        let parts = form.captures(text).ok_or_else(|| TemplateError::NotInterpreted(text.trim().to_owned()))?;
        let part = |index: usize| parts.get(index).map(|part| part.as_str().to_owned());
        Ok(Self { field: part(1).unwrap_or_default(), filter: part(2), tail: part(3).unwrap_or_default() })
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.filter {
            Some(kind) => write!(f, "{{{{ .{} | filterPEM \"{kind}\" }}}}", self.field),
            None => write!(f, "{{{{ .{} }}}}", self.field),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(field: &str, filter: Option<&str>, tail: &str) -> Result<Expression, TemplateError> {
        Ok(Expression { field: field.to_owned(), filter: filter.map(str::to_owned), tail: tail.to_owned() })
    }

    #[test]
    fn a_field_and_a_filtered_field_are_followed() {
        assert_eq!("{{ .client_password }}".parse(), expression("client_password", None, ""));
        assert_eq!("{{.x|filterPEM \"A B\"}}".parse(), expression("x", Some("A B"), ""));
        assert_eq!("{{ .x | filterPEM \"CERTIFICATE\" }}\n".parse(), expression("x", Some("CERTIFICATE"), "\n"));
    }

    #[test]
    fn whatever_else_a_template_can_say_is_refused_with_what_is_allowed() {
        for text in [
            "",
            "text",
            "{{ .a }} {{ .b }}",
            "{{- .a -}}",
            "{{ .a | b64dec }}",
            "{{ .a | filterPEM \"CERTIFICATE\" | b64enc }}",
            "{{ filterPEM \"CERTIFICATE\" .a }}",
            "{{ .a.b }}",
            "{{ index . \"tls.crt\" }}",
            "{{ .a | filterCertChain \"leaf\" }}",
        ] {
            let message = text.parse::<Expression>().expect_err(text).to_string();
            assert!(message.contains("{{ .FIELD | filterPEM \"TYPE\" }}"), "{message}");
        }
    }
}
