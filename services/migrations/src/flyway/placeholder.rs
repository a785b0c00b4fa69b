//! `${name}`, replaced as Flyway does it: everywhere in a file, also in strings and comments.

use std::collections::BTreeMap;

/// A placeholder that has no value, or no end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(super) struct Unknown {
    /// Where it begins.
    pub(super) line: usize,
    text: String,
}

/// Replaces every placeholder. Names are the same in capitals and small letters.
pub(super) fn replace(text: &str, values: &BTreeMap<String, String>) -> Result<String, Unknown> {
    let values: BTreeMap<String, &String> = values.iter().map(|(k, v)| (k.to_ascii_lowercase(), v)).collect();
    let (mut replaced, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("${") {
        let line = || text[..text.len() - rest.len() + at].matches('\n').count() + 1;
        let unknown = |text: String| Unknown { line: line(), text };
        let Some(length) = rest[at..].find('}') else {
            return Err(unknown("a placeholder `${` without `}`; close it".to_owned()));
        };
        let name = &rest[at + 2..at + length];
        let Some(value) = values.get(&name.to_ascii_lowercase()) else {
            return Err(unknown(format!(
                "no value for the placeholder `${{{name}}}`; give one, or switch the replacement of placeholders off"
            )));
        };
        replaced.push_str(&rest[..at]);
        replaced.push_str(value);
        rest = &rest[at + length + 1..];
    }
    replaced.push_str(rest);
    Ok(replaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_value_is_named_with_its_line() {
        let values = [("Tenant".to_owned(), "pg".to_owned())].into();
        assert_eq!(replace("'${tenant}.${TENANT}' $1", &values).unwrap(), "'pg.pg' $1");
        let unknown = replace("${tenant}\n--\n'${other}'", &values).unwrap_err();
        assert_eq!((unknown.line, unknown.to_string().contains("`${other}`")), (3, true));
        assert_eq!(replace("\n${a", &values).unwrap_err().line, 2);
    }
}
